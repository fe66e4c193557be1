"""Rows of one table and the density that each method fitted to them: a scatter or a histogram a method."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.stats import gaussian_kde

from .style import GREY, REFERENCE, Compared, Draw, panel_a_fit

if TYPE_CHECKING:
    from ..fit.fit import Fit

DRAWS = 300  # at most so many, evenly spaced, behind a predictive density: a picture needs no more
FAINT = 20  # posterior draws shown as faint ellipses
CELLS = 60  # grid points a side
MASS = (0.95, 0.8, 0.5)  # what the contours enclose
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
    columns = next(iter(shown.fits.values())).data.columns
    draw, handles = (_histogram if len(columns) == 1 else _scatter)(shown)
    panel_a_fit(figure, shown, [draw], handles, sharex=True)


def _histogram(shown: Compared) -> tuple[Draw, list[Artist]]:
    """The one column's histogram, the fitted density, and the reference's dashed; the legend's handles."""
    first, reference = next(iter(shown.fits.values())), shown.reference
    values = _rows(first)[:, 0]
    most = getattr(first.structure.observed[0].support, "upper_bound", np.inf)  # a category beyond has no density
    points = _points(values, float(np.max(most)))
    expected = None if reference is None else density(shown.fits[reference], points)
    counted = bool((values == values.round()).all() and np.ptp(values) <= BARS)
    bins = max(15, min(60, int(2 * np.sqrt(len(values)))))
    edges = np.arange(values.min(), values.max() + 2) - 0.5 if counted else np.histogram_bin_edges(values, bins)
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if counted else {}
    dashed: dict[str, Any] = {"color": REFERENCE, "linestyle": "--", "linewidth": 1}

    def draw(axis: Axes, name: str, colour: str) -> None:
        axis.hist(values, bins=edges.tolist(), density=True, color=SHADES[1], edgecolor="white", linewidth=0.3)
        if expected is not None and name != reference:
            axis.plot(points, expected, **dashed)
        own = expected if expected is not None and name == reference else density(shown.fits[name], points)
        axis.plot(points, own, color=colour, linewidth=1.6, **style)
        axis.set(xlabel=first.data.columns[0], ylabel="density")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=counted))

    handles = [Patch(color=SHADES[1], label="data"), Line2D([], [], color=GREY, label="fitted density", **style)]
    return draw, handles if reference is None else [*handles, Line2D([], [], label="reference's density", **dashed)]


def _scatter(shown: Compared) -> tuple[Draw, list[Artist]]:
    """The first two columns, contours of the reference's density, and components as ellipses; the legend's handles.

    Where there is no reference, or no component to draw, the contours are those of each fit.
    """
    fits, first = shown.fits, next(iter(shown.fits.values()))
    values, components = _rows(first)[:, :2], _has_components(first)
    margin = 0.12 * np.ptp(values, 0)
    sides = np.linspace(values.min(0) - margin, values.max(0) + margin, CELLS).T
    cells = np.stack(np.meshgrid(*sides))
    common = _heights(fits[shown.reference], cells) if shown.reference and components else None

    def draw(axis: Axes, name: str, colour: str) -> None:
        _contours(axis, cells, _heights(fits[name], cells) if common is None else common)
        axis.scatter(values[:, 0], values[:, 1], s=4, color=GREY, alpha=0.6, linewidth=0, zorder=2)
        if _has_components(fits[name]):
            _ellipses(axis, fits[name], colour)
        axis.set(xlabel=first.data.columns[0], ylabel=first.data.columns[1])

    whose = "fitted density" if common is None else "reference's density"
    handles: list[Artist] = [Line2D([], [], linestyle="", marker="o", markersize=3, color=GREY, label="data")]
    handles += [Patch(color=SHADES[1], label=f"{whose}:\n50, 80, 95 % of its mass")]
    if components:
        handles += [Line2D([], [], color=GREY, linewidth=1.5, label="components: mean,\n1 and 2 sd")]
        if not all(fit.is_point for fit in fits.values()):
            handles += [Line2D([], [], color=GREY, linewidth=0.5, alpha=0.6, label=f"1 sd in {FAINT} draws")]
    return draw, handles


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
        axis.contourf(*cells, heights, [*levels, max(float(ordered[0]), levels[-1] * 1.001)], colors=SHADES)


def _ellipses(axis: Axes, fit: Fit, colour: str) -> None:
    """Each component at its posterior mean, numbered, with a few draws behind it."""
    draws = fit.draws()
    locs, covariances = draws["locs"][..., :2], draws["covariances"][..., :2, :2]
    for draw in np.linspace(0, fit.number - 1, FAINT).astype(int) if not fit.is_point else []:
        for loc, covariance in zip(locs[draw], covariances[draw], strict=True):
            axis.add_patch(_ellipse(loc, covariance, 1, edgecolor=colour, linewidth=0.4, alpha=0.35))
    for k, (loc, covariance) in enumerate(zip(locs.mean(0), covariances.mean(0), strict=True)):
        for deviations in (1, 2):
            axis.add_patch(_ellipse(loc, covariance, deviations, edgecolor=colour, linewidth=1.4, zorder=3))
        halo = [withStroke(linewidth=2.5, foreground="white")]
        axis.annotate(str(k), loc, color=colour, fontweight="bold", ha="center", va="center", path_effects=halo)


def _ellipse(loc: np.ndarray, covariance: np.ndarray, deviations: float, **style: Any) -> Ellipse:
    """So many standard deviations around loc (2,): the eigenvectors of covariance (2, 2) are its axes."""
    variances, vectors = np.linalg.eigh(covariance)
    sides, angle = 2 * deviations * np.sqrt(variances), np.degrees(np.arctan2(*vectors[::-1, 0]))
    return Ellipse((loc[0], loc[1]), *sides, angle=angle, fill=False, **style)


def _has_components(fit: Fit) -> bool:
    """Whether there are locs (K, D) and covariances (K, D, D) in the space of the data."""
    draws, size = fit.draws(), len(fit.data.columns)
    shapes = [draws[name].shape[2:] for name in ("locs", "covariances") if name in draws]
    return shapes == [(size,), (size, size)]


def with_draws(fit: Fit, places: np.ndarray) -> Fit:
    """The same with some of its draws: their numbers in each chain, one several times where so many are wanted."""
    idata = fit.idata.isel(draw=places)
    return fit if idata is None else replace(fit, idata=idata)


def _thinned(fit: Fit, draws: int = DRAWS) -> Fit:
    """The same with so many draws at most, evenly spaced."""
    return with_draws(fit, np.arange(0, fit.posterior.sizes["draw"], -(-fit.number // draws)))


def _rows(fit: Fit) -> np.ndarray:
    """The data as a matrix: (N, D)."""
    return fit.data.values.reshape(len(fit.data.values), -1).cpu().numpy()


def _points(values: np.ndarray, most: float = np.inf) -> np.ndarray:
    """Where to evaluate a density: (M,). For whole numbers, whole numbers only: the data may be counts."""
    whole = bool((values == values.round()).all())
    margin = 0.15 * np.ptp(values)
    low, high = values.min() - margin, min(values.max() + margin, most)
    low = max(low, 0.0) if whole and values.min() >= 0 else low
    points = np.linspace(low, high, 300)
    return np.unique(points.round()) if whole else points
