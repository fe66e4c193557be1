"""The pages of a file that numbers lie in: where they lie, mapped, and let go of as they were read."""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError

BYTES_A_ROW = 64 * 1024  # that Linux maps around one row
MAX_BYTES_MAPPED = 256 * 2**20  # by rows at random, before they are let go of


@dataclass(frozen=True)
class Place:
    """Where numbers lie in a file.

    path. dtype, shape, offset and strides in bytes: as NumPy has them. size, changed: of the file when it was opened,
    bytes and nanoseconds. origin: what leads to these numbers again: a path, its columns, what part of its rows; ()
    where that is this file.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    size: int
    changed: int
    origin: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.origin[0]) if self.origin else self.path

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

    def touched(self, rows: int) -> None:
        """Say that so many rows are being read at random, for their pages to be let go of in time."""
        self.place.check(self.place.path)
        if self.mapped == 0:
            self._advise("MADV_RANDOM")
        self.mapped += rows * BYTES_A_ROW
        if self.mapped > MAX_BYTES_MAPPED:
            self.release()

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


def place_of(path: str | Path, array: np.ndarray, offset: int, origin: tuple[Any, ...] = ()) -> Place:
    """Where the numbers of an array over a file's pages lie in it."""
    found, shape, strides = os.stat(path), tuple(map(int, array.shape)), tuple(map(int, array.strides))
    return Place(str(path), array.dtype.str, shape, int(offset), strides, found.st_size, found.st_mtime_ns, origin)
