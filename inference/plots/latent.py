"""Pictures of rows with latents of their own: the latent space, reconstructions, what is drawn and filled in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, FigureBase
from scipy.spatial import cKDTree

from ...errors import InputError
from ...models.vae.vae import COLOURS
from ..data.data import evenly_spaced
from .drawing.compared import compared
from .drawing.figure import attempt, drawn
from .drawing.looks import GREY
from .losses import draw_losses

if TYPE_CHECKING:
    from ..data.as_data import DataLike
    from ..local_latents.latent_space import Clusters
    from ..local_latents.row_fit import RowFit


GAP = 1  # pixels between pictures
REACH = 0.01  # share of the codes beyond each end of the latent plane
FARTHEST = 2.5  # sd from a column's mean, at the ends of the colours
MOST_NAMES = 30  # of columns below a heat map
SMALLEST_SIDE = 6  # pixels of a picture that a flat row is taken for
MISSING = "#E8C9A0"  # what no pixel was seen of
LOOKED_AT, ALIKE = 200, 0.003  # rows, and the share of their variance below which what they decode to is the same
WRITTEN = 24  # strings below one another in a panel of samples


def plot_reconstructions(fit: RowFit, x: DataLike | None = None, number: int = 12) -> Figure:
    """The first rows, and below each E[x | z] at the mean of q(z | x). x: None takes the rows that were fitted."""
    return drawn(8.0, 2.0, _reconstructions, fit, x, number)


def plot_samples(fit: RowFit, number: int = 49, seed: int = 0) -> Figure:
    """E[x | z] for draws of z from the prior; of a model of strings, as many samples as can be read."""
    return drawn(5.0, 4.0, _samples, fit, number, seed)


def plot_plane(fit: RowFit, side: int = 15) -> Figure:
    """E[x | z] over the plane of the two most active latent units, as far as codes reach; others at their mean.

    After Kingma and Welling (2014), figure 4.
    """
    return drawn(5.0, 5.2, _plane, fit, side)


def plot_latent(fit: RowFit, labels: Any = None, x: DataLike | None = None) -> Figure:
    """E_q[z | x] of each row, coloured by label: both units, or of more the first two principal directions.

    labels: one a row: a Series, array or list of names or numbers; None leaves them grey.
    """
    return drawn(5.6, 4.6, _latent, fit, labels, x)


def plot_interpolation(fit: RowFit, pairs: list[tuple[DataLike, DataLike]], steps: int = 8) -> Figure:
    """A line of pictures for each pair of rows: the rows themselves at its ends, the decoded way between them."""
    return drawn(8.0, 0.5 + 0.8 * len(pairs), _interpolation, fit, pairs, steps)


def plot_completion(
    fit: RowFit, x: DataLike, mask: np.ndarray, steps: int = 100, seed: int = 0, draws: int = 3
) -> Figure:
    """Rows with their missing entries marked, their mean completion, several draws of it, and the rows as they were."""
    rows, known = fit.rows(x), np.asarray(mask, bool)
    given = x if isinstance(x, tuple) else rows  # with its covariates
    mean, each = fit.complete(given, known, steps, seed), fit.completions(given, known, draws, steps, seed)
    lines = np.concatenate([np.where(known, rows, np.nan), mean, *each, rows])
    title = f"Rows as observed, their mean completion,\n{draws} draws of it, and the rows as they were"
    return drawn(max(4.2, 0.62 * len(rows)), 0.3 + 0.62 * (3 + draws), _sheet, fit, lines, len(rows), title)


def plot_clusters(clusters: Clusters) -> Figure:
    """Rows in the latent plane, coloured by cluster, and beside it by label where labels are known."""

    def draw(figure: Figure) -> None:
        known = {"cluster": clusters.most_probable}
        if clusters.labels is not None:
            known[str(clusters.labels.name or "label")] = clusters.labels
        across, up, names = _flat(clusters.z)
        for axis, (name, labels) in zip(figure.subplots(1, len(known), squeeze=False)[0], known.items(), strict=True):
            _coloured(axis, across, up, labels.rename(name))
            axis.set(xlabel=names[0], ylabel=names[1], title=clusters.how if name == "cluster" else "As they are known")
        if clusters.labels is not None:
            figure.suptitle(f"ARI {clusters.ari:.2f}, NMI {clusters.nmi:.2f}", fontsize=9)

    return drawn(5.2 if clusters.labels is None else 9.6, 4.2, draw)


def plot_portrait(fit: RowFit, labels: Any = None) -> Figure:
    """Training, latent space, reconstructions, the latent plane (samples of more than two units), interpolations."""

    def draw(figure: Figure) -> None:
        left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1], squeeze=False).ravel()
        table = not _is_strings(fit) and _is_table(fit.rows()[:1])
        heights = [0.8, 1.4, 1.3] if table else [1, 1.7, 0.7]
        top, middle, bottom = left.subfigures(3, 1, height_ratios=heights, squeeze=False).ravel()
        attempt(top, draw_losses, compared(fit))
        attempt(middle, _latent, fit, labels)
        attempt(bottom, _reconstructions, fit, None, 10)
        if table or _is_strings(fit):
            attempt(right, _samples, fit, 90 if _is_strings(fit) else 40)
            return
        upper, lower = right.subfigures(2, 1, height_ratios=[2.1, 1], squeeze=False).ravel()
        attempt(upper, _plane if fit.latent <= 2 else _samples, fit, 13 if fit.latent <= 2 else 64)
        rows = _one_by_one(fit, 8)
        attempt(lower, _interpolation, fit, list(zip(rows[::2], rows[1::2], strict=False)), 8)

    return drawn(11.0, 7.6, draw)


def _latent(figure: FigureBase, fit: RowFit, labels: Any, x: DataLike | None = None) -> None:
    draw_codes(figure.subplots(), fit, labels, x)


def draw_codes(axis: Axes, fit: RowFit, labels: Any, x: DataLike | None = None) -> None:
    """What `plot_latent` shows, on an axis."""
    across, up, names = _flat(fit.encode(x))
    if labels is None:
        axis.scatter(across, up, s=5, color=GREY, alpha=0.6, linewidths=0)
    else:
        _coloured(axis, across, up, pd.Series(np.asarray(labels), name=getattr(labels, "name", None)))
    axis.set(xlabel=names[0], ylabel=names[1])
    axis.set_title(f"Latent space: the mean of q(z | x){', by PCA' if fit.latent > 2 else ''}{_collapsed(fit)}")


def _flat(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Latent vectors (M, latent) in a plane, and what its axes are: the units, or principal directions of more."""
    if z.shape[1] <= 2:
        across, up = [*z.T, np.zeros(len(z))][:2]
        return across, up, ("z0", "z1" if z.shape[1] > 1 else "")
    centred = z - z.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    share = singular**2 / max(float((singular**2).sum()), 1e-12)
    said = [f"principal direction {k + 1} of {z.shape[1]} units: {share[k]:.0%} of the variance" for k in range(2)]
    across, up = (centred @ directions[:2].T).T
    return across, up, (said[0], said[1])


