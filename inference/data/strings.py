"""Strings of every kind that a user hands in, as a list."""

from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, Series

from ... import datasets
from ...errors import InputError, check_path, listed
from .arrays import is_missing
from .containers import plain


def strings_of(x: Any, name: str) -> tuple[list[str], str]:
    """A list of strings, and what messages are to call it.

    x: a list, tuple or array of str, a Series or a DataFrame's one column, of any library, the name of a data set, or
    the path of a table of one column or of a file with one string a line. Raises InputError for anything else, for a
    missing value and where there is nothing.
    """
    if isinstance(x, str | Path):
        x, name = table_of_strings(x), str(x)
    x = x if isinstance(x, list | tuple) else plain(x, name)
    if isinstance(x, DataFrame):
        if x.shape[1] != 1:
            columns = listed([*map(str, x.columns)])
            raise InputError(f"{name} has {x.shape[1]} columns ({columns}): choose the one that holds the strings")
        x = x.iloc[:, 0]
    if not isinstance(x, list | tuple | Series | np.ndarray) or getattr(x, "ndim", 1) != 1:
        raise InputError(
            f"{name} is a {type(x).__name__}: give a list of strings, a column, or the path of a text file"
        )
    strings = list(x)
    if not strings:
        raise InputError(f"{name} is empty: give at least one string")
    for row, string in enumerate(strings):
        if not isinstance(string, str):
            missing = is_missing(string) or (isinstance(string, float) and np.isnan(string))
            what = "is missing" if missing else f"is of type {type(string).__name__} and no string"
            raise InputError(f"{name}, row {row} {what}: drop the row or mend it")
    return [str(string) for string in strings], name


def table_of_strings(name_or_path: str | Path) -> DataFrame:
    """A data set by its name, a table by its path, or the lines of any other file: a column ``string``."""
    path, known = check_path(name_or_path), isinstance(name_or_path, str) and name_or_path in datasets.DATASETS
    if known or path.suffix.lower() in datasets.SUFFIXES:
        return datasets.load(name_or_path)
    if isinstance(name_or_path, str) and not path.exists() and path.name == name_or_path and not path.suffix:
        raise InputError(f"{name_or_path!r} is no data set and no file: give a path, or a list of strings")
    return datasets.read_strings(path).to_frame()
