"""The rows of a mixture in blocks, from memory or from a memory-mapped file that would not fit into it."""

import mmap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models import GMM, BayesianGMM, UnivariateMixture
from ...models.gaussians.moments import as_matrix
from ...models.gaussians.sufficient import Units
from ..data.arrays import default_columns
from ..data.as_data import DataLike, as_data
from ..data.data import Data

Mixture = GMM | BayesianGMM | UnivariateMixture
BLOCK_NUMBERS = 4_000_000  # read from a file at a time
SAMPLE_ROWS = 20_000  # that a start is found on


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """N rows of D columns, iterated over in blocks (n, D) of float64: all at once if they are in memory.

    data: the whole, over the file's own pages if mapped. squares: the model needs these only, not the products of two
    columns.
    """

    data: Data
    squares: bool
    mapped: np.memmap | None = None

    def __iter__(self) -> Iterator[Tensor]:
        values = as_matrix(self.data.values)
        if self.mapped is None:
            yield values
            return
        for block in values.split(max(1, BLOCK_NUMBERS // values.shape[1])):
            yield block.double()
            _release_pages(self.mapped)

    @property
    def rows(self) -> int:
        """N."""
        return len(self.data.values)

    @cached_property
    def units(self) -> Units:
        """Mean and standard deviation, with N below the line, of each column: (D,).

        Raises InputError where a value is not finite, or a column is constant.
        """
        columns, count = self.data.columns, 0
        loc = scatter = self.data.values.new_zeros(len(columns), dtype=torch.float64)
        for block in self:
            for row, column in (~block.isfinite()).nonzero().tolist()[:1]:
                what = f"x: column {columns[column]!r}, row {count + row}: {block[row, column].item()} is not finite"
                raise InputError(f"{what}; drop the row or mend the value")
            mean, n = block.mean(0), len(block)
            scatter = scatter + (block - mean).square().sum(0) + (mean - loc).square() * (n * count / (n + count))
            loc = loc + (mean - loc) * (n / (n + count))
            count += n
        for d in (scatter == 0).nonzero().flatten().tolist():
            raise InputError(f"x: column {columns[d]!r} is {loc[d].item():g} in every row: drop it")
        return Units(loc, (scatter / count).sqrt(), self.squares)

    def sample(self, seed: int) -> Tensor:
        """All rows if they are in memory, else some of them at random: (M, D)."""
        if self.mapped is None:
            return as_matrix(self.data.values)
        picked = np.random.default_rng(seed).choice(self.rows, min(SAMPLE_ROWS, self.rows), replace=False)
        found = as_matrix(self.data.values)[torch.as_tensor(np.sort(picked))].double()
        _release_pages(self.mapped)
        return found


def as_row_blocks(x: DataLike, model: Mixture) -> RowBlocks:
    """Check x, as `as_data` does; a memory-mapped array is read in blocks and never copied whole.

    Raises InputError as `as_data` does.
    """
    squares = model.covariance in ("diagonal", "spherical")
    if not isinstance(x, np.memmap):
        data = as_data(x, model, dtype=torch.float64)
        return RowBlocks(replace(data, rows=len(data.values)), squares)
    if x.ndim not in (1, 2) or x.dtype not in (np.float32, np.float64) or not x.dtype.isnative:
        raise InputError(f"x is a memory-mapped array of {x.dtype}, shape {x.shape}: give (N, D) of float32 or float64")
    if len(x) < max(2, model.components):
        raise InputError(f"x has {len(x)} rows, fewer than {max(2, model.components)}: ask for fewer components")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor is it written to
        values = torch.from_numpy(x)
    columns = default_columns(1 if x.ndim == 1 else x.shape[1])
    return RowBlocks(Data((values,), rows=len(x), columns=columns), squares, x)


def _release_pages(mapped: np.memmap) -> None:
    """Let go of the pages read so far, which the file still has: a shared mapping loses nothing by it."""
    base: object = mapped
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and mapped.mode in ("r", "r+") and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
