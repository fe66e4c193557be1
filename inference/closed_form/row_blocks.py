"""Rows a block at a time, from memory or from a memory-mapped file that would not fit into it."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models.moments import as_matrix
from ..data import Data, Tabular, as_data
from ..data.table import default_columns

__all__ = ["Stream", "as_stream"]

BLOCK = 4_000_000  # numbers read from a file at a time
SAMPLE = 20_000  # rows that a start is found on


@dataclass(frozen=True, eq=False)
class Stream:
    """N rows of D columns. data: the whole, over the file's own pages if mapped. loc, scale: (D,), of each column.

    scale: the standard deviation, with N below the line.
    """

    data: Data
    loc: Tensor
    scale: Tensor
    mapped: np.memmap | None = None

    @property
    def rows(self) -> int:
        """N."""
        return len(self.data.values)

    def blocks(self) -> Iterator[Tensor]:
        """The rows, (n, D) each, in float64; all at once if they are in memory."""
        yield from _blocks(as_matrix(self.data.values), self.mapped)

    def sample(self, seed: int) -> Tensor:
        """All rows if they are in memory, else some of them at random: (M, D)."""
        values = as_matrix(self.data.values)
        if self.mapped is None:
            return values
        picked = np.random.default_rng(seed).choice(self.rows, min(SAMPLE, self.rows), replace=False)
        places, parts, before = torch.as_tensor(np.sort(picked)), [], 0
        for block in self.blocks():
            here = places[(places >= before) & (places < before + len(block))] - before
            parts.append(block[here])
            before += len(block)
        return torch.cat(parts)


def as_stream(x: Tabular, components: int) -> Stream:
    """Check x, as `as_data` does; a memory-mapped array is read in blocks and never copied whole.

    Raises InputError as `as_data` does.
    """
    if not isinstance(x, np.memmap):
        data = as_data(x, components=components)
        values = as_matrix(data.values)
        return Stream(data, values.mean(0), values.std(0, correction=0))
    if x.ndim not in (1, 2) or x.dtype not in (np.float32, np.float64) or not x.dtype.isnative:
        raise InputError(f"x is a memory-mapped array of {x.dtype}, shape {x.shape}: give (N, D) of float32 or float64")
    if len(x) < max(2, components):
        raise InputError(f"x has {len(x)} rows, fewer than {max(2, components)}: ask for fewer components")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor is it written to
        values = torch.from_numpy(x)
    columns = default_columns(1 if x.ndim == 1 else x.shape[1])
    loc, scale = _moments(as_matrix(values), columns, x)
    return Stream(Data(values, columns), loc, scale, x)


def _blocks(values: Tensor, mapped: np.memmap | None) -> Iterator[Tensor]:
    if mapped is None:
        yield values
        return
    for block in values.split(max(1, BLOCK // values.shape[1])):
        yield block.double()
        _forget(mapped)


def _forget(mapped: np.memmap) -> None:
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
        _refuse_odd(block, columns, count)
        mean, n = block.mean(0), len(block)
        scatter = scatter + (block - mean).square().sum(0) + (mean - loc).square() * (n * count / (n + count))
        loc = loc + (mean - loc) * (n / (n + count))
        count += n
    for d in (scatter == 0).nonzero().flatten().tolist():
        raise InputError(f"x: column {columns[d]!r} is {loc[d].item():g} in every row: drop it")
    return loc, (scatter / count).sqrt()


def _refuse_odd(block: Tensor, columns: tuple[str, ...], before: int) -> None:
    odd = (~block.isfinite()).nonzero()
    if len(odd):
        row, column = odd[0].tolist()
        what = f"x: column {columns[column]!r}, row {before + row}: {block[row, column].item()} is not finite"
        raise InputError(f"{what}; drop the row or mend the value")
