"""Rows side by side on one panel: pictures, heat maps of a table's columns, or strings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import FigureBase

from ....models.vae.vae import COLOURS

if TYPE_CHECKING:
    from ...local_latents.row_fit import RowFit

GAP = 1  # pixels between pictures
FARTHEST = 2.5  # sd from a column's mean, at the ends of the colours
MOST_NAMES = 30  # of columns below a heat map
SMALLEST_SIDE = 6  # pixels of a picture that a flat row is taken for
MISSING = "#E8C9A0"  # what no pixel was seen of


def sheet(figure: FigureBase, fit: RowFit, rows: Any, columns: int, title: str) -> Axes:
    """The one panel of a figure: rows as pictures, so many side by side, dark where they are large; NaN is marked.

    From 0 to 1, or from the least to the largest value of the data where some lie outside. Rows of a table, so many a
    panel, are heat maps with the names of the columns. Strings stand as text.
    """
    if isinstance(rows, list):
        return written(figure, rows, columns, title)
    if is_table(rows):
        return _heat_maps(figure, fit, rows, columns, title)
    low, high = float(fit.data.values.min()), float(fit.data.values.max())
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-9))
    pictures = np.clip((_pictures(rows) - low) / (high - low), 0, 1)
    pictures = pictures if pictures.shape[-1] == 3 else 1 - pictures
    pictures = np.where(np.isnan(pictures), to_rgb(MISSING), pictures)
    axis = figure.subplots()
    axis.imshow(_side_by_side(pictures, columns), interpolation="nearest", aspect="equal")
    axis.set(xticks=[], yticks=[], anchor="NW", title=title)
    axis.spines[:].set_visible(False)
    return axis


def _side_by_side(pictures: np.ndarray, columns: int) -> np.ndarray:
    """One picture (height, width, 3) of many (M, H, W, 3), so many a line, white between them."""
    number, height, width, _ = pictures.shape
    lines = math.ceil(number / columns)
    margins = ((0, lines * columns - number), (0, GAP), (0, GAP), (0, 0))
    cells = np.pad(pictures, margins, constant_values=1.0).reshape(lines, columns, height + GAP, width + GAP, 3)
    return cells.swapaxes(1, 2).reshape(lines * (height + GAP), -1, 3)[:-GAP, :-GAP]


def _heat_maps(figure: FigureBase, fit: RowFit, rows: np.ndarray, each: int, title: str) -> Axes:
    """Rows of a table in panels of so many: the distance from the mean of each column, in its deviations."""
    known = fit.rows()
    sd = known.std(0)
    values = (rows - known.mean(0)) / np.where(sd > 0, sd, 1.0)
    blocks = np.split(values, range(each, len(values), each))
    axes = figure.subplots(1, len(blocks), squeeze=False, sharey=True)[0]
    colours = colormaps["RdBu_r"].with_extremes(bad=MISSING)
    for axis, block in zip(axes, blocks, strict=True):
        image = axis.imshow(block, aspect="auto", cmap=colours, vmin=-FARTHEST, vmax=FARTHEST, interpolation="nearest")
        names = fit.data.columns if len(fit.data.columns) == rows.shape[1] else range(rows.shape[1])
        step = max(1, len(names) // MOST_NAMES)
        axis.set_xticks(range(0, len(names), step), [str(name) for name in names][::step], rotation=90)
        axis.set_yticks([])
    axes[0].set_title(title)
    figure.colorbar(image, ax=axes, label="sd from the mean")
    return axes[0]


def written(figure: FigureBase, strings: list[str], lines: int, title: str) -> Axes:
    """The one panel of a figure: strings, so many below one another, and as many beside them."""
    width = max(map(len, strings)) + 3
    table = ["".join(string.ljust(width) for string in strings[line::lines]) for line in range(lines)]
    axis = figure.subplots()
    axis.set(xticks=[], yticks=[], title=title)
    axis.spines[:].set_visible(False)
    room = axis.get_window_extent()
    points = 72 / axis.figure.dpi
    size = min(9.0, points * room.width / (0.62 * max(map(len, table))), points * room.height / (1.3 * lines))
    text = "\n".join(table)
    axis.text(0, 1, text, va="top", family="monospace", size=size, transform=axis.transAxes, parse_math=False)
    return axis


def is_strings(fit: RowFit) -> bool:
    """Whether the rows are strings, which stand as text."""
    return hasattr(fit.model, "as_given")


def is_table(rows: np.ndarray) -> bool:
    """Whether rows (M, ...) are of columns and not of pixels: flat, and no square picture to speak of."""
    side = math.isqrt(rows.shape[1])
    return rows.ndim == 2 and (side * side != rows.shape[1] or side < SMALLEST_SIDE)


def _pictures(rows: np.ndarray) -> np.ndarray:
    """Rows that are no table as (M, H, W, C), C of 1 or 3; the colours may come before the pixels or behind them."""
    if rows.ndim == 2:
        side = math.isqrt(rows.shape[1])
        rows = rows.reshape(len(rows), side, side)
    if rows.ndim == 3:
        rows = rows[..., None]
    elif rows.shape[1] in COLOURS or rows.shape[3] not in COLOURS:
        rows = rows.transpose(0, 2, 3, 1)
    return rows[..., : 3 if rows.shape[3] >= 3 else 1]
