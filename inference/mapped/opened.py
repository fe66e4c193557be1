"""What a user names as rows in a file: left where they lie where torch can read them so, else copied, or loaded."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from .blocks import may_be_loaded
from .copies import copied, held_out
from .pages import Held, Origin, place_of
from .sources import Source, chosen, of_memmap, source_of
from .tensor import Mapped, rows_at


def rows_in(x: Any, name: str) -> Mapped | np.ndarray | Any | None:
    """Rows in a file as a Mapped, or in memory where a path leads to few; None of anything that is no such file.

    A memmap is mapped, however small. Raises InputError for what is damaged, empty, or no numbers.
    """
    if isinstance(x, Mapped):
        return x
    if isinstance(x, np.memmap) and isinstance(_root(x).base, mmap.mmap):
        return mapped(of_memmap(x, name))
    source = source_of(x)
    if source is None:
        return None
    return _loaded(source) if may_be_loaded(source.bytes) else mapped(source)


def opened_rows(path: str | Path, columns: Sequence[str] = (), held: Held | None = None) -> Any:
    """As `rows_in` of a path, some of its columns, the rows held out or the rest; None where it leads to no such file.

    What is small comes as a table in memory, all of it, whatever is asked for.
    """
    source = source_of(path)
    if source is None:
        return None
    return _loaded(source) if may_be_loaded(source.bytes) else part_of(source, columns, held)


def part_of(source: Source, columns: Sequence[str], held: Held | None) -> Mapped:
    """Some columns of a source, () all of them, and the rows held out or the rest; a copy is shared while in use."""
    found = mapped(chosen(source, columns), shared=True)
    return found if held is None else held_out(found, held)


def mapped(source: Source, shared: bool = False) -> Mapped:
    """The rows of a source in a file: its own where torch can read that as it lies, else a copy of them."""
    if source.rows == 0 or prod(source.row) == 0:
        raise InputError(
            f"{source.name} is empty, shape {(source.rows, *source.row)}: give at least one row and column"
        )
    if source.dtype.kind not in "biuf":
        raise InputError(f"{source.name} holds {source.dtype}: give numbers, in float32 or float64")
    direct = source.direct
    if direct is None:
        return copied(source, Origin(source.name, source.columns), shared)
    path = direct.filename
    assert path is not None
    place = place_of(path, direct.dtype, direct.shape, direct.strides, _offset(direct))
    return rows_at(place, source.names, source.refused)


def _loaded(source: Source) -> Any:
    """All of it in memory, a DataFrame where the columns have names, as the fields of a structured array have.

    None of what `datasets.load` reads.
    """
    import pandas as pd

    if source.table:
        return None
    parts = list(source.blocks())
    values = np.concatenate(parts) if parts else np.empty((0, *source.row))
    names = list(source.columns or values.dtype.names or ())
    return pd.DataFrame(values, columns=names) if names else values


def _root(x: np.ndarray) -> np.ndarray:
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def _offset(x: np.memmap) -> int:
    """Bytes from the start of the file to the first number: of a slice NumPy tells that of the whole."""
    root = _root(x)
    return int(getattr(root, "offset", 0)) + x.__array_interface__["data"][0] - root.__array_interface__["data"][0]
