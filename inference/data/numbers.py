"""The numbers in a table, or the codes of its categories; every bad value is named with its column and row."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pandas import Series
from pandas.api import types
from torch import Tensor

from ...errors import InputError
from .table import Table

__all__ = ["as_codes", "as_numbers", "count", "is_categorical", "listed", "refuse_repeated", "table_numbers"]


def table_numbers(table: Table, name: str) -> tuple[Tensor, str]:
    """The floats of a table that is all of the data; an empty one, or two columns of one name, are refused."""
    n, d = table.frame.shape
    if n == 0 or d == 0:
        raise InputError(f"{name} is empty ({count(n, 'row')}, {count(d, 'column')}): give at least one of each")
    refuse_repeated(table, name)
    return as_numbers(table, [f"{name}: column {column!r}" for column in table.columns])


def refuse_repeated(table: Table, name: str) -> None:
    """Refuse two columns of one name."""
    for column, times in Counter(table.columns).most_common(1):
        if times > 1:
            raise InputError(f"{name} has {times} columns called {column!r}: give each a name of its own")


def as_numbers(table: Table, where: Sequence[str], keep_whole: bool = False) -> tuple[Tensor, str]:
    """The numbers of a table in its shape, and the line that refuses the first missing one, empty where none is.

    where: what to call each column. keep_whole: a table of whole numbers alone becomes int64, else it is float64.
    """
    kinds, missing = table.frame.dtypes, ""
    if keep_whole and all(map(types.is_integer_dtype, kinds)) and not table.frame.isna().to_numpy().any():
        numbers = table.frame.to_numpy(dtype=np.int64)
    elif all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in kinds):
        numbers = table.frame.to_numpy(dtype=float)
    else:
        numbers = np.empty(table.frame.shape)
        for i, place in enumerate(where):
            _refuse_kind(table.frame.iloc[:, i], place)
            numbers[:, i] = table.frame.iloc[:, i].to_numpy(dtype=float, na_value=np.nan)
    for i in (~np.isfinite(numbers).all(0)).nonzero()[0]:
        column = table.frame.iloc[:, i]
        missing = missing or _line(np.isnan(numbers[:, i]), column, where[i], "is missing (NaN)", FILL)
        _refuse(np.isinf(numbers[:, i]), column, where[i], "is infinite", "drop the row or mend the value")
    return torch.tensor(numbers, device=table.device).reshape(table.shape), missing


def is_categorical(values: Series) -> bool:
    """Whether a column is of categories: declared ones, or text none of which spells a number."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return True
    known = values.dropna()
    text = types.is_object_dtype(values) or types.is_string_dtype(values)
    text = text and len(known) > 0 and all(isinstance(value, str) for value in known)
    return text and bool(pd.to_numeric(known, errors="coerce").isna().all())


def as_codes(values: Series, where: str, categories: tuple[str, ...] = ()) -> tuple[Tensor, tuple[str, ...]]:
    """The code of each category, (N,) int64, and the categories: those given, those declared, or the sorted text."""
    _refuse(values.isna().to_numpy(), values, where, "is missing (NaN)", FILL)
    if not categories:
        declared = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else sorted(values.unique())
        categories = tuple(str(category) for category in declared)
    text = values.astype(object).map(str)
    codes = pd.Index(categories, dtype=object).get_indexer(text)
    _refuse(codes < 0, text, where, f"is no category of the fitted data ({listed(categories)})", "drop the row")
    return torch.tensor(codes, dtype=torch.int64), categories


def listed(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def count(number: int, what: str) -> str:
    """So many of something, in words."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


FILL = "drop the row or fill it in"
NAME_IT = ", or make it a parameter of the model by its name"


def _refuse_kind(values: Series, where: str) -> None:
    """Refuse a column that holds no real numbers, pointing at the row that shows it where there is one."""
    kind, named = values.dtype, NAME_IT if is_categorical(values) else ""
    if types.is_object_dtype(kind) or types.is_string_dtype(kind):
        _refuse_text(values, where, named)
    elif types.is_complex_dtype(kind):
        raise InputError(f"{where} holds complex numbers: give real and imaginary parts as two columns")
    elif named or not (types.is_numeric_dtype(kind) or types.is_bool_dtype(kind)):
        raise InputError(f"{where} is of type {kind}: turn it into numbers or drop it{named}")


def _refuse_text(values: Series, where: str, named: str) -> None:
    """Older pandas keep text as objects, newer ones as strings; both may hold numbers, and numbers spelt out."""
    odd = np.array([not isinstance(value, Real | Decimal | np.bool_) for value in values]) & values.notna().to_numpy()
    spelt = pd.to_numeric(values.where([isinstance(value, str) for value in values]), errors="coerce").notna()
    bad = odd & ~spelt.to_numpy(dtype=bool)
    _refuse(bad, values, where, "is not a number", f"mend it or drop the column{named}")
    if odd.any():
        raise InputError(f"{where} holds numbers written as text: convert it with pandas.to_numeric")


def _refuse(bad: NDArray[np.bool_], values: Series, where: str, what: str, mend: str) -> None:
    if line := _line(bad, values, where, what, mend):
        raise InputError(line)


def _line(bad: NDArray[np.bool_], values: Series, where: str, what: str, mend: str) -> str:
    """The line that names the first bad row, empty where none is bad."""
    if not bad.any():
        return ""
    row = int(bad.argmax())
    label = "" if isinstance(values.index, pd.RangeIndex) else f" (label {values.index[row]!r})"
    value = values.iloc[row]
    shown = f" {value!r}" if isinstance(value, str) else ""
    more = f", and {bad.sum() - 1} more" if bad.sum() > 1 else ""
    return f"{where}, row {row}{label}:{shown} {what}{more}; {mend}"
