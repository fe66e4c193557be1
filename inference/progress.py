"""Progress bars: in a notebook or terminal, silent anywhere else."""

from __future__ import annotations

from tqdm import std
from tqdm.auto import tqdm

__all__ = ["progress_bar"]


def progress_bar(total: int, what: str, show: bool, unit: str = "step") -> std.tqdm:
    """A bar over `total` units, to be used as a context manager. show: False is silent."""
    notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    return tqdm(total=total, desc=what, unit=unit, leave=False, disable=not show or (False if notebook else None))
