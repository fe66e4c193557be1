"""Rows of one table and the density that each method fitted to them: a scatter or a histogram a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.stats import gaussian_kde

from ..runtime.arviz import groups_of, idata_of
from .style import GREY, REFERENCE, Compared, panel_a_fit

if TYPE_CHECKING:
    from ..fit.fit import Fit

DRAWS = 300  # at most so many, evenly spaced, behind a predictive density: a picture needs no more
FAINT = 20  # posterior draws shown as faint ellipses
CELLS = 60  # grid points a side
MASS = (0.95, 0.8, 0.5)  # what the contours enclose
POINTS = 100  # of an ellipse
BARS = 60  # whole numbers are counted one by one up to this range
SHADES = ("#EFEFEF", "#DCDCDC", "#C4C4C4")


def has_density(fit: Fit) -> bool:
    """Whether the data are rows of one table that the model gives a density, one row without the others."""
    data, structure = fit.data, fit.structure
    if structure.rows is None or structure.local or data.missing or len(data.args) + len(data.kwargs) > 1:
        return False
    if [site.shape.numel() for site in structure.observed] != [data.values.numel()]:
        return False
    try:
        return len(_thinned(fit, 1).log_predictive(data.values[:2].cpu().numpy())) == 2
    except Exception:  # what it is called with is not all that it has a row of
        return False


def draw_densities(figure: FigureBase, shown: Compared) -> None:
    """A panel a method: one column as a histogram with densities, of several the first two as a scatter of points."""
    draw = _histogram if len(shown.main.data.columns) == 1 else _scatter
    panel_a_fit(figure, shown, draw(shown), sharex=True)


def _histogram(shown: Compared) -> Callable[[Axes, str, str], None]:
    """What draws a fit: the one column's histogram, the fitted density, and the reference's dashed."""
    main, values = shown.main, _rows(shown.main)[:, 0]
    most = getattr(main.structure.observed[0].support, "upper_bound", np.inf)  # a category beyond has no density
    points = _points(values, float(np.max(most)))
    heights = cache(lambda name: density(shown.fits[name], points))
    counted = bool((values == values.round()).all() and np.ptp(values) <= BARS)
    bins = max(15, min(60, int(2 * np.sqrt(len(values)))))
    edges = np.arange(values.min(), values.max() + 2) - 0.5 if counted else np.histogram_bin_edges(values, bins)

    def draw(axis: Axes, name: str, colour: str) -> None:
        axis.hist(values, edges.tolist(), density=True, color=SHADES[1], edgecolor="white", linewidth=0.3, label="data")
        axis.plot(points, heights(name), "-o" if counted else "-", color=colour, markersize=3, label="fitted density")
        if shown.reference not in (None, name):
            expected = heights(shown.reference)
            axis.plot(points, expected, "--", color=REFERENCE, linewidth=1, label="reference's density", zorder=1.9)
        axis.set(xlabel=main.data.columns[0], ylabel="density")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=counted))

    return draw


def _scatter(shown: Compared) -> Callable[[Axes, str, str], None]:
    """What draws a fit: the first two columns, contours of the reference's density, and components as ellipses.

    Where there is no reference, or no component to draw, the contours are those of each fit.
    """
    columns, values = shown.main.data.columns, _rows(shown.main)[:, :2]
    margin = 0.12 * np.ptp(values, 0)
    sides = np.linspace(values.min(0) - margin, values.max(0) + margin, CELLS).T
    cells = np.stack(np.meshgrid(*sides))
    heights = cache(lambda name: _heights(shown.fits[name], cells))
    common = shown.reference if _has_components(shown.main) else None
    whose = "fitted density" if common is None else "reference's density"

    def draw(axis: Axes, name: str, colour: str) -> None:
        axis.plot(*values.T, "o", color=GREY, alpha=0.6, markersize=2, markeredgewidth=0, label="data")
        _contours(axis, cells, heights(common or name))
        axis.plot([], [], "s", color=SHADES[1], label=f"{whose}:\n50, 80, 95 % of its mass")
        if _has_components(shown.fits[name]):
            _ellipses(axis, shown.fits[name], colour)
        axis.set(xlabel=columns[0], ylabel=columns[1])

    return draw


def density(fit: Fit, points: np.ndarray) -> np.ndarray:
    """The posterior predictive density at points, shaped as rows of the data: (M,)."""
    rows = points.reshape(len(points), *fit.data.values.shape[1:])
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.exp(_thinned(fit).log_predictive(rows)))  # NaN lies outside the model's support


def _heights(fit: Fit, cells: np.ndarray) -> np.ndarray:
    """The predictive density of the first two columns at cells (2, CELLS, CELLS); of more, a kernel's of new rows."""
    flat = cells.reshape(2, -1)
    two = len(fit.data.columns) == 2
    heights = density(fit, flat.T) if two else gaussian_kde(fit.sample(2000).to_numpy()[:, :2].T)(flat)
    return heights.reshape(CELLS, CELLS)


