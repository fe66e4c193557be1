"""Imports that leave Python's random generator where it was: some library draws from it as it is imported."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["undrawn"]


@contextmanager
def undrawn() -> Iterator[None]:
    """Python's generator is afterwards where it was, whatever is imported inside."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)
