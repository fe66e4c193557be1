"""Posteriors of scalars over the reference's: one by one as densities, two by two as pairs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy.stats import gaussian_kde

from ...errors import InputError
from ..runtime.arviz import kde
from .drawing.canvas import canvas
from .drawing.compared import Compared, compared
from .drawing.figure import styled
from .drawing.looks import GREY, REFERENCE, Look, looks
from .parameters import Parameter, chosen, in_order, titled
from .rows.densities import mass_levels

SHOWN = 6  # densities
PAIRED = 4  # scalars of pairs
REACH = 1.5  # of the range that holds the reference's draws, beyond which a panel does not follow a stray fit
TAILS = (0.001, 0.999)
MASS = (0.94, 0.5)  # what the contours of pairs enclose
CELLS = 50  # grid points a side, of pairs
DRAWS = 1000  # behind the contours of pairs, at most
DOTS = 400  # draws shown as dots, at most
SHADES = ("#E3E3E3", "#BDBDBD")


@styled
def plot_densities(
    shown: Any,
    var_names: Collection[str] | None = None,
    num: int | None = SHOWN,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Any:
    """The marginal density of each scalar by fit over the reference's, in grey, the worst scalars first.

    A point estimate is an upright line. Worst is as in `plot_forest`.

    Parameters
    ----------
    shown : Comparison or Fit.
    var_names, num, ax, figsize : see `pyrometer.plots`; a panel is a scalar.

    Returns
    -------
    Axes, or an array of them.

    Raises
    ------
    InputError
        A variable is unknown, or there is no parameter that rows share.

    Examples
    --------
    >>> axes = plot_densities(comparison, var_names=[comparison.table.loc["auto_normal", "worst"]])
    """
    parts = compared(shown)
    found = chosen(parts, var_names, num)
    columns = min(len(found), 2 if len(found) == 4 else 3)
    panels = canvas(ax, len(found), columns, (3.2, 2.2), figsize)
    labelled = dict[str, Any]()
    for axis, parameter in zip(panels.axes, found, strict=True):
        for name, line in _densities(axis, parameter, parts).items():
            labelled.setdefault(name, line)
    if len(parts.fits) > 1:
        panels.legend(labelled)
    return panels.given_back


def _densities(axis: Axes, parameter: Parameter, shown: Compared) -> dict[str, Any]:
    """One scalar: the line of each fit by name, that of the reference with its area filled."""
    labelled, known = dict[str, Any](), shown.looks
    for name, draws in parameter.draws.items():
        look, is_reference = known[name], name == shown.reference
        label = f"{name} (reference)" if is_reference else name
        style: Any = {"color": look.colour, "linestyle": look.dashes, "linewidth": 1.4, "label": label}
        if np.ptp(draws) == 0:
            labelled[label] = axis.axvline(draws[0], **style)
            continue
        grid, heights = kde(draws)
        labelled[label] = axis.plot(grid, heights, **style, zorder=2 if is_reference else 3)[0]
        if is_reference:
            axis.fill_between(grid, heights, color=REFERENCE, alpha=0.12, linewidth=0)
    _focus(axis, parameter)
    _arrows(axis, parameter, known)
    titled(axis, parameter, shown)
    axis.set(yticks=[], ylim=(0, None))
    axis.spines["left"].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    return labelled


def _focus(axis: Axes, parameter: Parameter) -> None:
    """Limits that no stray fit may stretch beyond REACH of the reference's range."""
    left, right = axis.get_xlim()
    low, high = np.quantile(parameter.expected, TAILS)
    reach = REACH * (high - low)
    if reach > 0:
        axis.set_xlim(max(left, low - reach), min(right, high + reach))


def _arrows(axis: Axes, parameter: Parameter, known: Mapping[str, Look]) -> None:
    """What lies beyond the panel, as an arrow at its edge."""
    for name, draws in parameter.draws.items():
        edge = np.clip(draws.mean(), *axis.get_xlim())
        if edge != draws.mean():
            arrow: Any = {"color": known[name].colour, "markersize": 6, "clip_on": False}
            axis.plot(edge, 0, "<" if draws.mean() < edge else ">", **arrow)


