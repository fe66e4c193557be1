"""The parts of data of several arguments: each by its name, checked, with the columns and categories it came with."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from .arrays import as_part, as_table, refuse_empty
from .data import Data, default_columns

Arguments: TypeAlias = dict[str, tuple[Any, str]]


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
