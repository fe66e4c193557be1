"""Data: what a model is called with, and which of it has rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models.structure import Model, Structure
from ...models.trace import read_structure
from ..mapped.blocks import evenly_spaced
from ..mapped.columns import default_columns
from ..mapped.tensor import Mapped, same_numbers
from ..runtime.isolation import isolated
from .some_rows import OnRows, SomeRows

SHOWN_ROWS = 2000  # of a file, that stand for all in pictures and where rows are told one by one


@dataclass(frozen=True, eq=False)
class Data:
    """Checked data: the arguments of a model, handed on as they are.

    args, kwargs: tensors, floating ones in one dtype, whole numbers that index as int64; anything else as it came.
    rows: the size of the model's plate of rows; None until the model's structure is known, and where it has none. What
    is as long as that is cut along it, the rest is constant.
    columns: the names of the columns of a single table, () where there are several arguments.
    names: what the positional arguments are called; x0, x1, ... where nobody knows.
    tables: argument -> the names of its columns, for tables among several arguments.
    coords: argument -> the names of its categories, whose codes are in the data.
    missing: the line that refuses the first missing value, for models that do not mask it; empty where none is missing.
    floating: the dtype of computations where no array is of floating numbers.
    mixed: whether the model brings tensors of another precision, so that both are promoted to float64.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    rows: int | None = None
    columns: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    coords: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: str = ""
    floating: torch.dtype = torch.float64
    mixed: bool = False

    def run(self, program: Callable[..., Any]) -> Any:
        """What the program gives for these arguments."""
        return program(*self.args, **self.kwargs)

    @property
    def named(self) -> dict[str, Any]:
        """Every argument by its name, positional ones first."""
        names = self.names or default_columns(len(self.args))
        return {**dict(zip(names, self.args, strict=True)), **self.kwargs}

    @property
    def tensors(self) -> list[Tensor]:
        """Every array, positional ones first."""
        return [value for value in (*self.args, *self.kwargs.values()) if isinstance(value, Tensor)]

    @property
    def values(self) -> Tensor:
        """The first array: of a model of one array, the data."""
        return self.tensors[0]

    @property
    def like(self) -> Tensor:
        """A number in the dtype and on the device of the data: ()."""
        dtype = next((value.dtype for value in self.tensors if value.is_floating_point()), self.floating)
        return torch.zeros((), dtype=dtype, device=self.tensors[0].device if self.tensors else None)

    @property
    def dtype(self) -> torch.dtype:
        """That of the floating arrays."""
        return self.like.dtype

    @property
    def numel(self) -> int:
        """How many numbers there are."""
        return sum(value.numel() for value in self.tensors)

    @property
    def mapped(self) -> Mapped | None:
        """What lies in a file, of which no more than some rows are in memory at a time; None where all is there."""
        return next((value for value in self.tensors if isinstance(value, Mapped)), None)

    def some_rows(self) -> OnRows | AbstractContextManager[None]:
        """In here programs look at some of the rows of a file, as a minibatch does; at all of what is in memory."""
        return nullcontext() if self.mapped is None else OnRows(len(self.mapped))

    def in_memory(self) -> Data:
        """The same with all rows in memory."""
        return self.map(lambda value: value.in_memory() if isinstance(value, Mapped) else value)

    def sampled(self, most: int) -> Data:
        """At most so many rows of a file, evenly spaced, in memory; what is all in memory as it is."""
        return self if self.mapped is None else self.take(evenly_spaced(self.rows or 0, most))

    def touched(self, rows: int) -> None:
        """Say that so many rows are read at random by what does not come through `take`."""
        for value in self.tensors:
            if isinstance(value, Mapped):
                value.pages.touched(rows)

    def release(self) -> None:
        """Let go of the pages read so far."""
        for value in self.tensors:
            if isinstance(value, Mapped):
                value.pages.release()

    @property
    def row_numel(self) -> int:
        """How many numbers a row has; all of them where there are no rows."""
        return max(1, self.numel // (self.rows or 1))

    def has_rows(self, value: Any) -> bool:
        """Whether an argument is cut along the rows."""
        return isinstance(value, Tensor) and self.rows is not None and value.shape[:1] == (self.rows,)

    def isolated(self, seed: int, params: dict[str, Any] | None = None) -> AbstractContextManager[None]:
        """Pyro without a trace left behind, in the dtype of the data; see `runtime.isolation`."""
        return isolated(seed, self.dtype, params, self.mixed)

    def take(self, rows: Tensor | slice) -> Data:
        """Some of the rows, (M,) numbers or a slice; what is constant stays whole."""
        number = len(range(*rows.indices(self.rows or 0))) if isinstance(rows, slice) else len(rows)
        return replace(self.map(lambda value: value[rows] if self.has_rows(value) else value), rows=number)

    def to(self, dtype: torch.dtype) -> Data:
        """The same with its floating arrays in that dtype."""
        same = replace(self, floating=dtype)
        return same.map(lambda value: value.to(dtype) if value.is_floating_point() else value)

    def map(self, fn: Callable[[Tensor], Tensor]) -> Data:
        """The same with fn of every array."""
        on = lambda value: fn(value) if isinstance(value, Tensor) else value  # noqa: E731
        args = tuple(on(value) for value in self.args)
        return replace(self, args=args, kwargs={name: on(value) for name, value in self.kwargs.items()})

    def as_numpy(self) -> tuple[Any, ...]:
        """Everything that the model sees, arrays as NumPy has them: what the data are known by."""
        plain = self.map(lambda value: value.cpu().numpy())  # type: ignore[arg-type, return-value]
        return plain.args, plain.kwargs

    def equals(self, other: Data) -> bool:
        """Whether both hold the same numbers, and miss the same ones."""
        return len(self.tensors) == len(other.tensors) and all(map(_same, self.tensors, other.tensors))


def _same(a: Tensor, b: Tensor) -> bool:
    if isinstance(a, Mapped) or isinstance(b, Mapped):
        return same_numbers(a, b)
    return a.dtype == b.dtype and np.array_equal(a.cpu(), b.cpu(), equal_nan=True)


def structure_on(model: Model, data: Data, seed: int = 0) -> Structure:
    """The structure of a model on its data. Raises InputError where it fails or does not mask what is missing.

    Of rows in a file a few are looked at.
    """
    some = data.some_rows()
    cut = SomeRows(model, some) if isinstance(some, OnRows) else model  # which blocks what is around it
    with data.isolated(seed):
        try:
            structure = data.run(partial(read_structure, cut))
            structure = structure.of_all_rows(some.cut) if isinstance(some, OnRows) else structure
        except InputError as error:
            raise (InputError(data.missing) if data.missing else error) from error
    if structure.undefined and data.missing:
        raise InputError(data.missing)
    return structure
