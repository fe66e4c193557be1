"""Rows that stay in a file: a tensor over its pages, which is read where it is indexed and never copied whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from ...errors import InputError
from .blocks import block_rows
from .columns import Columns, columns_of
from .operations import HANDLED, LIKE
from .pages import Pages, Place

MAX_SLICE_NUMBERS = 16_000_000  # of x[a:b]
MAX_GATHERED_ROWS = 4096  # at random at once
ARRAYS = (Tensor, np.ndarray, list)  # as an index


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
        return Mapped(self.pages, self.known, **{**self._how, **how})

    @property
    def _how(self) -> dict[str, Any]:
        """What is made of the numbers in the file."""
        return {"dtype": self.dtype, "device": self.device, "row": Size(self.shape[1:]), "names": self.names}

    def blocks(self, rows: int | None = None) -> Iterator[Tensor]:
        """All rows, in memory some at a time: (n, ...) each."""
        yield from map(self._converted, self.pages.blocks(rows or block_rows(self.shape[1:])))

    def spans(self) -> list[tuple[int, int]]:
        """Where each block begins and ends."""
        step = block_rows(self.shape[1:])
        return [(start, min(start + step, len(self))) for start in range(0, len(self), step)]

    def block(self, start: int, stop: int) -> Tensor:
        """Rows that lie side by side: (n, ...). The caller lets go of their pages."""
        self.pages.place.check(self.pages.place.path)
        return self._converted(self.pages.tensor[start:stop])

    def in_memory(self) -> Tensor:
        """A tensor of all rows."""
        found = self._converted(self.pages.tensor).clone()
        self.pages.release()
        return found

    def _converted(self, rows: Tensor) -> Tensor:
        """Rows of the file, (..., *row), in the dtype, on the device and of the shape of these."""
        lead = rows.shape[: rows.dim() - self.pages.tensor.dim() + 1]
        return rows.to(device=self.device, dtype=self.dtype).reshape(*lead, *self.shape[1:])

    def gathered(self, index: Any) -> Tensor:
        """x[index], copied; further indices choose among the entries of rows."""
        index, *entries = index if isinstance(index, tuple) else (index,)
        if index is Ellipsis or index is None or (isinstance(index, Tensor) and index.dtype == torch.bool):
            raise self.refused("such an index")
        if isinstance(index, ARRAYS) and any(isinstance(entry, ARRAYS) for entry in entries):  # which go in pairs
            index = torch.as_tensor(index)
            places = torch.arange(index.numel(), device=self.device).reshape(index.shape)
            return self.gathered(index.flatten())[(places, *entries)]
        if isinstance(index, Tensor) and index.dim() == 1 and len(index) > MAX_GATHERED_ROWS:
            return torch.cat([self.gathered((part, *entries)) for part in index.split(MAX_GATHERED_ROWS)])
        found = self._read(index)
        lead = found.dim() - self.dim() + 1
        return found[(*[slice(None)] * lead, *entries)] if entries else found

    def _read(self, index: Any) -> Tensor:
        """The rows of an index, copied: (..., *row)."""
        index = index.to("cpu") if isinstance(index, Tensor) else index
        if not isinstance(index, slice):
            self.pages.touched(index.numel() if isinstance(index, Tensor) else np.size(index))
        elif (number := len(range(*index.indices(len(self))))) * self.known.mean.numel() > MAX_SLICE_NUMBERS:
            raise self.refused(f"a slice of {number} of them")
        found = self._converted(self.pages.tensor[index])
        return found.clone() if isinstance(index, slice | int | np.integer) else found

    def refused(self, what: str) -> InputError:
        """The error of what would take all rows into memory."""
        return InputError(
            f"{what} would take all {len(self)} rows of {self.pages.place.name} into memory: "
            "let the model look at x[rows] of its plate alone, or give a sample of rows"
        )

    def __deepcopy__(self, memo: Any) -> Mapped:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _reopened, (self.pages.place, self.known, self._how)

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
        raise mapped.refused(f"{name} of x")


def _reopened(place: Place, known: Columns, how: dict[str, Any]) -> Mapped:
    return Mapped(place.open(), known, **how)


def rows_at(
    place: Place,
    names: tuple[str, ...],
    refuse: Callable[[int, int, str], Exception],
    dtype: torch.dtype = torch.float64,
) -> Mapped:
    """The rows at a place of a file, all of them read once, for what is known of their columns; see `columns_of`."""
    pages, row = place.open(), Size(place.shape[1:])
    return Mapped(pages, columns_of(pages.blocks(block_rows(row)), row, refuse), dtype, names=names)


def same_numbers(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of rows hold the same, one of them in a file, or both."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if isinstance(a, Mapped) and isinstance(b, Mapped) and a.pages.place == b.pages.place:
        return True
    here, there = (a, b) if isinstance(a, Mapped) else (b, a)
    assert isinstance(here, Mapped)
    others = there.blocks() if isinstance(there, Mapped) else there.split(block_rows(there.shape[1:]))
    return all(map(torch.equal, here.blocks(), others))
