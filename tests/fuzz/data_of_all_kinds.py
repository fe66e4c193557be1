"""Data as they come: a table of numbers with odd ones among them, in a container of any kind, whole or in parts."""

from __future__ import annotations

import datetime as dt
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import scipy.sparse as sp
import torch
import xarray as xr
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

NAMES = ["x", "y", "a", "x0", "größe", "$x_{$", "a\nb", "", "1", "chain", "n" * 400, "x"]
ODD_NUMBERS = [np.nan, np.inf, -np.inf, 1e200, -1e308, 1e150, 1e-300, 5e-324, -0.0, 1e8, 2.0**63, 16777217.0]
ODD_ENTRIES = [
    None,
    pd.NA,
    pd.NaT,
    "",
    "a",
    "1",
    "nan",
    1j,
    10**400,
    -(2**70),
    True,
    b"x",
    [1],
    {},
    dt.date(2020, 1, 1),
]
ODD_ENTRIES += [Decimal("NaN"), Decimal("sNaN"), Decimal("1e400"), Fraction(10**400, 3), np.datetime64("NaT"), object]


def names_of(x: np.ndarray) -> list[str]:
    """Columns a, b, c, ..."""
    return [chr(97 + i) if i < 26 else f"c{i}" for i in range(_flat(x).shape[1])]


def frame(x: np.ndarray) -> pd.DataFrame:
    """A column for each entry of a row."""
    return pd.DataFrame(_flat(x), columns=names_of(x))


def series(x: np.ndarray) -> pd.Series:
    """Its first column."""
    return pd.Series(first(x), name="x")


def first(x: np.ndarray) -> np.ndarray:
    """Its first column."""
    return x.reshape(len(x), -1)[:, 0] if x.size else x.reshape(-1)


def nullable(x: np.ndarray) -> pd.DataFrame:
    """Whole numbers that may be missing."""
    return pd.DataFrame({name: pd.array(_whole(column), dtype="Int64") for name, column in _columns(x)})


def records(x: np.ndarray) -> np.ndarray:
    """A structured array."""
    made = np.empty(len(x), dtype=[(name, float) for name in names_of(x)])
    for name, column in _columns(x):
        made[name] = column
    return made


