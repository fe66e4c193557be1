"""How much of many rows is looked at: all where they are few, else blocks of them, or some that stand for all."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

BLOCK_NUMBERS = 4_000_000  # read at a time
MAX_BYTES_LOADED = 256 * 2**20  # of rows in a file that are read into memory, all of them


def may_be_loaded(size: int) -> bool:
    """Whether rows in a file, of so many bytes, may all be read into memory."""
    return size <= MAX_BYTES_LOADED


def block_rows(row: Sequence[int]) -> int:
    """How many rows of this shape are read at a time, 1 or more."""
    return max(1, BLOCK_NUMBERS // max(1, prod(row)))


def evenly_spaced(number: int, at_most: int) -> Tensor:
    """The places of at most so many of a number of things, the first and the last among them: int64."""
    return torch.linspace(0, number - 1, min(number, at_most), dtype=torch.float64).round().long()
