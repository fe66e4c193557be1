"""The columns of rows in a file: their names where they came without, and what one look at all rows tells of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import NamedTuple

import torch
from torch import Size, Tensor


def default_columns(number: int) -> tuple[str, ...]:
    """The names of columns that came without: ``x0``, ``x1``, ..."""
    return tuple(f"x{d}" for d in range(number))


def are_default(columns: tuple[str, ...]) -> bool:
    """Whether columns came without names."""
    return columns == default_columns(len(columns))


class Columns(NamedTuple):
    """What is known of each entry of a row, float64 in its shape; scatter: the sum of squares about the mean."""

    mean: Tensor
    scatter: Tensor
    low: Tensor
    high: Tensor

    def viewed(self, row: Size) -> Columns:
        """The same of rows of another shape."""
        return Columns(*(part.reshape(row) for part in self))

    def pooled(self, rows: int) -> Columns:
        """The same of all numbers of so many rows, as if of one column: () each."""
        mean = self.mean.mean()
        scatter = self.scatter.sum() + rows * (self.mean - mean).square().sum()
        return Columns(mean, scatter, self.low.min(), self.high.max())


def columns_of(blocks: Iterable[Tensor], row: Size, refuse: Callable[[int, int, str], Exception]) -> Columns:
    """What is known of each entry of rows, (n, ...) at a time (Chan, Golub and LeVeque 1983).

    refuse: (row, entry, what it is) -> the error of a number that is not finite.
    """
    size, count = prod(row), 0
    mean, scatter = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    low, high = mean + torch.inf, mean - torch.inf
    for block in blocks:
        rows = block.reshape(len(block), size).double()
        low, high = torch.minimum(low, rows.amin(0)), torch.maximum(high, rows.amax(0))
        if not (low.isfinite() & high.isfinite()).all():
            at, entry = (~rows.isfinite()).nonzero()[0].tolist()
            raise refuse(count + at, entry, f"{rows[at, entry].item()}")
        here, n = rows.mean(0), len(rows)
        scatter += (rows - here).square().sum(0) + (here - mean).square() * (n * count / (n + count))
        mean += (here - mean) * (n / (n + count))
        count += n
    return Columns(mean, scatter, low, high)