def _columns(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    return zip(names_of(x), _flat(x).T, strict=True)


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _whole(values: np.ndarray) -> list[int | None]:
    return [int(value) if abs(value) < 2**62 else None for value in values]


def _read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.setflags(write=False)
    return x


def _letters(x: np.ndarray) -> list[str]:
    return ["uvw"[int(value) % 3] if np.isfinite(value) else "u" for value in first(x)]


def _with_nan(x: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_invalid(x)


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": np.copy,
    "frame": frame,
    "series": series,
    "tensor": torch.tensor,
    "vector": first,
    "lists": np.ndarray.tolist,
    "list": lambda x: first(x).tolist(),
    "tuple": lambda x: tuple(first(x).tolist()),
    "nullable": nullable,
    "boolean": lambda x: pd.DataFrame({"a": pd.array([*(first(x) > 0).tolist(), None][: len(x)], dtype="boolean")}),
    "Float64": lambda x: frame(x).convert_dtypes(),
    "Arrow in pandas": lambda x: frame(x).convert_dtypes(dtype_backend="pyarrow"),
    "pyarrow": lambda x: pa.Table.from_pandas(frame(x)),
    "a batch": lambda x: pa.RecordBatch.from_pandas(frame(x)),
    "an array of pyarrow": lambda x: pa.array(first(x), from_pandas=True),
    "polars": lambda x: pl.from_pandas(frame(x)),
    "polars, lazy": lambda x: pl.from_pandas(frame(x)).lazy(),
    "a Series of polars": lambda x: pl.Series("x", first(x).tolist()),
    "xarray": lambda x: xr.DataArray(x),
    "xarray, named": lambda x: xr.DataArray(frame(x)) if x.ndim == 2 else xr.DataArray(x, name="x"),
    "a Dataset": lambda x: xr.Dataset({name: ("row", column) for name, column in _columns(x)}),
    "objects": lambda x: x.astype(object),
    "records": records,
    "masked": _with_nan,
    "Fortran": lambda x: np.asfortranarray(x)[::-1],
    "big-endian": lambda x: x.astype(">f8"),
    "read only": _read_only,
    "half": lambda x: torch.tensor(x).to(torch.bfloat16),
    "float16": lambda x: torch.tensor(x).to(torch.float16),
    "float32": lambda x: torch.tensor(x).to(torch.float32),
    "long": lambda x: x.astype(np.longdouble),
    "whole": lambda x: np.array([value or 0 for value in _whole(first(x))]),
    "uint64": lambda x: np.array([abs(value or 2**63) for value in _whole(first(x))], dtype=np.uint64),
    "bools": lambda x: x > 0,
    "complex": lambda x: x + 1j,
    "levels": lambda x: frame(x).set_axis(pd.MultiIndex.from_product([["a"], names_of(x)]), axis=1),
    "labels that repeat": lambda x: frame(x).set_index(pd.Index(["r"] * len(x))),
    "dates as labels": lambda x: frame(x).set_index(pd.date_range("2020", periods=len(x))),
    "categories": lambda x: pd.Categorical(_letters(x)),
    "letters": _letters,
    "a dictionary": lambda x: pa.array(_letters(x)).dictionary_encode(),
    "a column of categories": lambda x: frame(x).assign(a=pd.Series(_letters(x), dtype="category")),
    "dates": lambda x: pd.Series(pd.date_range("2020", periods=len(x))),
    "sparse": lambda x: sp.csr_matrix(_flat(x)),
    "a sparse tensor": lambda x: torch.tensor(x).to_sparse(),
    "a generator": lambda x: (row for row in x),
    "a set": lambda x: set(first(x).tolist()),
    "a buffer": lambda x: memoryview(np.ascontiguousarray(x)),  # type: ignore[arg-type]
    "an array of Python's": lambda x: array("d", first(x).tolist()),
    "a loader": lambda x: DataLoader(TensorDataset(torch.tensor(x)), batch_size=3),
    "a dict of lists": lambda x: {name: column.tolist() for name, column in _columns(x)},
    "an Index": lambda x: pd.Index(first(x)),
    "a number": lambda x: x.sum(),
    "no dimension": lambda x: np.array(x.sum()),
    "bytes": np.ndarray.tobytes,
    "nothing": lambda x: None,
    "a type": type,
    "a path": lambda x: "no/such.csv",
    "a name": lambda x: "faithful",
    "nan": lambda x: float("nan"),
}
PLAIN = ["array", "frame", "tensor", "vector"]


@dataclass(frozen=True)
class Given:
    """What is handed in, and how it was made. names: instead of the columns' own. entries: put into a column."""

    kind: str
    shape: tuple[int, ...]
    seed: int
    scale: float = 1.0
    odd: tuple[tuple[int, float], ...] = ()
    entries: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()

    def made(self) -> Any:
        """The container."""
        x = np.random.default_rng(self.seed).standard_normal(self.shape) * self.scale
        for place, value in self.odd:
            if x.size:
                x.flat[place % x.size] = value
        if not self.entries and not self.names:
            with np.errstate(all="ignore"):
                return KINDS[self.kind](x)
        table = frame(x)
        table = table.set_axis([*self.names, *table.columns][: table.shape[1]], axis=1) if self.names else table
        for place, entry in enumerate(self.entries):
            if table.size:
                column = table.iloc[:, 0].astype(object)
                column.iloc[place % len(column)] = entry if not isinstance(entry, list) else tuple(entry)
                table.isetitem(0, column)
        return table


@st.composite
def given_data(draw: st.DrawFn, columns: int | None = None) -> Given:
    """A table, often in order. columns: how many there are; None for any number."""
    rows = draw(st.sampled_from([12] * 10 + [8, 30, 5, 3, 2, 1, 0]))
    wide = draw(st.sampled_from([2, 2, 2, 1, 1, 3, 0, 300])) if columns is None else columns
    shape = draw(st.sampled_from([(rows, wide)] * 8 + [(rows,), (rows,), (rows, 2, 2), ()]))
    kind = draw(st.sampled_from(sorted(KINDS)) | st.sampled_from(PLAIN))
    kind = kind if shape or kind in ("array", "tensor", "a number", "nothing") else "array"
    scale = draw(st.sampled_from([1.0] * 8 + [0.0, 1e-12, 1e-200, 1e6, 1e100]))
    many = draw(st.sampled_from([0] * 5 + [1, 2]))
    odd = tuple((draw(st.integers(0, 60)), draw(st.sampled_from(ODD_NUMBERS))) for _ in range(many))
    if len(shape) != 2 or draw(st.sampled_from([True] * 7 + [False])):
        return Given(kind, shape, draw(st.integers(0, 9)), scale, odd)
    entries = tuple(draw(st.lists(st.sampled_from(ODD_ENTRIES), max_size=2)))
    names = tuple(draw(st.lists(st.sampled_from(NAMES), max_size=3)))
    return Given("frame", shape, draw(st.integers(0, 9)), scale, odd, entries, names)


@dataclass(frozen=True)
class Several:
    """Several arguments, as a tuple, a dict, or the columns of a table."""

    how: str
    names: tuple[str, ...]
    parts: tuple[Given, ...]

    def made(self) -> Any:
        """The tuple, dict or table."""
        parts = [part.made() for part in self.parts]
        if self.how == "tuple":
            return tuple(parts)
        found = dict(zip(self.names, parts, strict=False))
        if self.how == "dict":
            return found
        columns = {name: part for name, part in found.items() if np.ndim(part) == 1 and len(part) == 12}
        return pd.DataFrame(columns, index=range(12))


@st.composite
def several_data(draw: st.DrawFn, names: tuple[str, ...]) -> Several:
    """A part for each name, now and then one too few or of another name."""
    how = draw(st.sampled_from(["tuple", "dict", "table"]))
    called = list(names)
    if draw(st.sampled_from([False] * 9 + [True])):
        called = draw(st.permutations([*names, "more"]))[: draw(st.integers(0, 3))]
    plain = Given("vector" if how == "table" else "list", (12,), 1)
    parts = [draw(st.just(plain) | st.just(plain) | given_data()) for _ in called]
    return Several(how, tuple(called), tuple(parts))
