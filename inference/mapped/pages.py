"""The pages of a file that numbers lie in: where they lie, mapped, and let go of as they are read."""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError

BYTES_A_ROW = 64 * 1024  # that Linux maps around one row
MAX_BYTES_MAPPED = 128 * 2**20  # by rows at random, before they are let go of


Held = tuple[float, int, bool]  # the share of rows that are held out, the seed, and whether these are the ones


class Origin(NamedTuple):
    """What leads to numbers: a path, the columns that are taken, () all of them, and which of the rows, None all."""

    path: str
    columns: tuple[str, ...] = ()
    held: Held | None = None


@dataclass(frozen=True)
class Place:
    """Where numbers lie in a file.

    path. dtype, shape, offset and strides in bytes: as NumPy has them. size, changed: of the file when it was opened,
    bytes and nanoseconds. copied_from: what the file is a copy of, for as long as it is needed; None where it is none.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    size: int
    changed: int
    copied_from: Origin | None = None

    @property
    def origin(self) -> Origin:
        """What leads to these numbers again."""
        return self.copied_from or Origin(self.path)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.origin.path

    def open(self) -> Pages:
        """Map the file. Raises InputError where it is gone or has changed."""
        try:
            with open(self.path, "rb") as file:
                self.check(file.fileno())
                found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.name} cannot be read any more ({error}): put it back, or begin anew") from error
        return Pages(self, found)

    def check(self, file: int | str) -> None:
        """Refuse a file that has changed: beyond the end of one that has shrunk lies a bus error, and no exception."""
        try:
            now = os.stat(file)
        except FileNotFoundError:  # its pages stay until they are let go of
            return
        if (now.st_size, now.st_mtime_ns) != (self.size, self.changed):
            raise InputError(f"{self.name} has changed since it was opened: leave it alone, and begin anew")


class Pages:
    """A mapped file; how much of it lies in memory by our doing."""

    def __init__(self, place: Place, file: mmap.mmap) -> None:
        self.place, self.file, self.mapped = place, file, 0
        array: np.ndarray = np.ndarray(place.shape, place.dtype, file, place.offset, place.strides)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor is it written to
            self.tensor = torch.from_numpy(array)
        self._advise("MADV_NOHUGEPAGE")  # else a row at random may bring two megabytes with it

    def touched(self, rows: int) -> None:
        """Say that so many rows are being read at random, for their pages to be let go of in time."""
        self.place.check(self.place.path)
        if self.mapped == 0:
            self._advise("MADV_RANDOM")
        if self.mapped >= MAX_BYTES_MAPPED:
            self.release()
        self.mapped += rows * BYTES_A_ROW

    def release(self) -> None:
        """Let go of the pages read so far, which the file still has: a shared mapping loses nothing by it."""
        self.mapped = 0
        self._advise("MADV_DONTNEED")

    def blocks(self, rows: int) -> Iterator[Tensor]:
        """So many rows at a time, in their order."""
        self._advise("MADV_SEQUENTIAL")
        for start in range(0, len(self.tensor), rows):
            self.place.check(self.place.path)
            yield self.tensor[start : start + rows]
            self.release()

    def _advise(self, what: str) -> None:
        if hasattr(mmap, what):  # not on Windows
            self.file.madvise(getattr(mmap, what))


def place_of(
    path: str | Path,
    dtype: np.dtype,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
    copied_from: Origin | None = None,
) -> Place:
    """Where an array lies in a file as it is now, row after row where no strides are given."""
    file, sizes = os.stat(path), (*shape[1:], dtype.itemsize)
    steps = [prod(sizes[place:]) for place in range(len(shape))] if strides is None else strides
    return Place(str(path), dtype.str, tuple(shape), offset, tuple(steps), file.st_size, file.st_mtime_ns, copied_from)