def _collapsed(fit: RowFit) -> str:
    """What a title adds where no unit tells rows apart, or where the decoder heeds none of them."""
    if not fit.active_units().any():
        return ": collapsed, q(z | x) is the prior"
    if _is_strings(fit):
        return ""
    some = evenly_spaced(fit.data.rows or 0, LOOKED_AT)
    pairs = fit.rows()[some], fit.decode(fit.encode()[some], fit.data.take(some))
    varies, decoded = (float(rows.var(0).sum()) for rows in pairs)
    return "" if decoded > ALIKE * varies else ": collapsed, all rows decode alike"


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
    beside = "beside" if isinstance(rows, list) or _is_table(rows) else "below"
    title = f"Rows, and {beside} them their reconstructions{_collapsed(fit)}"
    _sheet(figure, fit, _end_to_end([rows, again]), len(rows), title)


def _samples(figure: FigureBase, fit: RowFit, number: int, seed: int = 0) -> None:
    if _is_strings(fit):
        _written(figure, fit.sample(min(number, 2 * WRITTEN), seed), WRITTEN, "Samples")
        return
    rows, whose = _decoded(fit, fit.prior_draws(number, seed))
    columns = number if _is_table(rows) else math.ceil(math.sqrt(number))
    _sheet(figure, fit, rows, columns, f"E[x | z], z drawn from the prior{whose}{_collapsed(fit)}")


