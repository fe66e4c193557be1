"""The data in a table: every argument of the model, column by column where it is a table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from ...display.table import DASH, Cell, Table
from ..data.data import Data
from ..mapped.tensor import Mapped

COLUMNS = 20  # shown, at most
LONGEST = 60  # characters of what is no array


def data_table(data: Data) -> Table:
    """A row an argument, or a column of it: shape, least, mean, greatest, missing."""
    rows = dict(_rows(data))
    kept = list(rows)[:COLUMNS]
    return Table({name: rows[name] for name in kept})


def data_sentence(data: Data, test: Data | None) -> str:
    """How many rows there are, and how many of them are held out."""
    rows = f"{data.rows} rows" if data.rows else "no plate of rows"
    held = f", {test.rows} held out" if test is not None and test.rows else ""
    return f"{rows}{held}."


def left_out(data: Data) -> list[str]:
    """A sentence on the columns that the table leaves out, where it does."""
    left = sum(1 for _ in _rows(data)) - COLUMNS
    return [f"{left} more columns are not shown."] if left > 0 else []


def _rows(data: Data) -> Iterator[tuple[str, dict[str, Cell]]]:
    for name, value in data.named.items():
        if not isinstance(value, Tensor):
            text = repr(value)
            yield name, _cells("", text if len(text) <= LONGEST else f"{text[:LONGEST]}...")
            continue
        columns = data.tables.get(name) or (data.columns if len(data.tensors) == 1 else ())
        if isinstance(value, Mapped):
            yield from _of_file(value)
        elif value.dim() == 2 and len(columns) == value.shape[1]:
            for column, values in zip(columns, value.mT, strict=True):
                label = str(column) if len(data.tensors) == 1 else f"{name}: {column}"
                yield label, _of_tensor(values)
        else:
            yield name, _of_tensor(value)


def _of_file(value: Mapped) -> Iterator[tuple[str, dict[str, Cell]]]:
    """The columns of rows in a file, of which these figures are known."""
    figures = zip(
        *(part.flatten().tolist() for part in (value.known.low, value.known.mean, value.known.high)), strict=True
    )
    for name, stated in zip(value.names, figures, strict=True):
        shown = [f"{figure:.4g}" for figure in stated]
        yield name, _cells(str(len(value)), value.pages.place.dtype, *shown, "0")


def _of_tensor(value: Tensor) -> dict[str, Cell]:
    numbers = value.detach().cpu().numpy()
    shape = " x ".join(map(str, numbers.shape)) or "number"
    known = numbers[np.isfinite(numbers)] if np.issubdtype(numbers.dtype, np.number) else numbers
    if not known.size or not np.issubdtype(known.dtype, np.number):
        return _cells(shape, str(numbers.dtype))
    stated = [f"{figure:.4g}" for figure in (known.min(), known.mean(), known.max())]
    return _cells(shape, str(numbers.dtype), *stated, str(numbers.size - known.size))


def _cells(shape: str, kind: str, *figures: str) -> dict[str, Cell]:
    """Shape, kind, and what is known of least, mean, greatest and missing, in this order."""
    texts = [shape or DASH, kind, *(figures or [DASH] * 4)]
    names = ("shape", "kind", "least", "mean", "greatest", "missing")
    return {name: Cell(text) for name, text in zip(names, texts, strict=True)}
