"""Rows of one table and the density that each method fitted to them: a scatter or a histogram a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.stats import gaussian_kde

from ..drawing.canvas import Canvas, panel_a_fit
from ..drawing.compared import Compared
from ..drawing.looks import GREY, REFERENCE
from .plane import Plane, plane_of, rows_of, thinned

if TYPE_CHECKING:
    from ...fit.fit import Fit

NEW_ROWS = 2000  # behind a density of more than two columns
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
        return len(thinned(fit, 1).log_predictive(data.values[:2].cpu().numpy())) == 2
    except Exception:  # what it is called with is not all that it has a row of
        return False


def draw_densities(canvases: Sequence[Canvas], shown: Compared) -> None:
    """A panel a method: one column as a histogram with densities, of several a plane with a point a row."""
    draw = _histogram if len(shown.main.data.columns) == 1 else _scatter
    panel_a_fit(canvases, shown, draw(shown), sharex=True)


def _histogram(shown: Compared) -> Callable[[Axes, str, str], None]:
    """What draws a fit: the one column's histogram, the fitted density, and the reference's dashed."""
    main, values = shown.main, rows_of(shown.main.data)[:, 0]
    most = getattr(main.structure.observed[0].support, "upper_bound", np.inf)  # a category beyond has no density
    points = _points(values, float(np.max(most)))
    heights = cache(lambda name: density(shown.fits[name], points))
    counted = bool((values == values.round()).all() and np.ptp(values) <= BARS)
    bins = max(15, min(60, int(2 * np.sqrt(len(values)))))
    edges = np.arange(values.min(), values.max() + 2) - 0.5 if counted else np.histogram_bin_edges(values, bins)

    def draw(axis: Axes, name: str, colour: str) -> None:
        axis.hist(values, edges.tolist(), density=True, color=SHADES[1], edgecolor="white", linewidth=0.3, label="data")
        line = "-o" if counted else "-"
        axis.plot(points, heights(name), line, color=colour, linewidth=1.8, markersize=3, label="fitted density")
        if shown.reference not in (None, name):
            expected = heights(shown.reference)
            axis.plot(points, expected, "--", color=REFERENCE, linewidth=1, label="reference's density", zorder=1.9)
        axis.set(xlabel=main.data.columns[0], ylabel="density")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=counted))

    return draw


def _scatter(shown: Compared) -> Callable[[Axes, str, str], None]:
    """What draws a fit: the rows in their plane, contours of the reference's density, and components as ellipses.

    Where there is no reference, or no component to draw, the contours are those of each fit.
    """
    plane = plane_of(shown.main)
    values = plane.of(rows_of(shown.main.data))
    margin = 0.12 * np.ptp(values, 0)
    sides = np.linspace(values.min(0) - margin, values.max(0) + margin, CELLS).T
    cells = np.stack(np.meshgrid(*sides))
    heights = cache(lambda name: _heights(shown.fits[name], plane, cells))
    common = shown.reference if _has_components(shown.main) else None
    whose = "fitted density" if common is None else "reference's density"

    def draw(axis: Axes, name: str, colour: str) -> None:
        axis.plot(*values.T, "o", color=GREY, alpha=0.6, markersize=2, markeredgewidth=0, label="data")
        _contours(axis, cells, heights(common or name))
        axis.plot([], [], "s", color=SHADES[1], label=f"{whose}:\n50, 80, 95 % of its mass")
        if _has_components(shown.fits[name]):
            _ellipses(axis, shown.fits[name], plane, colour)
        axis.set(xlim=sides[0, [0, -1]], ylim=sides[1, [0, -1]])
        axis.set_xlabel(plane.labels[0], fontsize=plane.label_size)
        axis.set_ylabel(plane.labels[1], fontsize=plane.label_size)

    return draw


def density(fit: Fit, points: np.ndarray) -> np.ndarray:
    """The posterior predictive density at points, shaped as rows of the data: (M,)."""
    rows = points.reshape(len(points), *fit.data.values.shape[1:])
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.exp(thinned(fit).log_predictive(rows)))  # NaN lies outside the model's support


def _heights(fit: Fit, plane: Plane, cells: np.ndarray) -> np.ndarray:
    """The predictive density in the plane at cells (2, CELLS, CELLS); of more columns a kernel's of new rows."""
    flat = cells.reshape(2, -1)
    two = len(fit.data.columns) == 2
    heights = density(fit, flat.T) if two else gaussian_kde(plane.of(fit.sample(NEW_ROWS).to_numpy()).T)(flat)
    return heights.reshape(CELLS, CELLS)


def mass_levels(heights: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The heights above which lie these shares of the mass of a density on a grid: ascending, equal ones once."""
    ordered = np.sort(heights, axis=None)[::-1]
    share = ordered.cumsum() / ordered.sum()
    return np.unique(ordered[np.searchsorted(share, shares).clip(max=len(ordered) - 1)])


def _contours(axis: Axes, cells: np.ndarray, heights: np.ndarray) -> None:
    """The regions of highest density that hold the shares MASS. heights: (CELLS, CELLS)."""
    levels = mass_levels(heights, MASS)
    if len(levels) == len(MASS):
        axis.contourf(*cells, heights, levels, colors=SHADES, extend="max")


def _ellipses(axis: Axes, fit: Fit, plane: Plane, colour: str) -> None:
    """Each component at its posterior mean, numbered, with a few draws behind it."""
    draws = fit.draws()
    locs, covariances = plane.of(draws["locs"]), plane.of_covariances(draws["covariances"])
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
        style: Any = {"fontweight": "bold", "ha": "center", "va": "center", "path_effects": halo}
        axis.annotate(str(k), loc, color=colour, annotation_clip=True, **style)


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


def _points(values: np.ndarray, most: float = np.inf) -> np.ndarray:
    """Where to evaluate a density: (M,). For whole numbers, whole numbers only: the data may be counts."""
    margin = 0.15 * np.ptp(values)
    points = np.linspace(values.min() - margin, min(values.max() + margin, most), 300)
    if (values != values.round()).any():
        return points
    whole = np.unique(points.round())
    return whole if values.min() < 0 else whole[whole >= 0]
