"""The data's door: what a user hands in, checked and made the arguments of a model; new rows, those of a fitted one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from pandas import DataFrame, Series
from torch import Tensor
from torch.utils.data import DataLoader

from ...errors import InputError
from ...models.arguments import Parameters, only_observes, parameters_of
from ...models.structure import Model, Structure, model_name
from ..runtime.isolation import SMALL
from .arrays import as_part, as_table, count, default_columns, listed, matched, numbers_of, opened, refuse_empty
from .data import Data, structure_on
from .strings import strings_of

DataLike: TypeAlias = (
    DataFrame
    | Series
    | np.ndarray
    | Tensor
    | DataLoader
    | str
    | Path
    | list[str]
    | tuple[Any, ...]
    | Mapping[str, Any]
    | Data
)
Arguments: TypeAlias = dict[str, tuple[Any, str]]
FLOATS = (torch.float32, torch.float64)
RUNS = 6  # of a model, whose sites must be the same
MARGIN = 1e3  # below the largest number that has a square


def as_data(x: DataLike, model: Model | None = None, *, dtype: torch.dtype | None = None, name: str = "x") -> Data:
    """Check `x` and make it the arguments of `model`; the caller's own data are neither changed nor shared.

    Parameters
    ----------
    x
        One table: a DataFrame, array or tensor of N rows, a Series or vector, which stays a vector, the name or path
        of a table, for `pyrometer.datasets.load`, or a DataLoader, read once into memory, the first of each pair where
        it gives pairs (x, label). All its numbers become floats.
        Several arguments: a tuple, by position; a mapping, by the parameters' names; or a DataFrame whose columns have
        the names of the parameters, where the model requires two or more of them, or where all that it requires and
        at least two of its parameters are columns; further columns are left aside. There whole numbers stay int64,
        for they may index, text and categoricals become int64 codes, and what is neither an array nor a list of
        numbers is handed on untouched.
        For a model of strings, which has a `codes(strings, name)`: a list or Series of them, a DataFrame of one
        column, the name of a data set, or the path of a table or of a file with one string a line.
        Data that were made here come back as they are.
    model
        The program that they are for. One with a `prepare(values, columns)` is given a single table to check and
        convert.
    dtype
        Of the floating arrays; float64 where it is None, or what `prepare` gives. They lie on the device of the
        tensors that were given, else on the CPU.
    name
        What error messages call `x`. A path or name is called what it is.

    Raises
    ------
    InputError
        Infinite, text, complex or date values, a missing category, an empty table, two columns of one name, a
        parameter without data or data without a parameter, and whatever `prepare` refuses. Rows are counted from 0. A
        missing value is refused where the model has a `prepare`; otherwise it stays, as NaN, and `Data.missing` has the
        line that refuses it, for the model may mask it.

    Examples
    --------
    >>> as_data("faithful").columns
    ('eruptions', 'waiting')
    >>> as_data({"y": np.ones(3), "n": 3}).kwargs["n"]
    3
    """
    if dtype is not None and dtype not in FLOATS:
        raise InputError(f"dtype={dtype} cannot be computed in: choose torch.float32 or torch.float64")
    if model is not None and not callable(model):
        raise InputError(
            f"model is a {type(model).__name__}, which cannot be called: give a Pyro program, then its data"
        )
    return _within_range(_as_data(x, model, dtype, name), name)


def _as_data(x: DataLike, model: Model | None, dtype: torch.dtype | None, name: str) -> Data:
    """As `as_data`, without a look at the numbers' size."""
    if isinstance(x, Data):
        return x if dtype is None else x.to(dtype)
    if model is not None and hasattr(model, "codes"):
        codes = model.codes(*strings_of(x, name))
        return Data((codes,), names=parameters_of(model).names[:1], floating=codes.dtype).to(dtype or codes.dtype)
    x, name = opened(x, name)
    parameters = parameters_of(model)
    if isinstance(x, tuple | Mapping) or (isinstance(x, DataFrame) and _is_by_name(x, parameters)):
        given = _arguments(x, parameters.names, name)
        _refuse_unfit(x, given, parameters, model, name)
        if len(given) > 1 or not hasattr(model, "prepare"):
            own = getattr(model, "dtype", None)
            floating = dtype or (own if isinstance(own, torch.dtype) else torch.float64)
            return _several(given, tuple(given) if isinstance(x, tuple) else ()).to(floating)
        x = next(iter(given.values()))[0]
    if len(parameters.required) > 1:
        wanted = f"{model_name(model)} takes {listed(parameters.required)}"
        raise InputError(f"{name} is one array, but {wanted}: give a tuple or a mapping of them")
    table = as_table(x, name)
    if not table.shape:
        raise InputError(f"{name} has 0 dimensions, shape (), but needs 1 or more")
    values, missing = numbers_of(table)
    if hasattr(model, "prepare"):
        if missing:
            raise InputError(missing)
        values = _checked_by(model, "prepare", name, values, table.columns)
    names = parameters.names[:1] or ("x",)
    data = Data((values,), columns=table.columns, names=names, missing=missing, floating=values.dtype)
    return data if dtype is None else data.to(dtype)


