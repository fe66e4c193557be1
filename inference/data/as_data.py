"""The data's door: what a user hands in, checked and made the arguments of a model."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from pandas import DataFrame, Series
from torch import Tensor
from torch.utils.data import DataLoader

from ...errors import InputError
from ...models.arguments import Parameters, parameters_of
from ...models.structure import Structure, model_name
from .arrays import as_part, as_table, count, default_columns, listed, numbers_of, opened, refuse_empty
from .data import Data, structure_on

DataLike: TypeAlias = (
    DataFrame | Series | np.ndarray | Tensor | DataLoader | str | Path | tuple[Any, ...] | Mapping[str, Any] | Data
)
Model: TypeAlias = Callable[..., Any]
Arguments: TypeAlias = dict[str, tuple[Any, str]]


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
    if isinstance(x, Data):
        return x if dtype is None else x.to(dtype)
    x, name = opened(x, name)
    parameters = parameters_of(model)
    if isinstance(x, tuple | Mapping) or (isinstance(x, DataFrame) and _is_by_name(x, parameters)):
        given = arguments(x, parameters.names, name)
        _refuse_unfit(x, given, parameters, model, name)
        if len(given) > 1 or not hasattr(model, "prepare"):
            return _several(given, tuple(given) if isinstance(x, tuple) else ()).to(dtype or torch.float64)
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
        values = refuse_bad(model, "prepare", name, values, table.columns)
    names = parameters.names[:1] or ("x",)
    data = Data((values,), columns=table.columns, names=names, missing=missing, floating=values.dtype)
    return data if dtype is None else data.to(dtype)


def data_for(model: Model, x: DataLike, dtype: torch.dtype | None = None) -> tuple[Data, Structure]:
    """What a user handed in as the model takes it, its rows known, and the structure of the model on all of them."""
    data = as_data(x, model, dtype=dtype)
    structure = structure_on(model, data)
    if structure.subsampled:
        mend = "write it as def model(x, batch_size=None), so that it can be scored on all of them"
        raise InputError(f"model {model_name(model)} always looks at some rows only: {mend}")
    rows = structure.rows.full_size if structure.rows else None
    return replace(data, rows=rows, mixed=structure.mixed), structure


def refuse_bad(model: Model | None, check: str, name: str, *values: Any) -> Any:
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
    refuse_empty(table)
    found = {key: table.columns.index(key) for key in names if key in table.columns}
    return {key: (x.iloc[:, i], f"{name}: column {key!r}") for key, i in found.items()}


def _several(given: Arguments, positional: tuple[str, ...]) -> Data:
    """The several arguments of a model, some of them by position."""
    parts = {key: as_part(value, where) for key, (value, where) in given.items()}
    return Data(
        args=tuple(parts[key].value for key in positional),
        kwargs={key: part.value for key, part in parts.items() if key not in positional},
        names=positional,
        tables={key: part.columns for key, part in parts.items() if part.columns},
        coords={key: part.categories for key, part in parts.items() if part.categories},
        missing=next((part.missing for part in parts.values() if part.missing), ""),
    )
