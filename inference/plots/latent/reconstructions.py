"""Rows made again from their codes, the way between two of them, and rows filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure, FigureBase

from ..drawing.figure import drawn
from .codes import collapsed
from .sheet import is_table, sheet

if TYPE_CHECKING:
    from ...data.as_data import DataLike
    from ...local_latents.row_fit import RowFit


def plot_reconstructions(fit: RowFit, x: DataLike | None = None, number: int = 12) -> Figure:
    """The first rows, and below each E[x | z] at the mean of q(z | x). x: None takes the rows that were fitted."""
    return drawn(8.0, 2.0, draw_reconstructions, fit, x, number)


def plot_interpolation(fit: RowFit, pairs: list[tuple[DataLike, DataLike]], steps: int = 8) -> Figure:
    """A line of pictures for each pair of rows: the rows themselves at its ends, the decoded way between them."""
    return drawn(8.0, 0.5 + 0.8 * len(pairs), draw_interpolation, fit, pairs, steps)


def plot_completion(
    fit: RowFit, x: DataLike, mask: np.ndarray, steps: int = 100, seed: int = 0, draws: int = 3
) -> Figure:
    """Rows with their missing entries marked, their mean completion, several draws of it, and the rows as they were."""
    rows, known = fit.rows(x), np.asarray(mask, bool)
    given = x if isinstance(x, tuple) else rows  # with its covariates
    mean, each = fit.complete(given, known, steps, seed), fit.completions(given, known, draws, steps, seed)
    lines = np.concatenate([np.where(known, rows, np.nan), mean, *each, rows])
    title = f"Rows as observed, their mean completion,\n{draws} draws of it, and the rows as they were"
    return drawn(max(4.2, 0.62 * len(rows)), 0.3 + 0.62 * (3 + draws), sheet, fit, lines, len(rows), title)


def draw_reconstructions(figure: FigureBase, fit: RowFit, x: DataLike | None, number: int) -> None:
    """What `plot_reconstructions` shows, on a figure."""
    rows = fit.rows(x)[:number]
    again = fit.reconstruct(rows) if x is not None else fit.reconstruct()[:number]
    beside = "beside" if isinstance(rows, list) or is_table(rows) else "below"
    title = f"Rows, and {beside} them their reconstructions{collapsed(fit)}"
    sheet(figure, fit, _end_to_end([rows, again]), len(rows), title)


def draw_interpolation(figure: FigureBase, fit: RowFit, pairs: list[tuple[Any, Any]], steps: int) -> None:
    """What `plot_interpolation` shows, on a figure."""
    one = lambda row: fit.rows(fit.together([row]))  # noqa: E731
    lines = [part for a, b in pairs for part in (one(a), fit.interpolate(a, b, steps), one(b))]
    title = "Rows at both ends, the decoded way between them" + collapsed(fit).replace(": ", "\n")
    sheet(figure, fit, _end_to_end(lines), steps + 2, title)


def _end_to_end(parts: list[Any]) -> Any:
    """Rows or strings, one part behind the other."""
    return [string for part in parts for string in part] if isinstance(parts[0], list) else np.concatenate(parts)
