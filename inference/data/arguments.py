"""The arguments of a model: which parameters it has, and what a user hands in for each of them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from pandas import DataFrame
from torch import Tensor, nn

from .data import Data
from .numbers import as_codes, as_numbers, is_categorical, refuse_repeated
from .table import as_table, default_columns, is_array, matched

__all__ = ["Arguments", "Parameters", "Part", "arguments", "as_part", "assembled", "parameters_of"]

Arguments: TypeAlias = dict[str, tuple[Any, str]]


class Parameters(NamedTuple):
    """What a model can be called with. names: in order; required: those without a default; open: it takes any more."""

    names: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    open: bool = True


def parameters_of(model: Callable[..., Any] | None) -> Parameters:
    """The parameters of a program that data can be given for; `batch_size` is none of them."""
    program = model and _signed(model)
    try:
        found = inspect.signature(program).parameters.values() if program else None
    except (TypeError, ValueError):  # what is written in C may have no signature
        found = None
    if found is None:
        return Parameters()
    plain = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "batch_size"]
    required = tuple(p.name for p in plain if p.default is p.empty)
    more = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in found)
    bound = model.keywords if isinstance(model, partial) else {}
    return Parameters(tuple(p.name for p in plain if p.name not in bound), required, more)


def _signed(model: Callable[..., Any]) -> Callable[..., Any]:
    """What bears a program's signature: of a module its forward, not the general call."""
    model = inspect.unwrap(model)
    if isinstance(model, partial):
        return partial(_signed(model.func), *model.args, **model.keywords)
    return model.forward if isinstance(model, nn.Module) else model


def arguments(x: Any, names: Sequence[str], name: str) -> Arguments:
    """What a tuple, mapping or table of columns has for each argument by its name, and what messages call it.

    names: of the parameters; more than those of a tuple or mapping come behind, further columns are left aside.
    """
    if isinstance(x, tuple):
        called = [*names, *default_columns(len(x))[len(names) :]]
        return {key: (value, f"{name}[{i}]") for i, (key, value) in enumerate(zip(called, x, strict=False))}
    if isinstance(x, Mapping):
        keys = [*(key for key in names if key in x), *(key for key in x if key not in names)]
        return {key: (x[key], f"{name}[{key!r}]") for key in keys}
    table = as_table(x, name)
    refuse_repeated(table, name)
    found = {key: table.columns.index(key) for key in names if key in table.columns}
    return {key: (x.iloc[:, i], f"{name}: column {key!r}") for key, i in found.items()}


class Part(NamedTuple):
    """One argument, checked: its columns where it is a table, its categories where it holds their codes."""

    value: Any
    columns: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    missing: str = ""


def as_part(value: Any, where: str, columns: tuple[str, ...] = (), categories: tuple[str, ...] = ()) -> Part:
    """An argument as the model shall have it: arrays as tensors, categories as codes, anything else untouched.

    where: what messages call it. columns, categories: those of the fitted data, where there are any.
    """
    if not is_array(value):
        return Part(value)
    if not getattr(value, "ndim", 1):
        return Part(value.detach() if isinstance(value, Tensor) else np.asarray(value).item())
    table = as_table(value, where)
    first = table.frame.iloc[:, 0] if len(table.shape) == 1 else None
    if first is not None and (categories or is_categorical(first)):
        codes, categories = as_codes(first, where, categories)
        return Part(codes, categories=categories)
    if not isinstance(value, DataFrame):
        places = [where] if first is not None else [f"{where}: column {column!r}" for column in table.columns]
        numbers, missing = as_numbers(table, places, keep_whole=True)
        return Part(numbers, missing=missing)
    refuse_repeated(table, where)
    table = matched(table, columns, where)
    numbers, missing = as_numbers(table, [f"{where}: column {column!r}" for column in table.columns], keep_whole=True)
    return Part(numbers, table.columns, missing=missing)


def assembled(parts: dict[str, Part], positional: tuple[str, ...]) -> Data:
    """The parts as the arguments of a model, some of them by position."""
    return Data(
        args=tuple(parts[key].value for key in positional),
        kwargs={key: part.value for key, part in parts.items() if key not in positional},
        names=positional,
        tables={key: part.columns for key, part in parts.items() if part.columns},
        coords={key: part.categories for key, part in parts.items() if part.categories},
        missing=next((part.missing for part in parts.values() if part.missing), ""),
    )
