"""A reference to rows in a file, kept in their place with what was fitted to them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from .blocks import evenly_spaced
from .opened import part_of
from .pages import place_of
from .sources import source_of
from .tensor import Mapped, rows_at

SAMPLED_ROWS = 1000  # that a file is known by


def reference_to(x: Mapped) -> dict[str, Any]:
    """What a file is known by on disk, in place of its rows: where it is, what is taken of it, and some of its rows."""
    place, dtype = x.pages.place, str(x.dtype).removeprefix("torch.")
    path, columns, held = place.origin
    if not Path(path).exists():
        raise InputError(f"{path} is no file that could be read again: save the rows as .npy, and fit them there")
    at = {"path": str(Path(path).resolve()), "columns": list(columns), "held": list(held) if held else None}
    pages = {"offset": place.offset, "kind": place.dtype, "strides": list(place.strides)}
    return {
        "mapped": at,
        "pages": None if place.copied_from else pages,
        "shape": list(x.shape),
        "dtype": dtype,
        "names": list(x.names),
        "digest": _digest(x),
    }


def rows_again(kept: dict[str, Any]) -> Mapped:
    """The rows that a reference is of. Raises InputError where the file is gone, or holds other rows."""
    at, shape = kept["mapped"], tuple(kept["shape"])
    path, dtype = Path(at["path"]), getattr(torch, kept["dtype"])
    other = InputError(f"{path} does not hold the rows that were fitted any more: put them back there")
    if not path.exists():
        raise InputError(f"there is no file {path}, which holds the rows that were fitted: put it back there")
    if (pages := kept["pages"]) is not None:
        kind, strides = np.dtype(pages["kind"]), pages["strides"]
        extent = pages["offset"] + (shape[0] - 1) * strides[0] + kind.itemsize
        if extent > path.stat().st_size:
            raise other
        place = place_of(path, kind, shape, strides, pages["offset"])
        found = rows_at(place, tuple(kept["names"]), lambda *_: other, dtype)
    else:
        source = source_of(path)
        if source is None:
            raise other
        found = part_of(source, at["columns"], tuple(at["held"]) if at["held"] else None).changed(dtype=dtype)
    if tuple(found.shape) != shape or _digest(found) != kept["digest"]:
        raise other
    return found


def _digest(x: Mapped) -> str:
    """SHA-256 of some evenly spaced rows."""
    rows = x.changed(dtype=torch.float64)[evenly_spaced(len(x), SAMPLED_ROWS)]
    return hashlib.sha256(rows.numpy().tobytes()).hexdigest()
