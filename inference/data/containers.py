"""Whatever holds data, other libraries' tables and arrays and Python's lists, as pandas, NumPy or torch hold them.

No other library is imported for it: what it is known by is what it offers, `to_pandas`, Arrow's stream or `__array__`.
"""

from array import array
from collections.abc import Iterator
from numbers import Number
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from pandas import DataFrame, Series
from pandas.api.extensions import ExtensionArray
from torch import Tensor
from torch.utils.data import DataLoader

from ... import datasets
from ...errors import InputError
from ...models.structure import one_line
from ..mapped.opened import rows_in
from ..runtime.isolation import untouched
from .arrays import KNOWN, is_missing


class ToPandas(Protocol):
    """A table or array of polars, pyarrow, xarray and others."""

    def to_pandas(self) -> Any:
        """The same as a DataFrame or Series."""


def opened(x: Any, name: str) -> tuple[Any, str]:
    """The rows of a file, a Mapped where they are too many for memory, or of a data set, called by their own name.

    The rows of a DataLoader, a container made plain, and a tuple, which is of several arguments, as it is.
    """
    known = isinstance(x, str) and x in datasets.DATASETS
    found = None if known else rows_in(x, name)
    if isinstance(x, str | Path):
        name = str(x)
        return plain(datasets.load(x) if found is None else found, name), name
    if found is not None:
        return plain(found, name), name
    if isinstance(x, DataLoader):
        return _gathered(x, name), name
    return (x if isinstance(x, tuple) else plain(x, name)), name


def plain(x: Any, where: str) -> Any:
    """A DataFrame, Series, array or tensor of what the container holds; what is no container of data as it is.

    Columns, names and categories are kept; what is missing is NaN, None or NA. Raises InputError for what holds data
    that cannot be laid out: sparse matrices, what can be read once only, and whatever fails as it is read.
    """
    if isinstance(x, DataFrame | Series):
        return _without_arrow(x)
    if isinstance(x, np.ndarray):
        return _plain_array(x, where)
    if isinstance(x, pd.MultiIndex):
        raise InputError(f"{where} is a MultiIndex: give {where}.to_frame(), or one of its levels")
    if isinstance(x, pd.Index | ExtensionArray):
        return _without_arrow(Series(x))
    if isinstance(x, list | tuple | range | array | memoryview) and not hasattr(x, "_fields"):
        return _array_of(x)
    if isinstance(x, Tensor | type):
        return x
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise InputError(f"{where} is a sparse {type(x).__name__}: give {where}.toarray()")
    if hasattr(x, "as_py"):
        return x.as_py()
    found = _of_another_library(x, where)
    if isinstance(found, Iterator):
        raise InputError(f"{where} is a {type(x).__name__}, which can be read once only: give a list of what it yields")
    return found


def _of_another_library(x: Any, where: str) -> Any:
    """What it gives by `to_pandas`, Arrow's stream or `__array__`, the first that works; itself where it has none."""
    failure: Exception | None = None
    for offers, convert in ((("collect", "collect_schema"), _collected), *CONVERSIONS):
        if not all(hasattr(x, method) for method in offers):
            continue
        try:
            found = convert(x)
        except Exception as error:  # of another library
            failure = error
        else:
            return found if found is x else plain(found, where)
    if failure is not None and not hasattr(x, "keys"):  # a Dataset of xarray is a mapping, too
        raise InputError(f"{where} is a {type(x).__name__} that cannot be read ({one_line(failure)}): give {KNOWN}")
    return x


def _collected(x: Any) -> Any:
    """A lazy table, read once into memory."""
    return x.collect()


def _by_pandas(x: Any) -> Any:
    """What pandas is given; an array where its columns have no names, or it has no more than one number."""
    found = x.to_pandas()
    if isinstance(found, DataFrame) and isinstance(found.columns, pd.RangeIndex):
        return np.asarray(x)
    if isinstance(found, Series) and found.dtype == object and (rows := np.asarray(x)).ndim > 1:
        return rows  # of a Series of arrays
    if isinstance(found, Series):
        return found.rename(None if found.name == "" else found.name)
    return found if isinstance(found, DataFrame) else np.asarray(x)


def _by_arrow(x: Any) -> Any:
    """The table of an Arrow stream, of one column too."""
    import pyarrow

    return pyarrow.table(x).to_pandas()


CONVERSIONS = ((("to_pandas",), _by_pandas), (("__arrow_c_stream__",), _by_arrow), (("__array__",), np.asarray))


def _without_arrow(x: DataFrame | Series) -> DataFrame | Series:
    """The same, its columns that Arrow keeps as pandas keeps them by default, dictionaries as categories."""
    if isinstance(x, Series):
        return _of_arrow(x) if isinstance(x.dtype, pd.ArrowDtype) else x
    kept = [i for i, kind in enumerate(x.dtypes) if isinstance(kind, pd.ArrowDtype)]
    x = x.copy(deep=False) if kept else x
    for i in kept:
        x.isetitem(i, _of_arrow(x.iloc[:, i]))
    return x


def _of_arrow(values: Series) -> Series:
    arrow: Any = values.array
    return arrow.__arrow_array__().to_pandas(date_as_object=False).set_axis(values.index).rename(values.name)


def _plain_array(x: np.ndarray, where: str) -> Any:
    """An array without a mask, what it hides missing; the table of a structured one."""
    if x.dtype.names and x.ndim == 1 and not isinstance(x, np.ma.MaskedArray):
        return DataFrame({name: list(x[name]) if x[name].ndim > 1 else x[name] for name in x.dtype.names})
    if x.dtype.kind == "V":
        raise InputError(f"{where} is an array of records of type {x.dtype}: give its fields as columns of a DataFrame")
    if isinstance(x, np.ma.MaskedArray):
        return np.ma.filled(x.astype(float if x.dtype.kind in "biuf" else object), np.nan)
    return x


def _array_of(x: Any) -> Any:
    """The array of numbers, of text, or of lists of one length of them, None or NA what is missing; else itself."""
    try:
        found = np.asarray(x)
        leaves = found.size and (found.dtype.kind in "biufc" or _alike(np.asarray(x, dtype=object).flat))
    except Exception:  # lists of unlike lengths, and whatever an entry has to say
        return x
    if not leaves:
        return x
    return found if found.dtype.kind in "biufcU" else found.astype(object)


def _alike(entries: Any) -> bool:
    """Whether all are numbers, or all text, apart from what is missing, which is not all of it."""
    kinds = {Number if isinstance(entry, Number) else type(entry) for entry in entries if not is_missing(entry)}
    return kinds in ({Number}, {str})


def _gathered(loader: DataLoader, name: str) -> Tensor:
    """Every batch of a loader, end to end, or every row where it gives single ones: (N, ...)."""
    with untouched():  # a loader draws from the generators of all, even for one epoch
        parts = [batch[0] if isinstance(batch, list | tuple) else batch for batch in loader]
    if not all(isinstance(part, Tensor) for part in parts):
        raise InputError(f"{name} is a DataLoader of {type(parts[0]).__name__}s: let it give tensors, or (x, label)")
    if not parts:
        raise InputError(f"{name} is a DataLoader that gives nothing: give at least one row")
    single = loader.batch_size is None and loader.batch_sampler is None and len({part.shape for part in parts}) == 1
    return torch.stack(parts) if single and parts[0].dim() < 2 else torch.cat(parts)
