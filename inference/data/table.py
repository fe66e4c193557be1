"""Any input as a DataFrame of its flattened rows: one shape for the checks, whatever came in."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from pandas import DataFrame, Series
from torch import Tensor

from ...errors import InputError

__all__ = ["Table", "as_table", "default_columns"]


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
        return tuple(str(column) for column in self.frame.columns)

    def rename(self, columns: tuple[str, ...]) -> "Table":
        return Table(self.frame.set_axis(list(columns), axis=1), self.shape, self.device)


def default_columns(number: int) -> tuple[str, ...]:
    """The names of columns that came without: ``x0``, ``x1``, ..."""
    return tuple(f"x{d}" for d in range(number))


def as_table(x: Any, name: str) -> Table:
    """Lay out a DataFrame, Series, array or tensor; an InputError for anything else."""
    if isinstance(x, DataFrame):
        return Table(x, x.shape)
    if isinstance(x, Series):
        return Table(x.to_frame("x0" if x.name is None else x.name), x.shape)
    if isinstance(x, Tensor):
        return _from_tensor(x, name)
    if isinstance(x, np.ma.MaskedArray):
        return _from_array(np.ma.filled(x.astype(object), np.nan))
    if hasattr(x, "__array__"):
        return _from_array(np.asarray(x))
    raise InputError(f"{name} is a {type(x).__name__}: give a DataFrame, an array, a tensor, or the path of a table")


def _from_tensor(x: Tensor, name: str) -> Table:
    if x.layout != torch.strided:
        raise InputError(f"{name} is a sparse tensor: give {name}.to_dense()")
    dense = x.detach().cpu().resolve_conj().resolve_neg()
    table = _from_array((dense.double() if dense.dtype == torch.bfloat16 else dense).numpy())
    return Table(table.frame, table.shape, x.device)


def _from_array(x: np.ndarray) -> Table:
    rows = x.reshape(len(x), prod(x.shape[1:])) if x.ndim else x.reshape(1, 1)
    return Table(DataFrame(rows, columns=list(default_columns(rows.shape[1]))), x.shape)
