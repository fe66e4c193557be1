"""Many rows, looked at some at a time: in blocks of a bounded memory, or a few, evenly spaced, that stand for all."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

BLOCK_NUMBERS = 4_000_000  # read at a time


def block_rows(row: Sequence[int]) -> int:
    """How many rows of this shape are read at a time, 1 or more."""
    return max(1, BLOCK_NUMBERS // max(1, prod(row)))


def evenly_spaced(number: int, at_most: int) -> Tensor:
    """The places of at most so many of a number of things, the first and the last among them: int64."""
    return torch.linspace(0, number - 1, min(number, at_most), dtype=torch.float64).round().long()