def data_for(model: Model, x: DataLike, dtype: torch.dtype | None = None) -> tuple[Data, Structure]:
    """What a user handed in as the model takes it, its rows known, and the structure of the model on all of them."""
    data = as_data(x, model, dtype=dtype)
    structure = structure_on(model, data)
    if not structure.of_kind("latent", "discrete", "param"):
        raise InputError(f"model {model_name(model)} has no latent site and no param: there is nothing to fit")
    if not isinstance(x, Data) and data.numel < SMALL:
        _refuse_other_sites(model, data, structure)
    if structure.subsampled:
        mend = "write it as def model(x, batch_size=None), so that it can be scored on all of them"
        raise InputError(f"model {model_name(model)} always looks at some rows only: {mend}")
    rows = structure.rows.full_size if structure.rows else None
    return replace(data, rows=rows, mixed=structure.mixed), structure


def _within_range(data: Data, name: str) -> Data:
    """The data, refused where a number is too large for its square to be one, or a model wants too few digits."""
    if data.dtype not in FLOATS:
        raise InputError(f"{name} is to be in {data.dtype}, which cannot be computed in: take float32 or float64")
    for key, value in data.named.items():
        if not (isinstance(value, Tensor) and value.is_floating_point() and value.numel()):
            continue
        limit = torch.finfo(value.dtype).max ** 0.5 / MARGIN
        if all(abs(end) <= limit for end in value.nan_to_num().aminmax()):
            continue
        at = (value.nan_to_num().abs() > limit).nonzero()[0].tolist()
        column = f": column {data.columns[at[1]]!r}" if len(at) == 2 and len(data.columns) > 1 else ""
        where = f"{name if len(data.named) == 1 else key}{column}, row {at[0] if at else 0}"
        has = f"{value[tuple(at)].item():.3g} is too large to compute with in {value.dtype}"
        raise InputError(f"{where}: {has}; rescale the column or mend the value")
    return data


def _refuse_other_sites(model: Model, data: Data, structure: Structure) -> None:
    """Refuse a model that has other sites from run to run, by a branch that a draw decides."""
    shapes = {site.name: site.shape for site in structure.sites}
    for seed in range(1, RUNS):
        try:
            others = {site.name: site.shape for site in structure_on(model, data, seed).sites}
        except InputError:  # a draw at which it cannot be run is no branch
            continue
        if odd := [name for name in {**shapes, **others} if shapes.get(name) != others.get(name)]:
            what = f"site {odd[0]!r} of model {model_name(model)} is there, or of its shape, in some runs only"
            raise InputError(f"{what}: write the branch that a draw decides as a mixture, or with a mask")


def _checked_by(model: Model | None, check: str, name: str, *values: Any) -> Any:
    """What a check of the model gives for the values, its `x` called by that name in what it refuses them with."""
    try:
        return getattr(model, check)(*values)
    except InputError as error:
        raise InputError(re.sub(r"(?<!')\bx\b(?!')", lambda _: name, str(error))) from error


def _is_by_name(frame: DataFrame, parameters: Parameters) -> bool:
    """Whether the columns of a table go to the parameters of their names, rather than as one matrix to one of them."""
    columns = {str(column) for column in frame.columns}
    found = columns.intersection(parameters.names)
    return len(parameters.required) > 1 or (len(found) > 1 and found.issuperset(parameters.required))


def _refuse_unfit(x: Any, given: Arguments, parameters: Parameters, model: Model | None, name: str) -> None:
    """Refuse data without a parameter, and a parameter without data."""
    takes = listed(parameters.names)
    unknown = [key for key in given if key not in parameters.names and not parameters.open]
    if unknown and isinstance(x, tuple):
        raise InputError(f"{name} has {count(len(x), 'part')}, but {model_name(model)} takes {takes}")
    if unknown:
        raise InputError(f"{name} has {unknown[0]!r}, which is no parameter of {model_name(model)}: it takes {takes}")
    for key in parameters.required:
        if key not in given:
            has = listed([str(column) for column in x.columns] if isinstance(x, DataFrame) else list(given))
            raise InputError(f"{name} lacks {key!r}, a parameter of {model_name(model)}: it has {has or 'nothing'}")


def _arguments(x: Any, names: Sequence[str], name: str) -> Arguments:
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
    refuse_empty(table)
    found = {key: table.columns.index(key) for key in names if key in table.columns}
    return {key: (x.iloc[:, i], f"{name}: column {key!r}") for key, i in found.items()}


def _several(given: Arguments, positional: tuple[str, ...], like: Data | None = None) -> Data:
    """Several arguments, some of them by position, with the columns and categories of the fitted data where known."""
    like = like or Data()
    parts = {
        key: as_part(value, where, like.tables.get(key, ()), like.coords.get(key, ()))
        for key, (value, where) in given.items()
    }
    return Data(
        args=tuple(parts[key].value for key in positional),
        kwargs={key: part.value for key, part in parts.items() if key not in positional},
        names=positional,
        tables={key: part.columns for key, part in parts.items() if part.columns},
        coords={key: part.categories for key, part in parts.items() if part.categories},
        missing=next((part.missing for part in parts.values() if part.missing), ""),
    )


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
    return _within_range(_as_new_data(x, like, model, name), name)


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
    found = _several(given, (), like)
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
    values = values.reshape(-1, *row).to(like.values)
    if hasattr(model, "check"):
        _checked_by(model, "check", name, values)
    return replace(like, args=(values,), rows=None if like.rows is None else len(values), missing=missing)


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
    given = _arguments(x, names, name)
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
