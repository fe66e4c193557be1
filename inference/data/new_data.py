"""New rows for a model that was fitted: brought to the columns, shapes, categories and dtype of the fitted data."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Context, localcontext
from math import prod
from typing import Any

import torch
from pandas import DataFrame, Series
from torch import Tensor

from ...errors import InputError, count, listed
from ...models.arguments import only_observes
from ...models.structure import Model, model_name
from ..mapped.blocks import may_be_loaded
from ..mapped.columns import are_default
from ..mapped.tensor import Mapped
from .arrays import as_table, matched, numbers_of
from .as_data import DataLike, checked_by, within_range
from .containers import opened, plain
from .data import Data
from .parts import Arguments, arguments_in, several
from .strings import strings_of


def as_new_data(x: DataLike, like: Data, model: Model | None = None, *, name: str = "x_new") -> Data:
    """Check `x` against the data that were fitted, and bring it to their columns, shapes, categories, dtype and device.

    Columns are matched by name, in whatever order they come, and further ones are left aside; by position where one
    side has no names. Few rows and constant columns are welcome.

    Parameters
    ----------
    x
        As the fitted data were given: one table, a tuple of as many parts, a mapping, or a DataFrame with the columns.
        In a tuple or mapping, what has no rows may be None or left out: the fitted value is taken. So may what the
        model only observes, where another part tells the number of rows: it is filled with zeros. Where the fitted
        data have no rows, everything is to be given.
    like
        The fitted data.
    model
        Their program, to tell what it only observes; without it, anything that is left out is taken to be so. Its
        `check(values)`, if it has one, may refuse the new rows of a single table.

    Returns
    -------
    Data
        Of M rows, or of none if the fitted data have none.

    Raises
    ------
    InputError
        As `as_data`, or a part or column of the fitted data is missing, a category is unknown, rows are of another
        shape, or parts of different lengths.
    """
    with localcontext(Context(traps=[])):  # as `as_data` has it
        return within_range(_as_new_data(x, like, model, name), name)


def _as_new_data(x: DataLike, like: Data, model: Model | None, name: str) -> Data:
    """As `as_new_data`, without a look at the numbers' size."""
    if model is not None and hasattr(model, "codes") and not isinstance(x, Data):
        values = model.codes(*strings_of(x, name)).to(like.values)
        return replace(like, args=(values,), rows=len(values))
    x, name = opened(x, name)
    if isinstance(x, Data):
        if (x.columns, x.coords, x.tables) != (like.columns, like.coords, like.tables):
            raise InputError(f"{name} has other columns or categories than the fitted data: give it as it came")
        return x.to(like.dtype)
    if like.columns:
        return _table(x, like, model, name)
    given = _given(x, like, name)
    found = several(given, (), like)
    new = {key: _converted(value, key, like, given[key][1]) for key, value in found.kwargs.items()}
    sizes = {given[key][1]: len(value) for key, value in new.items() if like.has_rows(like.named[key])}
    if len(set(sizes.values())) > 1:
        lengths = ", ".join(f"{where} has {count(size, 'row')}" for where, size in sizes.items())
        raise InputError(f"{lengths}: give as many of each")
    rows = next(iter(sizes.values()), None)
    if rows == 0:
        raise InputError(f"{name} is empty (0 rows): give at least one")
    new |= {key: _left_out(key, like, rows, model, name) for key in like.named if key not in new}
    args = tuple(new[key] for key in list(like.named)[: len(like.args)])
    return replace(like, args=args, kwargs={key: new[key] for key in like.kwargs}, rows=rows, missing=found.missing)


