"""What a user hands in, checked and turned into a tensor. Every bad input is named here."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from math import prod
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from pandas import DataFrame, Series
from pandas.api import types
from torch import Tensor
from torch.utils.data import DataLoader

from ... import datasets
from ...errors import InputError
from .data import Data
from .table import Table, as_table, default_columns

__all__ = ["DataLike", "as_data", "as_new_data"]


DataLike: TypeAlias = DataFrame | Series | np.ndarray | Tensor | DataLoader | str | Path | Data


def as_data(
    x: DataLike,
    model: Any = None,
    *,
    dtype: torch.dtype | None = None,
    components: int | None = None,
    columns: tuple[str, ...] | None = None,
    constant_ok: bool = False,
    ndim: tuple[int, ...] = (1, 2),
    name: str = "x",
) -> Data:
    """Check `x` and copy it into a tensor; the caller's own data are neither changed nor shared.

    Parameters
    ----------
    x
        A DataFrame, array or tensor of N rows and D columns; a Series or vector of N values, which stays a vector; or
        the name or path of a table, for `pyrometer.datasets.load`; a DataLoader is read once, into memory, the first
        of each pair where it gives pairs (x, label). Integers and booleans become floats.
    dtype
        The tensor's dtype. It lies on the device of `x` where that is a tensor, else on the CPU.
    components
        At least so many rows are demanded.
    columns
        Names to use in place of the input's own.
    constant_ok
        Accept columns that hold one value only, and a single row.
    ndim
        The numbers of dimensions that are accepted. Beyond two, as in ``(N, C, H, W)``, ``columns`` names the entries
        of one flattened row.
    name
        What error messages call `x`. A path or name is called what it is.

    Raises
    ------
    InputError
        Missing, infinite, text, complex or date values, an empty table, a constant column, two columns of one name,
        fewer rows than components, or a wrong number of dimensions. Rows are counted from 0.

    Examples
    --------
    >>> as_data("faithful", components=2).columns
    ('eruptions', 'waiting')
    """
    if isinstance(x, Data):
        return x
    if isinstance(x, tuple):
        return Data(tuple(torch.as_tensor(np.asarray(v)) for v in x))
    if isinstance(x, dict):
        return Data((), {k: torch.as_tensor(np.asarray(v)) for k, v in x.items()})
    components = components or getattr(model, "components", None)
    if hasattr(model, "latent"):
        ndim, constant_ok, dtype = (2, 3, 4), True, model.dtype
    dtype = dtype or torch.float64
    table, name = _open(x, name)
    if len(table.shape) not in ndim:
        raise InputError(_wrong_dimensions(table, ndim, name))
    if columns is not None and len(columns) != len(table.columns):
        raise InputError(f"{name} has {_count(len(table.columns), 'column')}, but {len(columns)} names were given")
    table = table if columns is None else table.rename(columns)
    values = _checked(table, dtype, name)
    if components is not None and len(values) < components:
        raise InputError(
            f"{name} has {_count(len(values), 'row')}, fewer than {components} components: ask for fewer components"
        )
    if not constant_ok:
        _refuse_constant(values, table.columns, name)
    return Data((values.reshape(table.shape),), columns=table.columns)


def as_new_data(x: DataLike, like: Data, model: Any = None, *, name: str = "x_new") -> Data:
    """Check `x` against the data that were fitted, and bring it to their columns, shape, dtype and device.

    Columns are matched by name, in whatever order they come, and further ones are left aside; by position where one
    side has no names. Few rows and constant columns are welcome.

    Returns
    -------
    Tensor
        (M, D), or (M,) if the fitted data are a vector.

    Raises
    ------
    InputError
        As `as_data`, or a column of the fitted data is missing, or the rows are of another length.
    """
    if isinstance(x, Data):
        return x
    if isinstance(x, tuple):
        return replace(like, args=tuple(torch.as_tensor(np.asarray(v)) for v in x), rows=len(x[0]))
    table, name = _open(x, name)
    table = _matched(table, like, name)
    if len(table.shape) == 0 or prod(table.shape[1:]) != len(like.columns):
        raise InputError(
            f"{name} has shape {table.shape}, but the fitted data have {_count(len(like.columns), 'column')} "
            f"({_list(like.columns)}): give one row for each new point"
        )
    values = _checked(table, like.values.dtype, name)
    values = values.reshape(-1, *like.values.shape[1:]).to(like.values.device)
    return replace(like, args=(values,), rows=len(values))


def _open(x: DataLike, name: str) -> tuple[Table, str]:
    """The table, and what to call it: a file or data set by its own name."""
    if isinstance(x, str | Path):
        return as_table(datasets.load(x), str(x)), str(x)
    if isinstance(x, Data):
        return as_table(x.values, name).rename(x.columns), name
    if isinstance(x, DataLoader):
        return as_table(_gathered(x, name), name), name
    return as_table(x, name), name


def _gathered(loader: DataLoader, name: str) -> Tensor:
    """Every batch of a loader, end to end: (N, ...)."""
    parts = [batch[0] if isinstance(batch, list | tuple) else batch for batch in loader]
    if not all(isinstance(part, Tensor) for part in parts):
        raise InputError(f"{name} is a DataLoader of {type(parts[0]).__name__}s: let it give tensors, or (x, label)")
    if not parts:
        raise InputError(f"{name} is a DataLoader that gives nothing: give at least one row")
    return torch.cat(parts)


def _matched(table: Table, like: Data, name: str) -> Table:
    """The columns of `like`, in their order."""
    missing = [column for column in like.columns if column not in table.columns]
    if not missing:
        frame = table.rename(table.columns).frame[list(like.columns)]
        return Table(frame, frame.shape, table.device)
    if default_columns(len(table.columns)) == table.columns or default_columns(len(like.columns)) == like.columns:
        return table
    raise InputError(f"{name} lacks column {missing[0]!r} of the fitted data: its columns are {_list(table.columns)}")


def _checked(table: Table, dtype: torch.dtype, name: str) -> Tensor:
    """The (N, D) tensor of a table in which every value is a finite number."""
    n, d = table.frame.shape
    if n == 0 or d == 0:
        raise InputError(f"{name} is empty ({_count(n, 'row')}, {_count(d, 'column')}): give at least one of each")
    column, times = Counter(table.columns).most_common(1)[0]
    if times > 1:
        raise InputError(f"{name} has {times} columns called {column!r}: give each a name of its own")
    numbers = np.empty((n, d))
    for i, column in enumerate(table.columns):
        numbers[:, i] = _numbers(table.frame.iloc[:, i], f"{name}: column {column!r}")
    return torch.tensor(numbers, dtype=dtype, device=table.device)


def _numbers(values: Series, where: str) -> np.ndarray:
    _refuse_kind(values, where)
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    _refuse_rows(np.isnan(numbers), values, where, "is missing (NaN)", "drop the row or fill it in")
    _refuse_rows(np.isinf(numbers), values, where, "is infinite", "drop the row or mend the value")
    return numbers


def _refuse_kind(values: Series, where: str) -> None:
    """Refuse a column that holds no real numbers, pointing at the row that shows it where there is one."""
    kind = values.dtype
    if types.is_object_dtype(kind) or types.is_string_dtype(kind):
        _refuse_text(values, where)
    elif types.is_complex_dtype(kind):
        raise InputError(f"{where} holds complex numbers: give real and imaginary parts as two columns")
    elif isinstance(kind, pd.CategoricalDtype) or not (types.is_numeric_dtype(kind) or types.is_bool_dtype(kind)):
        raise InputError(f"{where} is of type {kind}: turn it into numbers or drop it")


def _refuse_text(values: Series, where: str) -> None:
    """Older pandas keep text as objects, newer ones as strings; both may hold numbers, and numbers spelt out."""
    odd = np.array([not isinstance(value, Real | Decimal | np.bool_) for value in values]) & values.notna().to_numpy()
    spelt = pd.to_numeric(values.where([isinstance(value, str) for value in values]), errors="coerce").notna()
    _refuse_rows(odd & ~spelt.to_numpy(dtype=bool), values, where, "is not a number", "mend it or drop the column")
    if odd.any():
        raise InputError(f"{where} holds numbers written as text: convert it with pandas.to_numeric")


def _refuse_rows(bad: np.ndarray, values: Series, where: str, what: str, mend: str) -> None:
    if not bad.any():
        return
    row = int(bad.argmax())
    label = "" if isinstance(values.index, pd.RangeIndex) else f" (label {values.index[row]!r})"
    value = values.iloc[row]
    shown = f" {value!r}" if isinstance(value, str) else ""
    more = f", and {bad.sum() - 1} more" if bad.sum() > 1 else ""
    raise InputError(f"{where}, row {row}{label}:{shown} {what}{more}; {mend}")


def _refuse_constant(values: Tensor, columns: tuple[str, ...], name: str) -> None:
    if len(values) == 1:
        raise InputError(f"{name} has one row: give at least two")
    for d in (values == values[0]).all(0).nonzero().flatten().tolist():
        raise InputError(f"{name}: column {columns[d]!r} is {values[0, d].item():g} in every row: drop it")


def _wrong_dimensions(table: Table, ndim: tuple[int, ...], name: str) -> str:
    wanted = " or ".join(str(number) for number in ndim)
    mend = f"; flatten each row with {name}.reshape(len({name}), -1)" if len(table.shape) > 2 else ""
    return f"{name} has {_count(len(table.shape), 'dimension')}, shape {table.shape}, but needs {wanted}{mend}"


def _list(columns: tuple[str, ...]) -> str:
    return ", ".join(columns[:6]) + (", ..." if len(columns) > 6 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