@styled
def plot_pairs(
    shown: Any,
    fit: str | None = None,
    var_names: Collection[str] | None = None,
    num: int = PAIRED,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Any:
    """Pairs of scalars: draws of a fit and the regions of 50 and 94 % of their mass, over the reference's in grey.

    What a guide without correlations loses stands out here, and nowhere in its marginals.

    Parameters
    ----------
    shown : Comparison or Fit.
    fit : the fit that is held to the reference; None takes the one whose worst mean is farthest off, else the first.
    var_names, num, ax, figsize : see `pyrometer.plots`; the scalars are paired in the order of var_names, or are the
        worst of this fit, and the panels are a square of num - 1 by num - 1.

    Returns
    -------
    Axes of the one pair, or an array (num - 1, num - 1) of which those above the diagonal are switched off.

    Raises
    ------
    InputError
        A fit or a variable is unknown, or there are fewer than two parameters that rows share.

    Examples
    --------
    >>> axes = plot_pairs(comparison, "auto_normal", var_names=["locs"])
    """
    parts = compared(shown)
    name = _held_to_reference(parts, fit)
    held = _alone(parts, name)
    found = in_order(chosen(held, var_names, num, least=2), var_names)
    side = len(found) - 1
    panels = canvas(ax, side * side, side, (2.3 if side > 1 else 3.6,) * 2, figsize)
    square: Any = np.array(panels.axes, dtype=object).reshape(side, side)
    look = looks(parts.fits, parts.reference)[name]
    for row, column in np.ndindex(side, side):
        axis = square[row, column]
        if column > row:
            axis.set_axis_off()
            continue
        _pair(axis, found[column], found[row + 1], name, parts.reference, look)
        axis.set_xlabel(found[column].label if row == side - 1 else "")
        axis.set_ylabel(found[row + 1].label if column == 0 else "")
        axis.tick_params(labelbottom=row == side - 1, labelleft=column == 0)
    handles, labels = square[0, 0].get_legend_handles_labels()
    panels._replace(spare=[square[0, -1]] if side > 1 else ()).legend(dict(zip(labels, handles, strict=True)))
    return square if side > 1 else square[0, 0]


def _held_to_reference(shown: Compared, fit: str | None) -> str:
    """The name of the fit that is drawn."""
    if fit is None:
        table = shown.table
        known = table["bias"].dropna() if "bias" in table else table
        return str(known.idxmax()) if len(known) else next(iter(shown.others))
    if fit not in shown.fits:
        raise InputError(f"fit={fit!r} is not one of {', '.join(shown.fits)}")
    return fit


def _alone(shown: Compared, name: str) -> Compared:
    """One fit and the reference, so that the scalars are those in which this one is worst."""
    names = [each for each in shown.fits if each in (name, shown.reference)]
    parameters = shown.parameters
    if len(parameters):
        parameters = parameters[parameters.index.get_level_values("fit") == name]
    return shown._replace(fits={each: shown.fits[each] for each in names}, parameters=parameters)


def _pair(axis: Axes, x: Parameter, y: Parameter, name: str, reference: str | None, look: Look) -> None:
    """One pair of scalars on a panel."""
    if reference is not None:
        known = _thinned(np.stack([x.expected, y.expected]), DRAWS)
        if not _regions(axis, known, filled=True):
            axis.plot(*_thinned(known, DOTS), "o", color=GREY, markersize=1.5, alpha=0.5)
        axis.plot([], [], "s", color=SHADES[1], label=f"{reference} (reference):\n50, 94 % of its mass")
    if name == reference:
        return
    own = _thinned(np.stack([x.draws[name], y.draws[name]]), DRAWS)
    if np.ptp(own) == 0 or own.shape[1] == 1:
        axis.plot(*own[:, :1], look.marker, color=look.colour, markersize=6, label=name)
        return
    axis.plot(*_thinned(own, DOTS), "o", color=look.colour, markersize=1.3, alpha=0.35, markeredgewidth=0)
    _regions(axis, own, filled=False, colour=look.colour)
    axis.plot([], [], "-", color=look.colour, linewidth=1.3, label=f"{name}: draws,\n50, 94 % of their mass")


def _regions(axis: Axes, draws: np.ndarray, filled: bool, colour: str = REFERENCE) -> bool:
    """The regions of highest density that hold the shares MASS; False where draws (2, S) lie on a line."""
    try:
        kernel = gaussian_kde(draws)
    except np.linalg.LinAlgError:
        return False
    margin = 0.15 * np.ptp(draws, 1)
    sides = np.linspace(draws.min(1) - margin, draws.max(1) + margin, CELLS).T
    cells = np.stack(np.meshgrid(*sides))
    heights = kernel(cells.reshape(2, -1)).reshape(CELLS, CELLS)
    levels = mass_levels(heights, MASS)
    if len(levels) < len(MASS):
        return False
    if filled:
        axis.contourf(*cells, heights, levels, colors=SHADES, extend="max", zorder=0)
    else:
        axis.contour(*cells, heights, levels, colors=colour, linewidths=1.3)
    return True


def _thinned(draws: np.ndarray, number: int) -> np.ndarray:
    """At most so many of (2, S), evenly spaced."""
    return draws[:, np.linspace(0, draws.shape[1] - 1, min(number, draws.shape[1])).astype(int)]