def _table(x: Any, like: Data, model: Model | None, name: str) -> Data:
    """New rows of a single table."""
    if isinstance(x, tuple | Mapping) and len(x) == 1:
        (x,) = x.values() if isinstance(x, Mapping) else x
        x = plain(x, name)
    if isinstance(x, Mapped):
        return _rows_of_file(x, like, model, name)
    table, row = as_table(x, name), like.values.shape[1:]
    if isinstance(x, DataFrame | Series):
        table = matched(table, like.columns)
    length = prod(table.shape[1:])
    if not table.shape or length != len(like.columns) or (len(table.shape) > 2 and table.shape[1:] != row):
        fitted = f"rows of shape {tuple(row)}" if len(row) > 1 else count(len(like.columns), "column")
        has = f"{name} has shape {table.shape}, but the fitted data have {fitted} ({listed(like.columns)})"
        raise InputError(f"{has}: give one row for each new point")
    values, missing = numbers_of(table)
    if missing and hasattr(model, "prepare"):
        raise InputError(missing)
    return _accepted(values.reshape(-1, *row).to(like.values), like, model, name, missing)


def _accepted(values: Tensor, like: Data, model: Model | None, name: str, missing: str = "") -> Data:
    """New rows of a single table, (M, *row), which the model may refuse."""
    if hasattr(model, "check"):
        checked_by(model, "check", name, values)
    return replace(like, args=(values,), rows=None if like.rows is None else len(values), missing=missing)


def _rows_of_file(x: Mapped, like: Data, model: Model | None, name: str) -> Data:
    """New rows in a file."""
    unlike = x.names != like.columns and not (are_default(x.names) or are_default(like.columns))
    if unlike or len(x.names) != len(like.columns):
        has = f"{name} has the columns {listed(x.names)}, and the fitted data {listed(like.columns)}"
        raise InputError(f"{has}: give the same, in this order")
    found = x.changed(row=like.values.shape[1:], dtype=like.dtype, device=like.like.device)
    return _accepted(found.in_memory() if may_be_loaded(found.bytes) else found, like, model, name)


def _given(x: Any, like: Data, name: str) -> Arguments:
    """What x has for each argument of the fitted data, None left aside."""
    names = tuple(like.named)
    if not isinstance(x, tuple | Mapping | DataFrame):
        x = (x,)
    if isinstance(x, tuple) and (len(x) != len(names) or (like.kwargs and len(names) > 1)):
        wanted = f"the fitted data have {listed(names)}: give a part for each, by its name"
        if not like.kwargs:
            wanted = f"the fitted data have {len(names)}: give as many, None for one that is left out"
        raise InputError(f"{name} has {count(len(x), 'part')}, but {wanted}")
    given = arguments_in(x, names, name)
    for key in given:
        if key not in names:
            raise InputError(f"{name} has {key!r}, which the fitted data lack: they have {listed(names)}")
    return {key: pair for key, pair in given.items() if pair[0] is not None}


def _converted(value: Any, key: str, like: Data, where: str) -> Any:
    """A part in the dtype and on the device of the fitted one, with rows of the same shape."""
    old = like.named[key]
    if like.has_rows(old) and not (isinstance(value, Tensor) and value.shape[1:] == old.shape[1:] and value.dim()):
        shape = f"has shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a {type(value).__name__}"
        fitted = f"{where} {shape}, but the fitted data have rows of shape {tuple(old.shape[1:])}"
        raise InputError(f"{fitted}: give one for each new point")
    if not isinstance(value, Tensor):
        return value
    if isinstance(old, Tensor) and not old.is_floating_point() and torch.equal(value, value.round()):
        return value.to(old)
    floating = value.is_floating_point() or (isinstance(old, Tensor) and old.is_floating_point())
    return value.to(like.like) if floating else value.to(like.like.device)


def _left_out(key: str, like: Data, rows: int | None, model: Model | None, name: str) -> Any:
    """What stands for a part that was not given: the fitted one if it is constant, zeros if it is only observed."""
    old = like.named[key]
    if old is None or (like.rows is not None and not like.has_rows(old)):
        return old
    if rows is None:
        raise InputError(f"{name} lacks {key!r} of the fitted data: give new values for it")
    with like.isolated(0):
        needed = model is not None and not only_observes(model, like.named, key, len(like.args))
    if needed:
        raise InputError(f"{name} lacks {key!r}, which {model_name(model)} does not only observe: give its values")
    return old.new_zeros((rows, *old.shape[1:]))
