"""A table whose cells are rounded and marked, as text and as HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from .html import render

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["BEST", "DASH", "DOUBTFUL", "Cell", "Mark", "Table", "as_html", "as_text", "mark", "table_of"]

DASH = "-"
WIDEST = 1e12  # beyond it a number has a power of ten
BEST, DOUBTFUL = "*", "!"  # behind a figure, in text
Mark = Literal["", "best", "doubtful", "good", "partly", "bad"]
SIGNS = {"best": BEST, "doubtful": DOUBTFUL}


@dataclass(frozen=True)
class Cell:
    """text: rounded, a dash where there is nothing. mark: what is made of it. says: why."""

    text: str
    mark: Mark = ""
    says: str = ""


@dataclass(frozen=True)
class Table:
    """rows: name -> a Cell a column, by the columns' names. says: what a column is, by its name."""

    rows: Mapping[str, Mapping[str, Cell]]
    says: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Their names, in order."""
        return list(next(iter(self.rows.values()), {}))


def table_of(frame: pd.DataFrame, decimals: Mapping[str, int], says: Mapping[str, str] | None = None) -> Table:
    """A DataFrame with each column at its own number of decimals, 3 unless told; NaN is a dash."""
    columns = {str(name): _texts(frame[name], decimals.get(str(name), 3)) for name in frame}
    rows = {
        str(name): {column: Cell(texts[place]) for column, texts in columns.items()}
        for place, name in enumerate(frame.index)
    }
    return Table(rows, says or {})


def _texts(values: Sequence[Any], decimals: int) -> list[str]:
    return [_text(value, decimals) for value in values]


def _text(value: Any, decimals: int) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return DASH
    return f"{value:.{decimals}f}" if abs(value) < WIDEST or math.isinf(value) else f"{value:.3e}"


def mark(table: Table, found: Callable[[str, str], tuple[Mark, str] | None]) -> Table:
    """The table with more cells marked. found: (row, column) -> the mark and why, or None."""

    def marked(row: str, column: str, cell: Cell) -> Cell:
        said = found(row, column)
        return cell if said is None else replace(cell, mark=said[0], says=said[1])

    rows = {row: {name: marked(row, name, cell) for name, cell in cells.items()} for row, cells in table.rows.items()}
    return replace(table, rows=rows)


def as_text(table: Table) -> str:
    """The table as text; a star behind what is best, an exclamation mark behind what is doubtful."""
    columns = {name: [row[name] for row in table.rows.values()] for name in table.columns}
    texts = {name: _with_signs(cells) for name, cells in columns.items()}
    return pd.DataFrame(texts, list(table.rows)).to_string()


def _with_signs(cells: Sequence[Cell]) -> list[str]:
    signs = [SIGNS.get(cell.mark, "") for cell in cells]
    width = max(map(len, signs), default=0)
    return [cell.text + sign.ljust(width) for cell, sign in zip(cells, signs, strict=True)]


def as_html(table: Table, notes: Sequence[str] = (), lead: str = "", style: bool = True) -> Markup:
    """The table as HTML, each figure with its standard error beside it.

    notes: sentences below it. lead: one above it. style: whether it brings its style, as it must where it stands alone.
    """
    errors = [name for name in table.columns if name.removesuffix("_se") in table.columns and name.endswith("_se")]
    rows = {name: _with_errors(row, errors) for name, row in table.rows.items()}
    columns = [name for name in table.columns if name not in errors]
    marks = {cell.mark: cell.says for row in table.rows.values() for cell in row.values()}
    return render(
        "table.html", rows=rows, columns=columns, says=table.says, notes=notes, lead=lead, marks=marks, style=style
    )


def _with_errors(row: Mapping[str, Cell], errors: Sequence[str]) -> dict[str, Cell]:
    known = {name.removesuffix("_se"): row[name].text for name in errors if row[name].text != DASH}
    both = lambda name, cell: replace(cell, text=f"{cell.text} ± {known[name]}") if name in known else cell  # noqa: E731
    return {name: both(name, cell) for name, cell in row.items() if name not in errors}
