"""The rows of a mixture in blocks, from memory or from a file that would not fit into it."""

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
from ..data.as_data import DataLike, as_data
from ..data.data import Data
from ..mapped.tensor import Mapped

Mixture = GMM | BayesianGMM | UnivariateMixture
SAMPLE_ROWS = 20_000  # that a start is found on


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """N rows of D columns, iterated over in blocks (n, D) of float64: all at once if they are in memory.

    data: the whole. squares: the model needs these only, not the products of two columns.
    """

    data: Data
    squares: bool

    def __iter__(self) -> Iterator[Tensor]:
        values = as_matrix(self.data.values)
        if isinstance(values, Mapped):
            yield from values.blocks()
        else:
            yield values

    @property
    def rows(self) -> int:
        """N."""
        return len(self.data.values)

    @cached_property
    def units(self) -> Units:
        """Mean and standard deviation, with N below the line, of each column: (D,).

        Raises InputError where a column is constant.
        """
        values, columns = as_matrix(self.data.values), self.data.columns
        loc, scale = values.mean(0), values.std(0, correction=0)
        for d in (scale == 0).nonzero().flatten().tolist():
            raise InputError(f"x: column {columns[d]!r} is {loc[d].item() + 0.0:g} in every row: drop it")
        return Units(loc, scale, self.squares)

    def sample(self, seed: int) -> Tensor:
        """All rows if they are in memory, else some of them at random: (M, D)."""
        values = as_matrix(self.data.values)
        if not isinstance(values, Mapped):
            return values
        picked = np.random.default_rng(seed).choice(self.rows, min(SAMPLE_ROWS, self.rows), replace=False)
        return values[torch.as_tensor(np.sort(picked))]


def as_row_blocks(x: DataLike, model: Mixture) -> RowBlocks:
    """Check x, as `as_data` does; rows in a file are read in blocks and never copied whole.

    Raises InputError as `as_data` does.
    """
    data = as_data(x, model, dtype=torch.float64)
    return RowBlocks(replace(data, rows=len(data.values)), model.covariance in ("diagonal", "spherical"))