def _interpolation(figure: FigureBase, fit: RowFit, pairs: list[tuple[Any, Any]], steps: int) -> None:
    one = lambda row: fit.rows(fit.together([row]))  # noqa: E731
    lines = [part for a, b in pairs for part in (one(a), fit.interpolate(a, b, steps), one(b))]
    title = "Rows at both ends, the decoded way between them" + _collapsed(fit).replace(": ", "\n")
    _sheet(figure, fit, _end_to_end(lines), steps + 2, title)


def _one_by_one(fit: RowFit, number: int) -> list[Any]:
    """The first fitted rows, each with its covariates where there are any."""
    if _is_strings(fit) or len(fit.data.tensors) == 1:
        return list(fit.rows()[:number])
    return list(zip(*(value[:number].cpu().numpy() for value in fit.data.tensors), strict=True))


def _decoded(fit: RowFit, z: np.ndarray) -> tuple[np.ndarray, str]:
    """E[x | z], and what a title adds where there are covariates: each z has those of the row with the nearest code."""
    if len(fit.data.tensors) == 1:
        return fit.decode(z), ""
    _, nearest = cKDTree(fit.encode()).query(z)
    return fit.decode(z, fit.data.take(torch.as_tensor(nearest))), ",\ncovariates of the nearest row"


def _plane(figure: FigureBase, fit: RowFit, side: int) -> None:
    if _is_strings(fit):
        raise InputError("a latent plane is of pictures: see plot_interpolation for the way between two strings")
    codes = fit.encode()
    units = _most_active(codes)
    low, high = np.quantile(codes, [REACH, 1 - REACH], axis=0)
    z = np.tile(codes.mean(0), (side ** len(units), 1))
    places = [np.linspace(low[unit], high[unit], side) for unit in units]
    grid = [places[0], places[1][::-1]] if len(units) > 1 else places
    z[:, units] = np.stack(np.meshgrid(*grid), -1).reshape(len(z), -1)
    rows, whose = _decoded(fit, z)
    axis = _sheet(figure, fit, rows, side, f"E[x | z] over the plane of the codes{whose}{_collapsed(fit)}")
    across, down = (np.array(limit) for limit in (axis.get_xlim(), axis.get_ylim()[::-1]))
    shown, at = [0, side // 2, side - 1], (np.array([0, side // 2, side - 1]) + 0.5) / side
    axis.set(xlabel=f"z{units[0]}", xticks=across[0] + at * np.ptp(across))
    axis.set_xticklabels([_short(grid[0], place) for place in shown])
    if len(units) > 1:
        axis.set(ylabel=f"z{units[1]}", yticks=down[0] + at * np.ptp(down))
        axis.set_yticklabels([_short(grid[1], place) for place in shown])


def _short(values: np.ndarray, place: int) -> str:
    """One of some numbers, as short as tells its neighbours apart, with one decimal at least and no minus nought."""
    decimals = max(1, 1 - math.floor(math.log10(max(np.ptp(values), 1e-9))))
    return f"{round(float(values[place]), decimals) + 0.0:.{decimals}f}"


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

    From 0 to 1, or from the least to the largest value of the data where some lie outside. Rows of a table, so many a
    panel, are heat maps with the names of the columns. Strings stand as text.
    """
    if isinstance(rows, list):
        return _written(figure, rows, columns, title)
    if _is_table(rows):
        return _heat_maps(figure, fit, rows, columns, title)
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
    axis.imshow(canvas, interpolation="nearest", aspect="equal")
    axis.set(xticks=[], yticks=[], anchor="NW", title=title)
    axis.spines[:].set_visible(False)
    return axis


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


def _is_strings(fit: RowFit) -> bool:
    return hasattr(fit.model, "as_given")


def _is_table(rows: np.ndarray) -> bool:
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
