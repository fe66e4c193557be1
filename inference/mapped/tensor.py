"""Rows that stay in a file: a tensor over its pages, which is read where it is indexed and never copied whole."""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Size, Tensor

from ...errors import InputError
from .blocks import block_rows

MAX_SLICE = 16_000_000  # numbers of x[a:b]
PAGES_A_ROW = 64 * 1024  # bytes that Linux maps around one row
MAX_PAGES = 256 * 2**20  # bytes mapped by rows at random before they are let go of
MAX_GATHERED = 4096  # rows at random at once
KINDS = {np.dtype(kind) for kind in ("bool", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")}  # that torch reads


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
        self.mapped += rows * PAGES_A_ROW
        if self.mapped > MAX_PAGES:
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


class Columns(NamedTuple):
    """What is known of each entry of a row, float64 in its shape; scatter: the sum of squares about the mean."""

    mean: Tensor
    scatter: Tensor
    low: Tensor
    high: Tensor

    def viewed(self, row: Size) -> Columns:
        """The same of rows of another shape."""
        return Columns(*(part.reshape(row) for part in self))


class Mapped(Tensor):
    """N rows in a file: (N, ...), floating, on whatever device is asked for.

    `x[rows]` reads these rows; means, deviations and extremes over all rows are known; shape, dtype and device are a
    tensor's; anything else would take all rows into memory, and is refused. A copy, in another process too, maps the
    file itself.
    """

    pages: Pages
    known: Columns
    names: tuple[str, ...]

    @staticmethod
    def __new__(
        cls,
        pages: Pages,
        known: Columns,
        dtype: torch.dtype = torch.float64,
        device: torch.device | None = None,
        row: Size | None = None,
        names: tuple[str, ...] = (),
    ) -> Mapped:
        row = Size(pages.tensor.shape[1:]) if row is None else row
        found = Tensor._make_wrapper_subclass(
            cls, Size((len(pages.tensor), *row)), dtype=dtype, device=device or torch.device("cpu")
        )
        found.pages, found.known, found.names = pages, known.viewed(row), names
        return found

    def __init__(self, *_: Any, **__: Any) -> None:
        """Everything is done in `__new__`."""

    @property
    def like(self) -> Tensor:
        """No numbers, in the dtype and on the device of these: (0,)."""
        return torch.empty(0, dtype=self.dtype, device=self.device)

    @property
    def bytes(self) -> int:
        """What the numbers would take in memory as they lie in the file."""
        return self.pages.tensor.numel() * self.pages.tensor.element_size()

    def changed(self, **how: Any) -> Mapped:
        """The same rows in another dtype, on another device, or each of another shape, `row`."""
        now: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "row": Size(self.shape[1:])}
        now["names"] = self.names
        return Mapped(self.pages, self.known, **{**now, **how})

    def blocks(self, rows: int | None = None) -> Iterator[Tensor]:
        """All rows, in memory some at a time: (n, ...) each."""
        for block in self.pages.blocks(rows or block_rows(self.shape[1:])):
            yield self._ours(block)

    def places(self) -> list[tuple[int, int]]:
        """Where each block begins and ends."""
        step = block_rows(self.shape[1:])
        return [(start, min(start + step, len(self))) for start in range(0, len(self), step)]

    def block(self, start: int, stop: int) -> Tensor:
        """Rows that lie side by side: (n, ...). The caller lets go of their pages."""
        self.pages.place.check(self.pages.place.path)
        return self._ours(self.pages.tensor[start:stop])

    def in_memory(self) -> Tensor:
        """A tensor of all rows."""
        found = self._ours(self.pages.tensor).clone()
        self.pages.release()
        return found

    def _ours(self, rows: Tensor) -> Tensor:
        return rows.to(device=self.device, dtype=self.dtype).reshape(len(rows), *self.shape[1:])

    def _rows(self, index: Any) -> Tensor:
        """x[index], copied; further indices choose among the entries of rows."""
        index, *entries = index if isinstance(index, tuple) else (index,)
        if index is Ellipsis or index is None or (isinstance(index, Tensor) and index.dtype == torch.bool):
            raise self._refused("such an index")
        index = index.to("cpu") if isinstance(index, Tensor) else index
        if isinstance(index, slice):
            number = len(range(*index.indices(len(self))))
            if number * self.known.mean.numel() > MAX_SLICE:
                raise self._refused(f"a slice of {number} of them")
        elif isinstance(index, Tensor) and index.dim() == 1 and len(index) > MAX_GATHERED:
            return torch.cat([self._rows((part, *entries)) for part in index.split(MAX_GATHERED)])
        else:
            self.pages.touched(index.numel() if isinstance(index, Tensor) else np.size(index))
        rows = self.pages.tensor[index]
        lead = rows.dim() - self.pages.tensor.dim() + 1
        found = rows.to(device=self.device, dtype=self.dtype).reshape(*rows.shape[:lead], *self.shape[1:])
        found = found.clone() if isinstance(index, slice | int | np.integer) else found
        return found[(*[slice(None)] * lead, *entries)] if entries else found

    def _refused(self, what: str) -> InputError:
        return InputError(
            f"{what} would take all {len(self)} rows of {self.pages.place.name} into memory: "
            "let the model look at x[rows] of its plate alone, or give a sample of rows"
        )

    def __deepcopy__(self, memo: Any) -> Mapped:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        how = {"dtype": self.dtype, "device": self.device, "row": Size(self.shape[1:]), "names": self.names}
        return _reopened, (self.pages.place, self.known, how)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Mapped({self.pages.place.name!r}, shape={tuple(self.shape)}, dtype={self.dtype})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in LIKE and not (args and isinstance(args[0], Mapped)):
            plain = lambda value: value.like if isinstance(value, Mapped) else value  # noqa: E731
            return func(*map(plain, args), **{key: plain(value) for key, value in kwargs.items()})
        if args and isinstance(args[0], Mapped) and name in HANDLED:
            return HANDLED[name](*args, **kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in ("detach", "alias"):
            return args[0]
        mapped = next(value for value in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(value, Mapped))
        raise mapped._refused(f"{name} of x")


def _reopened(place: Place, known: Columns, how: dict[str, Any]) -> Mapped:
    return Mapped(place.open(), known, **how)


def _reduction(name: str) -> Callable[..., Any]:
    """A mean, say, over all rows or over all numbers, from what is known of the columns."""

    def reduced(x: Mapped, dim: Any = None, *args: Any, keepdim: bool = False, **options: Any) -> Tensor:
        over = dim[0] if isinstance(dim, tuple | list) and len(dim) == 1 else dim
        unbiased = args[0] if args else options.get("unbiased", True)
        correction = int(options["correction"]) if "correction" in options else int(bool(unbiased))
        known, n, all_of = x.known, len(x), over is None
        if not (all_of or over in (0, -x.dim())) or (name in ("min", "max") and not all_of):
            raise x._refused(f"{name} of x")
        if name in ("min", "amin", "max", "amax"):
            part = known.low if "min" in name else known.high
            found = (part.min() if "min" in name else part.max()) if all_of else part
        elif name in ("mean", "sum"):
            found = (known.mean.mean() if all_of else known.mean) * (1 if name == "mean" else n)
            found = found * known.mean.numel() if all_of and name == "sum" else found
        else:
            numbers = n * (known.mean.numel() if all_of else 1)
            scatter = known.scatter
            if all_of:
                scatter = scatter.sum() + n * (known.mean - known.mean.mean()).square().sum()
            found = scatter / (numbers - correction)
            found = found.sqrt() if name == "std" else found
        found = found.to(x.like)
        return found.unsqueeze(0) if keepdim and not all_of else found

    return reduced


def _to(x: Mapped, *args: Any, **options: Any) -> Mapped:
    plain: list[Any] = [value.like if isinstance(value, Mapped) else value for value in args]
    found = x.like.to(*plain, **options)
    return x.changed(dtype=found.dtype, device=found.device)


def _reshaped(x: Mapped, shape: Size) -> Mapped:
    """The same rows, each of another shape."""
    if shape[:1] != (len(x),):
        raise x._refused("another shape of x")
    return x.changed(row=Size(shape[1:]))


def _shaped(name: str) -> Callable[..., Mapped]:
    """reshape or flatten, say, of rows: its shape is that of an empty view, of one number expanded."""

    def shaped(x: Mapped, *args: Any, **options: Any) -> Mapped:
        return _reshaped(x, getattr(torch.empty(x.shape, device="meta"), name)(*args, **options).shape)

    return shaped


def _in_vain(name: str) -> Callable[..., Any]:
    def refused(x: Mapped, *_: Any, **__: Any) -> Any:
        raise x._refused(f"{name} of x")

    return refused


def _new(name: str) -> Callable[..., Tensor]:
    return lambda x, *args, **options: getattr(x.like, name)(*args, **options)


LIKE = ("to", "type_as")
HANDLED: dict[str, Callable[..., Any]] = {
    **{name: _reduction(name) for name in ("mean", "sum", "var", "std", "amin", "amax", "min", "max")},
    **{name: _new(name) for name in ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")},
    **{name: _shaped(name) for name in ("reshape", "view", "flatten", "unsqueeze", "squeeze")},
    **dict.fromkeys(("detach", "contiguous", "requires_grad_"), lambda x, *_, **__: x),
    **{name: _in_vain(name) for name in ("numpy", "tolist", "item", "__array__", "__iter__", "storage")},
    "__getitem__": Mapped._rows,
    "index_select": lambda x, dim, index: x[index] if dim == 0 else _in_vain("index_select")(x),
    "to": _to,
    "cpu": lambda x: x.changed(device=torch.device("cpu")),
    "cuda": lambda x, *_, **__: x.changed(device=torch.device("cuda")),
    "double": lambda x: x.changed(dtype=torch.float64),
    "float": lambda x: x.changed(dtype=torch.float32),
    "type_as": lambda x, other: _to(x, other),
    "clone": lambda x, **_: x,
}


def columns_of(blocks: Iterator[Tensor], row: Size, refuse: Callable[[int, int, str], Exception]) -> Columns:
    """What is known of each entry of rows, (n, ...) at a time (Chan, Golub and LeVeque 1983).

    refuse: (row, entry, what it is) -> the error of a number that is not finite.
    """
    size, count = prod(row), 0
    mean, scatter = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    low, high = mean + torch.inf, mean - torch.inf
    for block in blocks:
        rows = block.reshape(len(block), size).double()
        low, high = torch.minimum(low, rows.amin(0)), torch.maximum(high, rows.amax(0))
        if not (low.isfinite() & high.isfinite()).all():
            at, entry = (~rows.isfinite()).nonzero()[0].tolist()
            raise refuse(count + at, entry, f"{rows[at, entry].item()}")
        here, n = rows.mean(0), len(rows)
        scatter += (rows - here).square().sum(0) + (here - mean).square() * (n * count / (n + count))
        mean += (here - mean) * (n / (n + count))
        count += n
    return Columns(mean, scatter, low, high)


def place_of(path: str | Path, array: np.ndarray, offset: int, origin: tuple[Any, ...] = ()) -> Place:
    """Where the numbers of an array over a file's pages lie in it."""
    found, shape, strides = os.stat(path), tuple(map(int, array.shape)), tuple(map(int, array.strides))
    return Place(str(path), array.dtype.str, shape, int(offset), strides, found.st_size, found.st_mtime_ns, origin)


def same_numbers(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of rows hold the same, one of them in a file, or both."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if isinstance(a, Mapped) and isinstance(b, Mapped) and a.pages.place == b.pages.place:
        return True
    here, there = (a, b) if isinstance(a, Mapped) else (b, a)
    assert isinstance(here, Mapped)
    start = 0
    for block in here.blocks():
        stop = start + len(block)
        other = there.block(start, stop) if isinstance(there, Mapped) else there[start:stop]
        if not torch.equal(block, other):
            return False
        start = stop
    return True
