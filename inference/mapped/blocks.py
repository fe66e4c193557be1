"""Many rows, looked at some at a time: in blocks of a bounded memory, or a few, evenly spaced, that stand for all."""

from collections.abc import Sequence
from math import prod

BLOCK_NUMBERS = 4_000_000  # read at a time


def block_rows(row: Sequence[int]) -> int:
    """How many rows of this shape are read at a time, 1 or more."""
    return max(1, BLOCK_NUMBERS // max(1, prod(row)))
