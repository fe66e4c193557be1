"""Pictures of rows with latents of their own: the latent space, reconstructions, what is drawn and filled in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, FigureBase
from scipy.stats import norm

from ...errors import InputError
from .comparison import draw_losses
from .style import GREY, attempt, compared, drawn

if TYPE_CHECKING:
    from ..data.as_data import DataLike
    from ..local_latents.row_fit import RowFit


GAP = 1  # pixels between pictures
MISSING = "#E8C9A0"  # what no pixel was seen of
WRITTEN = 24  # strings below one another in a panel of samples


def plot_reconstructions(fit: RowFit, x: DataLike | None = None, number: int = 12) -> Figure:
    """The first rows, and below each E[x | z] at the mean of q(z | x). x: None takes the rows that were fitted."""
    return drawn(8.0, 2.0, _reconstructions, fit, x, number)


def plot_samples(fit: RowFit, number: int = 49, seed: int = 0) -> Figure:
    """E[x | z] for draws of z from the prior; of a model of strings, as many samples as can be read."""
    return drawn(5.0, 4.0, _samples, fit, number, seed)


def plot_plane(fit: RowFit, side: int = 15) -> Figure:
    """E[x | z] over the plane of the two most active latent units, at quantiles of the prior; the others at 0.

    After Kingma and Welling (2014), figure 4.
    """
    return drawn(5.0, 5.2, _plane, fit, side)


def plot_latent(fit: RowFit, labels: Any = None, x: DataLike | None = None) -> Figure:
    """E_q[z | x] of each row in the two most active latent units, coloured by label.

    labels: one a row: a Series, array or list of names or numbers; None leaves them grey.
    """
    return drawn(5.6, 4.6, _latent, fit, labels, x)


def plot_interpolation(fit: RowFit, pairs: list[tuple[DataLike, DataLike]], steps: int = 10) -> Figure:
    """A line of pictures for each pair of rows: the first, the way between them in latent space, the second."""
    rows = _end_to_end([fit.interpolate(a, b, steps) for a, b in pairs])
    return drawn(8.0, 0.5 + 0.8 * len(pairs), _sheet, fit, rows, steps, "From one row to another")


def plot_completion(fit: RowFit, x: DataLike, mask: np.ndarray, steps: int = 100, seed: int = 0) -> Figure:
    """Rows with their missing entries marked, below them the rows as completed, and as they are in x."""
    rows, known = fit.rows(x), np.asarray(mask, bool)
    lines = np.concatenate([np.where(known, rows, np.nan), fit.complete(rows, known, steps, seed), rows])
    return drawn(8.0, 2.6, _sheet, fit, lines, len(rows), "Rows as observed, below them completed, and as they were")


def plot_portrait(fit: RowFit, labels: Any = None) -> Figure:
    """Training, latent space, reconstructions, and the latent plane, or samples where there are more than two units."""

    def draw(figure: Figure) -> None:
        left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1], squeeze=False).ravel()
        top, middle, bottom = left.subfigures(3, 1, height_ratios=[1, 1.7, 0.7], squeeze=False).ravel()
        attempt(top, draw_losses, compared(fit))
        attempt(middle, _latent, fit, labels)
        attempt(bottom, _reconstructions, fit, None, 10)
        if fit.latent <= 2 and not hasattr(fit.model, "as_given"):
            attempt(right, _plane, fit, 17)
        else:
            attempt(right, _samples, fit, 90)

    return drawn(11.0, 7.6, draw)


def _latent(figure: FigureBase, fit: RowFit, labels: Any, x: DataLike | None = None) -> None:
    z = fit.encode(x)
    units = _most_active(z)
    axis = figure.subplots()
    across, up = [*z[:, units].T, np.zeros(len(z))][:2]
    if labels is None:
        axis.scatter(across, up, s=5, color=GREY, alpha=0.6, linewidths=0)
    else:
        _coloured(axis, across, up, pd.Series(np.asarray(labels), name=getattr(labels, "name", None)))
    axis.set(xlabel=f"z{units[0]}", ylabel="".join(f"z{unit}" for unit in units[1:]))
    axis.set_title("Latent space: the mean of q(z | x)")


def _coloured(axis: Axes, across: np.ndarray, up: np.ndarray, labels: pd.Series) -> None:
    """A colour a label where they are few, a scale of colours where they are many numbers."""
    if len(labels) != len(across):
        raise InputError(f"there are {len(labels)} labels for {len(across)} rows: give one a row")
    rows = labels.groupby(labels).indices
    if len(rows) > 10 and pd.api.types.is_numeric_dtype(labels):
        points = axis.scatter(across, up, s=6, c=labels, cmap="viridis", linewidths=0)
        axis.figure.colorbar(points, ax=axis)
        return
    for name, chosen in rows.items():
        axis.scatter(across[chosen], up[chosen], s=6, alpha=0.75, linewidths=0, label=str(name))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.5, title=labels.name)


def _reconstructions(figure: FigureBase, fit: RowFit, x: DataLike | None, number: int) -> None:
    rows = fit.rows(x)[:number]
    again = fit.reconstruct(rows) if x is not None else fit.reconstruct()[:number]
    beside = "beside" if isinstance(rows, list) else "below"
    _sheet(figure, fit, _end_to_end([rows, again]), len(rows), f"Rows, and {beside} them their reconstructions")


def _samples(figure: FigureBase, fit: RowFit, number: int, seed: int = 0) -> None:
    if hasattr(fit.model, "as_given"):
        _written(figure, fit.sample(min(number, 2 * WRITTEN), seed), WRITTEN, "Samples")
        return
    z = np.random.default_rng(seed).normal(size=(number, fit.latent))
    _sheet(figure, fit, fit.decode(z), math.ceil(math.sqrt(number)), "E[x | z], z drawn from the prior")


def _plane(figure: FigureBase, fit: RowFit, side: int) -> None:
    if hasattr(fit.model, "as_given"):
        raise InputError("a latent plane is of pictures: see plot_interpolation for the way between two strings")
    units = _most_active(fit.encode())
    places = norm.ppf(np.linspace(0.02, 0.98, side))
    z = np.zeros((side ** len(units), fit.latent))
    z[:, units] = np.stack(np.meshgrid(*[places, places[::-1]][: len(units)]), -1).reshape(len(z), -1)
    axis = _sheet(figure, fit, fit.decode(z), side, "E[x | z] over the latent plane")
    axis.set_xlabel(f"z{units[0]}: {places[0]:.1f} to {places[-1]:.1f}")
    axis.set_ylabel("".join(f"z{unit}" for unit in units[1:]))


def _most_active(z: np.ndarray) -> list[int]:
    """The two units whose means differ most from row to row, in their own order; the one, where there is one."""
    return sorted(np.argsort(-z.var(0))[:2].tolist())


def _end_to_end(parts: list[Any]) -> Any:
    """Rows or strings, one part behind the other."""
    return [string for part in parts for string in part] if isinstance(parts[0], list) else np.concatenate(parts)


def _written(figure: FigureBase, strings: list[str], lines: int, title: str) -> Axes:
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


def _sheet(figure: FigureBase, fit: RowFit, rows: Any, columns: int, title: str) -> Axes:
    """The one panel of a figure: rows as pictures, so many side by side, dark where they are large; NaN is marked.

    From 0 to 1, or from the least to the largest value of the data where some lie outside. Strings stand as text.
    """
    if isinstance(rows, list):
        return _written(figure, rows, columns, title)
    low, high = float(fit.data.values.min()), float(fit.data.values.max())
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-9))
    pictures = np.clip((_pictures(rows) - low) / (high - low), 0, 1)
    pictures = pictures if pictures.shape[-1] == 3 else 1 - pictures
    pictures = np.where(np.isnan(pictures), to_rgb(MISSING), pictures)
    number, height, width, _ = pictures.shape
    lines = math.ceil(number / columns)
    margins = ((0, lines * columns - number), (0, GAP), (0, GAP), (0, 0))
    cells = np.pad(pictures, margins, constant_values=1.0).reshape(lines, columns, height + GAP, width + GAP, 3)
    canvas = cells.swapaxes(1, 2).reshape(lines * (height + GAP), -1, 3)[:-GAP, :-GAP]
    axis = figure.subplots()
    axis.imshow(canvas, interpolation="nearest", aspect="equal" if height > 1 else "auto")
    axis.set(xticks=[], yticks=[], anchor="NW", title=title)
    axis.spines[:].set_visible(False)
    return axis


def _pictures(rows: np.ndarray) -> np.ndarray:
    """Rows as (M, H, W, C), C of 1 or 3: square ones from a table, else a strip a row."""
    if rows.ndim == 2:
        side = math.isqrt(rows.shape[1])
        rows = rows.reshape(len(rows), side, side) if side * side == rows.shape[1] else rows[:, None]
    if rows.ndim == 3:
        rows = rows[:, None]
    return rows.transpose(0, 2, 3, 1)[..., : 3 if rows.shape[1] == 3 else 1]
