"""Rows copied into a file of their own, which can be mapped: what a source holds, or some rows of another file."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Size, Tensor

from ...errors import InputError
from .blocks import block_rows
from .columns import Columns, columns_of
from .pages import Held, Origin, place_of
from .sources import Source
from .tensor import Mapped

SINGLE = {np.dtype(kind) for kind in ("bool", "u1", "i1", "u2", "i2", "f2", "f4")}  # that float32 holds exactly
_shared: weakref.WeakValueDictionary[Origin, Mapped] = weakref.WeakValueDictionary()  # for as long as in use


def copied(source: Source, origin: Origin, shared: bool = False) -> Mapped:
    """The rows of a source in a file of their own, which goes with the last who looks at it, and with this process.

    shared: whether who asks for the same rows again while they are in use gets these.
    """
    if shared and (made := _shared.get(origin)) is not None:
        return made
    dtype = np.dtype("f4" if source.dtype in SINGLE else "f8")
    folder = Path(tempfile.mkdtemp(prefix="pyrometer-"))
    try:
        known, rows = _filled(folder / "rows", source, dtype)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    pages = place_of(folder / "rows", dtype, (rows, *source.row), copied_from=origin).open()
    weakref.finalize(pages, _remove, folder, os.getpid())
    found = Mapped(pages, known, names=source.names)
    if shared:
        _shared[origin] = found
    return found


def _filled(path: Path, source: Source, dtype: np.dtype) -> tuple[Columns, int]:
    """Write the rows of a source into a file: what is known of their columns, and how many there are."""
    row_bytes, disk = prod(source.row) * dtype.itemsize, path.parent.parent
    size = f"{source.rows * row_bytes / 2**30:.3g} GiB"
    lacking = f"{disk} has no place for the {size} of {source.name}: set TMPDIR to one that has"
    try:
        if shutil.disk_usage(path.parent).free < source.rows * row_bytes:
            raise InputError(lacking)
        with path.open("wb") as file:
            known = columns_of(_written(source, file, dtype), Size(source.row), source.refused)
            return known, file.tell() // row_bytes
    except OSError as error:
        raise InputError(f"{lacking} ({error.strerror or error})") from error


def _written(source: Source, file: IO[bytes], dtype: np.dtype) -> Iterator[Tensor]:
    """The rows of a source as tensors, block by block, written on the way."""
    for block in source.blocks():
        if tuple(block.shape[1:]) != source.row:
            raise InputError(f"{source.name} has rows of shape {block.shape[1:]} beside such of {source.row}: mend it")
        rows = np.ascontiguousarray(block, dtype=dtype)
        file.write(rows.data.cast("B"))
        yield torch.from_numpy(rows)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def held_out(x: Mapped, held: Held) -> Mapped:
    """The rows that are held out, or the others, in a file of their own."""
    share, seed, out = held
    place, total = x.pages.place, round(share * len(x))
    if not 0 < total < len(x):
        raise InputError(f"a holdout of {share:g} of {len(x)} rows keeps {total} of them: choose another share")

    def blocks() -> Iterator[np.ndarray]:
        random, left, rest = np.random.default_rng(seed), total, len(x)
        for block in x.pages.blocks(block_rows(place.shape[1:])):
            number = int(random.hypergeometric(left, rest - left, len(block)))
            mask = np.zeros(len(block), bool)
            mask[random.choice(len(block), number, replace=False)] = True
            left, rest = left - number, rest - len(block)
            yield block.numpy()[mask if out else ~mask]

    rows = total if out else len(x) - total
    source = Source(place.name, rows, place.shape[1:], np.dtype(place.dtype), blocks, x.names)
    return copied(source, place.origin._replace(held=held), shared=True)
