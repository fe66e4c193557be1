"""Rows brought into a file that can be mapped: left where they lie where torch can read them so, else copied."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from ...errors import InputError
from .blocks import block_rows
from .columns import columns_of
from .pages import place_of
from .sources import Source, chosen, of_memmap, source_of
from .tensor import Mapped

LOADED = 256 * 2**20  # bytes, as float64, up to which a file is read into memory
SINGLE = {np.dtype(kind) for kind in ("bool", "u1", "i1", "u2", "i2", "f2", "f4")}  # that float32 holds exactly
Held = tuple[float, int, bool]  # the share of rows that are held out, the seed, and whether these are the ones
_made: weakref.WeakValueDictionary[tuple[Any, ...], Mapped] = weakref.WeakValueDictionary()  # for as long as in use


def rows_in(x: Any, name: str) -> Mapped | np.ndarray | Any | None:
    """Rows in a file as a Mapped, or in memory where a path leads to few; None of anything that is no such file.

    A memmap is mapped, however small. Raises InputError for what is damaged, empty, or no numbers.
    """
    if isinstance(x, Mapped):
        return x
    by_hand = isinstance(x, np.memmap) and isinstance(_root(x).base, mmap.mmap)
    source = of_memmap(x, name) if by_hand else source_of(x)
    if source is None:
        return None
    if not by_hand and source.bytes <= LOADED:
        return None if source.table else _loaded(source)
    return mapped(source)


def opened_rows(path: str | Path, columns: Sequence[str] = (), held: Held | None = None) -> Any:
    """As `rows_in` of a path, some of its columns, the rows held out or the rest; None where it leads to no such file.

    What is small comes as a table in memory, all of it, whatever is asked for.
    """
    source = source_of(path)
    if source is None or source.bytes <= LOADED:
        return None if source is None or source.table else _loaded(source)
    found = mapped(chosen(source, columns), key=(str(path), tuple(columns)))
    return found if held is None else held_out(found, held)


def mapped(source: Source, key: tuple[Any, ...] = ()) -> Mapped:
    """The rows of a source in a file: its own where torch can read that as it lies, else a copy of them."""
    if source.rows == 0 or prod(source.row) == 0:
        raise InputError(
            f"{source.name} is empty, shape {(source.rows, *source.row)}: give at least one row and column"
        )
    if source.dtype.kind not in "biuf":
        raise InputError(f"{source.name} holds {source.dtype}: give numbers, in float32 or float64")
    direct = source.direct
    if direct is None:
        return _copied(source.blocks(), source, (source.name, source.columns, None), key)
    place = place_of(direct.filename, direct, _offset(direct))  # type: ignore[arg-type]
    pages = place.open()
    each = pages.blocks(block_rows(source.row))
    return Mapped(pages, columns_of(each, Size(source.row), _refusal(source)), names=source.names)


def _refusal(source: Source) -> Callable[[int, int, str], InputError]:
    """The error of a number that is not finite."""

    def refused(row: int, entry: int, what: str) -> InputError:
        said = "is missing (NaN)" if what == "nan" else "is infinite"
        return InputError(
            f"{source.name}: column {source.names[entry]!r}, row {row}: {said}; drop the row or fill it in"
        )

    return refused


def _copied(blocks: Iterator[np.ndarray], source: Source, origin: tuple[Any, ...], key: tuple[Any, ...] = ()) -> Mapped:
    """Rows written into a file of their own, which goes with the last who looks at it, and with this process."""
    if key and (made := _made.get(key)) is not None:
        return made
    dtype = np.dtype("f4" if source.dtype in SINGLE else "f8")
    folder = Path(tempfile.mkdtemp(prefix="pyrometer-"))
    path, needed = folder / "rows", source.rows * prod(source.row) * dtype.itemsize
    lacking = (
        f"{folder.parent} has no place for the {needed / 2**30:.3g} GiB of {source.name}: set TMPDIR to one that has"
    )
    try:
        if shutil.disk_usage(folder).free < needed:
            raise InputError(lacking)
        with path.open("wb") as file:
            known = columns_of(_written(blocks, file, dtype, source), Size(source.row), _refusal(source))
            written = file.tell() // dtype.itemsize // prod(source.row)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(f"{lacking} ({error.strerror or error})") from error
        raise
    like: np.ndarray = np.lib.stride_tricks.as_strided(
        np.empty(1, dtype), (written, *source.row), _strides(dtype, source.row)
    )
    pages = place_of(path, like, 0, origin).open()
    weakref.finalize(pages, _remove, folder, os.getpid())
    found = Mapped(pages, known, names=source.names)
    if key:
        _made[key] = found
    return found


def _strides(dtype: np.dtype, row: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dtype.itemsize * prod(row[place:]) for place in range(len(row) + 1))


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _written(blocks: Iterator[np.ndarray], file: Any, dtype: np.dtype, source: Source) -> Iterator[Tensor]:
    """Blocks as tensors, written on the way."""
    for block in blocks:
        if tuple(block.shape[1:]) != source.row:
            raise InputError(f"{source.name} has rows of shape {block.shape[1:]} beside such of {source.row}: mend it")
        rows = np.ascontiguousarray(block, dtype=dtype)
        file.write(rows.data.cast("B"))
        yield torch.from_numpy(rows)


def _loaded(source: Source) -> Any:
    """All of it in memory: a DataFrame where the columns have names."""
    import pandas as pd

    parts = list(source.blocks())
    values = np.concatenate(parts) if parts else np.empty((0, *source.row))
    return pd.DataFrame(values, columns=list(source.columns)) if source.columns else values


def _root(x: np.ndarray) -> np.ndarray:
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def _offset(x: np.memmap) -> int:
    """Bytes from the start of the file to the first number: of a slice NumPy tells that of the whole."""
    root = _root(x)
    return int(getattr(root, "offset", 0)) + x.__array_interface__["data"][0] - root.__array_interface__["data"][0]


def held_out(x: Mapped, held: Held) -> Mapped:
    """The rows that are held out, or the others, in a file of their own."""
    share, seed, out = held
    path, columns, _ = x.pages.place.origin or (x.pages.place.path, (), None)
    total = round(share * len(x))
    if not 0 < total < len(x):
        raise InputError(f"a holdout of {share:g} of {len(x)} rows keeps {total} of them: choose another share")

    def blocks() -> Iterator[np.ndarray]:
        random, left, rest = np.random.default_rng(seed), total, len(x)
        for block in x.pages.blocks(block_rows(x.shape[1:])):
            number = int(random.hypergeometric(left, rest - left, len(block)))
            mask = np.zeros(len(block), bool)
            mask[random.choice(len(block), number, replace=False)] = True
            left, rest = left - number, rest - len(block)
            yield block.numpy()[mask if out else ~mask]

    rows = total if out else len(x) - total
    kind = np.dtype(x.pages.place.dtype)
    source = Source(x.pages.place.name, rows, tuple(x.shape[1:]), kind, blocks, x.names)
    return _copied(blocks(), source, (path, columns, held), (path, columns, held))
