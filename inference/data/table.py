"""Arrays of every kind laid out as one: a frame of N rows for the checks, and the shape to give back."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas import DataFrame, Series
from torch import Tensor
from torch.utils.data import DataLoader

from ... import datasets
from ...errors import InputError

__all__ = ["Table", "as_table", "default_columns", "is_array", "matched", "opened"]


@dataclass(frozen=True, eq=False)
class Table:
    """Unchecked data, with what is needed to give them their shape back.

    frame: N rows, and a column for each entry of a row.
    shape: the input's own, N first.
    device: the input's own.
    """

    frame: DataFrame
    shape: tuple[int, ...]
    device: torch.device = torch.device("cpu")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, as text."""
        return tuple(str(column) for column in self.frame.columns)

    @property
    def is_named(self) -> bool:
        """Whether the columns came with names."""
        return self.columns != default_columns(len(self.columns))


def default_columns(number: int) -> tuple[str, ...]:
    """The names of columns that came without: ``x0``, ``x1``, ..."""
    return tuple(f"x{d}" for d in range(number))


def opened(x: Any, name: str) -> tuple[Any, str]:
    """The table of a file or data set, called by its own name; the rows of a DataLoader; anything else as it is."""
    if isinstance(x, str | Path):
        return datasets.load(x), str(x)
    return (_gathered(x, name) if isinstance(x, DataLoader) else x), name


def is_array(x: Any) -> bool:
    """Whether x holds an array: a DataFrame, Series, array, tensor, or what NumPy can read."""
    return isinstance(x, Tensor) or hasattr(x, "__array__")


def as_table(x: Any, name: str) -> Table:
    """Lay out a DataFrame, Series, array or tensor; an InputError for anything else."""
    if isinstance(x, DataFrame):
        return Table(x, x.shape)
    if isinstance(x, Series | pd.Categorical):
        series = Series(x)
        return Table(series.to_frame("x0" if series.name is None else series.name), series.shape)
    if isinstance(x, Tensor):
        return _from_tensor(x, name)
    if isinstance(x, np.ma.MaskedArray):
        return _from_array(np.ma.filled(x.astype(float if x.dtype.kind in "biuf" else object), np.nan))
    if is_array(x):
        return _from_array(np.asarray(x))
    raise InputError(f"{name} is a {type(x).__name__}: give a DataFrame, an array, a tensor, or the path of a table")


def matched(table: Table, columns: tuple[str, ...], name: str) -> Table:
    """The columns of the fitted data, in their order; by position where one side has no names, or columns is ()."""
    lacking = [column for column in columns if column not in table.columns]
    if columns and not lacking:
        frame = table.frame.iloc[:, [table.columns.index(column) for column in columns]]
        same = len(columns) == len(table.columns)  # pictures stay pictures
        return Table(frame, table.shape if same else frame.shape, table.device)
    if lacking and table.is_named and columns != default_columns(len(columns)):
        names = ", ".join(table.columns[:6]) + (", ..." if len(table.columns) > 6 else "")
        raise InputError(f"{name} lacks column {lacking[0]!r} of the fitted data: its columns are {names}")
    return table


def _gathered(loader: DataLoader, name: str) -> Tensor:
    """Every batch of a loader, end to end, or every row where it gives single ones: (N, ...)."""
    parts = [batch[0] if isinstance(batch, list | tuple) else batch for batch in loader]
    if not all(isinstance(part, Tensor) for part in parts):
        raise InputError(f"{name} is a DataLoader of {type(parts[0]).__name__}s: let it give tensors, or (x, label)")
    if not parts:
        raise InputError(f"{name} is a DataLoader that gives nothing: give at least one row")
    single = loader.batch_size is None and loader.batch_sampler is None and len({part.shape for part in parts}) == 1
    return torch.stack(parts) if single and parts[0].dim() < 2 else torch.cat(parts)


def _from_tensor(x: Tensor, name: str) -> Table:
    if x.layout != torch.strided:
        raise InputError(f"{name} is a sparse tensor: give {name}.to_dense()")
    dense = x.detach().cpu().resolve_conj().resolve_neg()
    table = _from_array((dense.double() if dense.dtype == torch.bfloat16 else dense).numpy())
    return Table(table.frame, table.shape, x.device)


def _from_array(x: np.ndarray) -> Table:
    rows = x.reshape(len(x), prod(x.shape[1:])) if x.ndim else x.reshape(1, 1)
    return Table(DataFrame(rows, columns=list(default_columns(rows.shape[1]))), x.shape)
