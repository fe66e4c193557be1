"""The rows of a mixture in blocks, from memory or from a memory-mapped file that would not fit into it."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models import GMM, BayesianGMM, UnivariateMixture
from ...models.moments import as_matrix
from ...models.sufficient import Units
from ..data.data import Data
from ..data.door import DataLike, as_data
from ..data.table import default_columns

__all__ = ["Mixture", "RowBlocks", "as_row_blocks"]

Mixture = GMM | BayesianGMM | UnivariateMixture
BLOCK_NUMBERS = 4_000_000  # read from a file at a time
SAMPLE_ROWS = 20_000  # that a start is found on


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """N rows of D columns, iterated over in blocks (n, D) of float64: all at once if they are in memory.

    data: the whole, over the file's own pages if mapped. units: mean and standard deviation, with N below the line, of
    each column, (D,); and whether the model needs squares only, not the products of two columns.
    """

    data: Data
    units: Units
    mapped: np.memmap | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return _blocks(as_matrix(self.data.values), self.mapped)

    @property
    def rows(self) -> int:
        """N."""
        return len(self.data.values)

    def sample(self, seed: int) -> Tensor:
        """All rows if they are in memory, else some of them at random: (M, D)."""
        if self.mapped is None:
            return as_matrix(self.data.values)
        picked = np.random.default_rng(seed).choice(self.rows, min(SAMPLE_ROWS, self.rows), replace=False)
        places, parts, before = torch.as_tensor(np.sort(picked)), [], 0
        for block in self:
            here = places[(places >= before) & (places < before + len(block))] - before
            parts.append(block[here])
            before += len(block)
        return torch.cat(parts)


def as_row_blocks(x: DataLike, model: Mixture) -> RowBlocks:
    """Check x, as `as_data` does; a memory-mapped array is read in blocks and never copied whole.

    Raises InputError as `as_data` does.
    """
    squares = model.covariance in ("diagonal", "spherical")
    if not isinstance(x, np.memmap):
        data = as_data(x, model, dtype=torch.float64)
        values = as_matrix(data.values)
        return RowBlocks(replace(data, rows=len(values)), Units(values.mean(0), values.std(0, correction=0), squares))
    if x.ndim not in (1, 2) or x.dtype not in (np.float32, np.float64) or not x.dtype.isnative:
        raise InputError(f"x is a memory-mapped array of {x.dtype}, shape {x.shape}: give (N, D) of float32 or float64")
    if len(x) < max(2, model.components):
        raise InputError(f"x has {len(x)} rows, fewer than {max(2, model.components)}: ask for fewer components")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor is it written to
        values = torch.from_numpy(x)
    columns = default_columns(1 if x.ndim == 1 else x.shape[1])
    loc, scale = _moments(as_matrix(values), columns, x)
    return RowBlocks(Data((values,), rows=len(x), columns=columns), Units(loc, scale, squares), x)


def _blocks(values: Tensor, mapped: np.memmap | None) -> Iterator[Tensor]:
    if mapped is None:
        yield values
        return
    for block in values.split(max(1, BLOCK_NUMBERS // values.shape[1])):
        yield block.double()
        _release_pages(mapped)


def _release_pages(mapped: np.memmap) -> None:
    """Let go of the pages read so far, which the file still has: a shared mapping loses nothing by it."""
    base: object = mapped
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and mapped.mode in ("r", "r+") and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


def _moments(values: Tensor, columns: tuple[str, ...], mapped: np.memmap) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column. A value that is not finite, or a constant column, is refused."""
    count, loc, scatter = 0, torch.zeros(len(columns)).double(), torch.zeros(len(columns)).double()
    for block in _blocks(values, mapped):
        _refuse_not_finite(block, columns, count)
        mean, n = block.mean(0), len(block)
        scatter = scatter + (block - mean).square().sum(0) + (mean - loc).square() * (n * count / (n + count))
        loc = loc + (mean - loc) * (n / (n + count))
        count += n
    for d in (scatter == 0).nonzero().flatten().tolist():
        raise InputError(f"x: column {columns[d]!r} is {loc[d].item():g} in every row: drop it")
    return loc, (scatter / count).sqrt()


def _refuse_not_finite(block: Tensor, columns: tuple[str, ...], before: int) -> None:
    odd = (~block.isfinite()).nonzero()
    if len(odd):
        row, column = odd[0].tolist()
        what = f"x: column {columns[column]!r}, row {before + row}: {block[row, column].item()} is not finite"
        raise InputError(f"{what}; drop the row or mend the value")
