"""A reference to rows in a file, kept in their place with what was fitted to them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Size

from ...errors import InputError
from .blocks import block_rows, evenly_spaced
from .columns import columns_of
from .copies import held_out, mapped
from .pages import place_of
from .sources import chosen, source_of
from .tensor import Mapped

SAMPLED = 1000  # rows that a file is known by


def reference_to(x: Mapped) -> dict[str, Any]:
    """What a file is known by on disk, in place of its rows: where it is, what is taken of it, and some of its rows."""
    place = x.pages.place
    path, columns, held = place.origin or (place.path, (), None)
    if not Path(path).exists():
        raise InputError(f"{path} is no file that could be read again: save the rows as .npy, and fit them there")
    dtype = str(x.dtype).removeprefix("torch.")
    at = {"path": str(Path(path).resolve()), "columns": list(columns), "held": list(held) if held else None}
    whole = {"offset": place.offset, "kind": place.dtype, "strides": list(place.strides)} if not place.origin else None
    return {
        "mapped": at,
        "pages": whole,
        "shape": list(x.shape),
        "dtype": dtype,
        "names": list(x.names),
        "digest": _digest(x),
    }


def rows_again(kept: dict[str, Any]) -> Mapped:
    """The rows that a reference is of. Raises InputError where the file is gone, or holds other rows."""
    at, whole, shape = kept["mapped"], kept["pages"], tuple(kept["shape"])
    path, dtype = Path(at["path"]), getattr(torch, kept["dtype"])
    other = InputError(f"{path} does not hold the rows that were fitted any more: put them back there")
    if not path.exists():
        raise InputError(f"there is no file {path}, which holds the rows that were fitted: put it back there")
    if whole is not None:
        like = np.memmap(path, np.uint8, "r")
        extent = whole["offset"] + (shape[0] - 1) * whole["strides"][0] + np.dtype(whole["kind"]).itemsize
        if extent > len(like):
            raise other
        row = tuple(s for s in shape[1:])
        array: Any = np.ndarray((shape[0], *row), whole["kind"], like, whole["offset"], whole["strides"])
        pages = place_of(path, array, whole["offset"]).open()
        known = columns_of(pages.blocks(block_rows(row)), Size(row), lambda *_: other)
        found = Mapped(pages, known, dtype, names=tuple(kept["names"]))
    else:
        source = source_of(path)
        if source is None:
            raise other
        key = (str(path), tuple(at["columns"]))
        found = mapped(chosen(source, at["columns"]), key)
        found = found if at["held"] is None else held_out(found, (at["held"][0], at["held"][1], at["held"][2]))
        found = found.changed(dtype=dtype)
    if tuple(found.shape) != shape or _digest(found) != kept["digest"]:
        raise other
    return found


def _digest(x: Mapped) -> str:
    """SHA-256 of some evenly spaced rows."""
    rows = x.changed(dtype=torch.float64)[evenly_spaced(len(x), SAMPLED)]
    return hashlib.sha256(rows.numpy().tobytes()).hexdigest()
