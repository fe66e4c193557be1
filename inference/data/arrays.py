"""Arrays of every kind laid out as one table, and its numbers; every bad value is named by its place."""

import sys
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from math import prod
from numbers import Number, Rational, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pandas import DataFrame, Series
from pandas.api import types
from torch import Tensor

from ...errors import InputError, count, listed
from ..mapped.columns import are_default, default_columns

FILL = "drop the row or fill it in"
KNOWN = "a DataFrame, an array, a tensor, a list of numbers, or the path of a table"
LARGEST = int(sys.float_info.max)  # of all floats
NARROW = 4  # bytes: of narrower floats NumPy has some only


@dataclass(frozen=True, eq=False)
class Table:
    """Unchecked data, with what is needed to give them their shape back.

    frame: N rows, and a column for each entry of a row. shape: the input's own, N first. name: what messages call it.
    device: the input's own.
    """

    frame: DataFrame
    shape: tuple[int, ...]
    name: str
    device: torch.device = torch.device("cpu")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, as text."""
        return tuple(map(str, self.frame.columns))


def as_table(x: Any, name: str) -> Table:
    """Lay out a DataFrame, Series, array or tensor; an InputError for anything else."""
    if isinstance(x, list | tuple):  # that is no array: its first entry that is no number is named
        x = Series(x, dtype=object)
    if isinstance(x, DataFrame):
        return Table(x, x.shape, name)
    if isinstance(x, Series):
        return Table(x.to_frame("x0" if x.name is None else x.name), x.shape, name)
    if not isinstance(x, Tensor | np.ndarray):
        raise InputError(f"{name} is a {type(x).__name__}: give {KNOWN}")
    device = x.device if isinstance(x, Tensor) else torch.device("cpu")
    x = _numpy_of(x, name) if isinstance(x, Tensor) else np.asarray(x)
    rows = x.reshape(len(x), prod(x.shape[1:])) if x.ndim else x.reshape(1, 1)
    return Table(DataFrame(rows, columns=list(default_columns(rows.shape[1]))), x.shape, name, device)


def _numpy_of(x: Tensor, name: str) -> np.ndarray:
    """The numbers of a tensor as NumPy has them, in float64 where it has no such floats."""
    if x.layout != torch.strided:
        raise InputError(f"{name} is a sparse tensor: give {name}.to_dense()")
    try:
        narrow = x.is_floating_point() and x.dtype.itemsize < NARROW
        return (x.double() if narrow else x).numpy(force=True)
    except (RuntimeError, TypeError) as error:  # quantized, nested, or without data
        raise InputError(f"{name} is a tensor of {x.dtype} that cannot be read: give one of float64") from error


def matched(table: Table, columns: tuple[str, ...]) -> Table:
    """The columns of the fitted data in a DataFrame or Series, in their order; all where one side has no names."""
    lacking = [column for column in columns if column not in table.columns]
    if columns and not lacking:
        frame = table.frame.iloc[:, [table.columns.index(column) for column in columns]]
        return replace(table, frame=frame, shape=frame.shape)
    if lacking and not (are_default(table.columns) or are_default(columns)):
        has = f"its columns are {listed(table.columns)}"
        raise InputError(f"{table.name} lacks column {lacking[0]!r} of the fitted data: {has}")
    return table


def refuse_empty(table: Table) -> None:
    """Refuse a table without rows or columns, and two columns of one name."""
    n, d = table.frame.shape
    if n == 0 or d == 0:
        raise InputError(f"{table.name} is empty ({count(n, 'row')}, {count(d, 'column')}): give at least one of each")
    column, times = Counter(table.columns).most_common(1)[0]
    if times > 1:
        raise InputError(f"{table.name} has {times} columns called {column!r}: give each a name of its own")


def numbers_of(table: Table, part: bool = False) -> tuple[Tensor, str]:
    """The floats of a table in its shape, and the line that refuses the first missing one, empty where none is.

    part: it is one of several arguments. Then it may be empty, whole numbers alone become int64, and a vector has no
    column.
    """
    if not part:
        refuse_empty(table)
    frame, missing = table.frame, ""
    where = [f"{table.name}: column {column!r}" for column in table.columns]
    where = [table.name] if part and len(table.shape) == 1 else where
    if part and all(map(_indexes, frame.dtypes)) and not frame.isna().to_numpy().any():
        numbers = frame.to_numpy(dtype=np.int64)
    elif all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in frame.dtypes):
        with np.errstate(over="ignore"):  # of wider floats, whose infinity is refused
            numbers = frame.to_numpy(dtype=float)
    else:
        numbers = np.empty(frame.shape)
        for i, place in enumerate(where):
            _refuse_kind(frame.iloc[:, i], place)
            numbers[:, i] = _floats(frame.iloc[:, i], place)
    for i in (~np.isfinite(numbers).all(0)).nonzero()[0]:
        column = frame.iloc[:, i]
        missing = missing or _line(np.isnan(numbers[:, i]), column, where[i], "is missing (NaN)", FILL)
        refuse(np.isinf(numbers[:, i]), column, where[i], "is infinite", "drop the row or mend the value")
    return torch.from_numpy(np.array(numbers, order="C")).to(table.device).reshape(table.shape), missing


def _indexes(kind: Any) -> bool:
    """Whether all numbers of this type are whole, and int64 has them."""
    return types.is_integer_dtype(kind) and getattr(kind, "numpy_dtype", kind) != np.uint64


def _floats(values: Series, where: str) -> NDArray[np.float64]:
    """A column in float64, what is missing NaN; a whole number beyond all floats is refused."""
    try:
        return values.to_numpy(dtype=float, na_value=np.nan)
    except OverflowError:
        beyond = values.map(_is_beyond)
        refuse(beyond.to_numpy(bool), values, where, "is beyond all floats", "mend the value")
        raise


def _is_beyond(value: Any) -> bool:
    return isinstance(value, Rational) and bool(abs(value) > LARGEST)  # type: ignore[operator]


def is_categorical(values: Series) -> bool:
    """Whether a column is of categories: declared ones, or text none of which spells a number."""
    kind, known = types.infer_dtype(values), values.dropna()
    text = kind == "string" and len(known) > 0
    return kind == "categorical" or (text and bool(pd.to_numeric(known, errors="coerce").isna().all()))


def _refuse_kind(values: Series, where: str) -> None:
    """Refuse a column that holds no real numbers, pointing at the row that shows it where there is one.

    Older pandas keep text as objects, newer ones as strings; both may hold numbers, and numbers spelt out.
    """
    kind, named = values.dtype, ", or make it a parameter of the model by its name" if is_categorical(values) else ""
    if types.is_object_dtype(kind) or types.is_string_dtype(kind):
        odd = ~values.map(lambda value: isinstance(value, Real | Decimal | np.bool_)) & values.notna()
        spelt = pd.to_numeric(values.where(values.map(lambda value: isinstance(value, str))), errors="coerce").notna()
        refuse((odd & ~spelt).to_numpy(bool), values, where, "is not a number", f"mend it or drop the column{named}")
        if odd.any():
            raise InputError(f"{where} holds numbers written as text: convert it with pandas.to_numeric")
    elif types.is_complex_dtype(kind):
        raise InputError(f"{where} holds complex numbers: give real and imaginary parts as two columns")
    elif named or not (types.is_numeric_dtype(kind) or types.is_bool_dtype(kind)):
        raise InputError(f"{where} is of type {kind}: turn it into numbers or drop it{named}")


def refuse(bad: NDArray[np.bool_], values: Series, where: str, what: str, mend: str) -> None:
    """Raise InputError with the line that names the first bad row, where one is bad."""
    if bad.any():
        raise InputError(_line(bad, values, where, what, mend))


def _line(bad: NDArray[np.bool_], values: Series, where: str, what: str, mend: str) -> str:
    """The line that names the first bad row, empty where none is bad."""
    if not bad.any():
        return ""
    row = int(bad.argmax())
    label = "" if isinstance(values.index, pd.RangeIndex) else f" (label {values.index[[row]].tolist()[0]!r})"
    value = values.iloc[row]
    known = is_missing(value) or isinstance(value, Number)
    shown = f" {value!r}" if isinstance(value, str) else "" if known else f" a {type(value).__name__}"
    more = f", and {bad.sum() - 1} more" if bad.sum() > 1 else ""
    return f"{where}, row {row}{label}:{shown} {what}{more}; {mend}"


def is_missing(entry: Any) -> bool:
    """Whether an entry stands for nothing; NaN is a number."""
    return entry is None or entry is pd.NA or entry is pd.NaT
