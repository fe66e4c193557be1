"""A reference to rows in a file, kept in their place with what was fitted to them."""

from __future__ import annotations

import hashlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Size

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
    pages = {"offset": place.offset, "kind": place.dtype, "shape": list(place.shape), "strides": list(place.strides)}
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
    at, (number, *row) = kept["mapped"], kept["shape"]
    path = Path(at["path"])
    other = InputError(f"{path} does not hold the rows that were fitted any more: put them back there")
    if not path.exists():
        raise InputError(f"there is no file {path}, which holds the rows that were fitted: put it back there")
    if kept["pages"] is not None:
        found = _of_pages(path, kept, other)
    elif (source := source_of(path)) is not None:
        found = part_of(source, at["columns"], tuple(at["held"]) if at["held"] else None)
    else:
        raise other
    if len(found) != number or prod(found.shape[1:]) != prod(row):
        raise other
    found = found.changed(dtype=getattr(torch, kept["dtype"]), row=Size(row))
    if _digest(found) != kept["digest"]:
        raise other
    return found


def _of_pages(path: Path, kept: dict[str, Any], other: InputError) -> Mapped:
    """The rows that lie in the file itself as they lay there; `other` is raised where it is too short for them."""
    pages = kept["pages"]
    kind, strides, shape = np.dtype(pages["kind"]), pages["strides"], pages.get("shape", kept["shape"])
    extent = pages["offset"] + kind.itemsize + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if extent > path.stat().st_size:
        raise other
    return rows_at(place_of(path, kind, shape, strides, pages["offset"]), tuple(kept["names"]), lambda *_: other)


def _digest(x: Mapped) -> str:
    """SHA-256 of some evenly spaced rows."""
    rows = x.changed(dtype=torch.float64, device=torch.device("cpu"))[evenly_spaced(len(x), SAMPLED_ROWS)]
    return hashlib.sha256(rows.numpy().tobytes()).hexdigest()
