"""The parts of data of several arguments: each by its name, checked, with the columns and categories it came with."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from pandas import DataFrame, Series
from torch import Tensor

from ...errors import InputError, listed
from ..mapped.columns import default_columns
from ..mapped.opened import rows_in
from ..mapped.tensor import Mapped
from .arrays import FILL, KNOWN, as_table, is_categorical, matched, numbers_of, refuse, refuse_empty
from .containers import plain
from .data import Data

Arguments: TypeAlias = dict[str, tuple[Any, str]]


class Part(NamedTuple):
    """One argument, checked: its columns where it is a table, its categories where it holds their codes.

    missing: the line that refuses the first missing value, empty where none is.
    """

    value: Any
    columns: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    missing: str = ""


def arguments_in(x: Any, names: Sequence[str], name: str) -> Arguments:
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


def several(given: Arguments, positional: tuple[str, ...], like: Data | None = None) -> Data:
    """Several arguments, some of them by position, with the columns and categories of the fitted data where known."""
    like = like or Data()
    parts = {
        key: _part(value, where, like.tables.get(key, ()), like.coords.get(key, ()))
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


def _part(value: Any, where: str, columns: tuple[str, ...] = (), categories: tuple[str, ...] = ()) -> Part:
    """An argument as the model shall have it: arrays as tensors, categories as codes, anything else untouched.

    where: what messages call it. columns, categories: those of the fitted data, where there are any.
    """
    if isinstance(value, np.memmap) and isinstance(found := rows_in(value, where), Mapped):
        return Part(found.changed(dtype=torch.int64) if value.dtype.kind in "iu" else found)
    value = plain(value, where)
    if not isinstance(value, DataFrame | Series | np.ndarray | np.generic | Tensor):
        if hasattr(value, "__array__") and not isinstance(value, type):
            raise InputError(f"{where} is a {type(value).__name__}: give {KNOWN}")
        return Part(value)
    if not value.ndim:
        return Part(value.detach() if isinstance(value, Tensor) else value.item())
    table, named = as_table(value, where), isinstance(value, DataFrame)
    if len(table.shape) == 1 and (categories or is_categorical(table.frame.iloc[:, 0])):
        return _codes(table.frame.iloc[:, 0], where, categories)
    if named:
        refuse_empty(table)
        table = matched(table, columns)
    numbers, missing = numbers_of(table, part=True)
    return Part(numbers, table.columns if named else (), missing=missing)


def _codes(values: Series, where: str, categories: tuple[str, ...]) -> Part:
    """The code of each category, (N,) int64, and the categories: those given, those declared, or the sorted text."""
    refuse(values.isna().to_numpy(), values, where, "is missing (NaN)", FILL)
    if not categories:
        declared = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else sorted(values.unique())
        categories = tuple(map(str, declared))
    if len(set(categories)) < len(categories):
        twice = Counter(categories).most_common(1)[0][0]
        raise InputError(f"{where} has two categories that are written {twice!r}: give each a name of its own")
    text = values.astype(object).map(str)
    codes = pd.Index(categories, dtype=object).get_indexer(text)
    refuse(codes < 0, text, where, f"is no category of the fitted data ({listed(categories)})", "drop the row")
    return Part(torch.tensor(codes, dtype=torch.int64), categories=categories)