def _contours(axis: Axes, cells: np.ndarray, heights: np.ndarray) -> None:
    """The regions of highest density that hold the shares MASS. heights: (CELLS, CELLS)."""
    ordered = np.sort(heights, axis=None)[::-1]
    share = ordered.cumsum() / ordered.sum()
    levels = np.unique(ordered[np.searchsorted(share, MASS).clip(max=len(ordered) - 1)])
    if len(levels) == len(MASS):
        axis.contourf(*cells, heights, levels, colors=SHADES, extend="max")


def _ellipses(axis: Axes, fit: Fit, colour: str) -> None:
    """Each component at its posterior mean, numbered, with a few draws behind it."""
    draws = fit.draws()
    locs, covariances = draws["locs"][..., :2], draws["covariances"][..., :2, :2]
    if not fit.is_point:
        few = np.linspace(0, fit.number - 1, FAINT).astype(int)
        behind = _around(locs[few], covariances[few])
        axis.plot(*behind, color=colour, linewidth=0.5, alpha=0.4, label=f"1 sd in {FAINT} draws")
    mean, covariance = locs.mean(0), covariances.mean(0)
    for deviations in (1, 2):
        around = _around(mean, covariance * deviations**2)
        axis.plot(*around, color=colour, linewidth=1.4, label="components: mean,\n1 and 2 sd")
    for k, loc in enumerate(mean):
        halo = [withStroke(linewidth=2.5, foreground="white")]
        axis.annotate(str(k), loc, color=colour, fontweight="bold", ha="center", va="center", path_effects=halo)


def _around(locs: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """The ellipses of one standard deviation around M locs (..., 2), covariances (..., 2, 2): (2, POINTS, M)."""
    variances, vectors = np.linalg.eigh(covariances)
    angles = np.linspace(0, 2 * np.pi, POINTS)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    ellipses = locs[..., None, :] + circle * np.sqrt(variances)[..., None, :] @ vectors.swapaxes(-1, -2)
    return ellipses.reshape(-1, POINTS, 2).T


def _has_components(fit: Fit) -> bool:
    """Whether there are locs (K, D) and covariances (K, D, D) in the space of the data."""
    draws, size = fit.draws(), len(fit.data.columns)
    shapes = [draws[name].shape[2:] for name in ("locs", "covariances") if name in draws]
    return shapes == [(size,), (size, size)]


def with_draws(fit: Fit, places: np.ndarray) -> Fit:
    """The same with some of its draws: their numbers in each chain, one several times where so many are wanted."""
    groups = {name: group.isel(draw=places, missing_dims="ignore") for name, group in groups_of(fit.idata).items()}
    return replace(fit, idata=idata_of(groups))


def _thinned(fit: Fit, draws: int = DRAWS) -> Fit:
    """The same with so many draws at most, evenly spaced."""
    return with_draws(fit, np.arange(0, fit.posterior.sizes["draw"], -(-fit.number // draws)))


def _rows(fit: Fit) -> np.ndarray:
    """The data as a matrix: (N, D)."""
    return fit.data.values.reshape(len(fit.data.values), -1).cpu().numpy()


def _points(values: np.ndarray, most: float = np.inf) -> np.ndarray:
    """Where to evaluate a density: (M,). For whole numbers, whole numbers only: the data may be counts."""
    margin = 0.15 * np.ptp(values)
    points = np.linspace(values.min() - margin, min(values.max() + margin, most), 300)
    if (values != values.round()).any():
        return points
    whole = np.unique(points.round())
    return whole if values.min() < 0 else whole[whole >= 0]
