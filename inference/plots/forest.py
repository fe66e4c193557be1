"""The picture of the posteriors side by side: each scalar parameter by method, the worst first."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from .drawing.canvas import Canvas, canvas, on_figure
from .drawing.compared import Compared, compared
from .drawing.figure import attempt, say, styled
from .drawing.looks import REFERENCE
from .parameters import Parameter, chosen, titled

TAILS = (0.03, 0.97)  # a 94 % interval, as ArviZ draws it
SHOWN = 12  # panels
WIDE = 6  # panels side by side, at most
REACH = 4  # reference interval widths beyond which a panel does not follow a stray method


@styled
def plot_forest(
    shown: Any,
    var_names: Collection[str] | None = None,
    num: int | None = SHOWN,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Any:
    """Mean and 94 % interval of each scalar by method, a panel each in its own units, the worst scalars first.

    Worst is the largest bias of a fit against the reference, in its sd, or |log sd_ratio|; without a reference the
    order is the model's. The grey band is the reference's interval. A method far off does not squash the others: an
    arrow points to it.

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
    >>> axes = plot_forest(comparison, var_names=["locs", "weights"])
    """
    parts = compared(shown)
    found = chosen(parts, var_names, num)
    size = (10.0 / max(3, _columns(found)), _panel_height(parts))
    panels = canvas(ax, len(found), _columns(found), size, figsize, sharey=True)
    _draw(panels, found, parts)
    return panels.given_back


def draw_forest(figure: FigureBase, shown: Compared) -> None:
    """What `plot_forest` shows, on a figure, with a heading."""
    try:
        found = chosen(shown, num=SHOWN)
    except ValueError:
        say(figure, "no parameters to show")
        return
    panels = on_figure(figure, len(found), _columns(found), sharey=True)
    _draw(panels, found, shown)
    what = "Parameters" if all(fit.is_point for fit in shown.fits.values()) else "Parameters: mean and 94 % interval"
    worst = ", the worst first" if any(np.isfinite(each.badness) for each in found) else ""
    panels.title(what + worst)


def forest_height(shown: Compared) -> float:
    """Inches that `draw_forest` needs, each row of panels a line a method; 0 where there is no parameter to show."""
    try:
        found = chosen(shown, num=SHOWN)
    except ValueError:
        return 0.0
    return 0.4 + math.ceil(len(found) / _columns(found)) * _panel_height(shown)


def _panel_height(shown: Compared) -> float:
    return 0.8 + 0.17 * len(shown.fits)


def _columns(found: list[Parameter]) -> int:
    """Panels side by side, so that the rows are as full as can be."""
    return math.ceil(len(found) / math.ceil(len(found) / WIDE))


def _draw(panels: Canvas, found: list[Parameter], shown: Compared) -> None:
    for axis, parameter in zip(panels.axes, found, strict=True):
        attempt(axis, _forest, parameter, shown)
        axis.set_ylim(len(shown.fits) - 0.4, -1.0)
    for place, axis in enumerate(panels.axes):
        axis.tick_params(axis="y", labelleft=place % panels.columns == 0)


def _forest(axis: Axes, parameter: Parameter, shown: Compared) -> None:
    """One parameter: a row a method, the reference's interval as a band through all rows.

    An arrow at the edge stands for a mean that lies beyond it.
    """
    known = [(row, name) for row, name in enumerate(shown.fits) if name in parameter.draws]
    looks = shown.looks
    for row, name in known:
        look, values = looks[name], parameter.draws[name]
        axis.plot(np.quantile(values, TAILS), [row, row], color=look.colour, linewidth=2, solid_capstyle="butt")
        axis.plot(values.mean(), row, look.marker, color=look.colour, markersize=4)
    _band(axis, parameter.expected if shown.reference else np.zeros(0))
    left, right = axis.get_xlim()
    for row, name in known:
        mean = parameter.draws[name].mean()
        edge = np.clip(mean, left, right)
        if edge != mean:
            axis.plot(edge, row, "<" if mean < edge else ">", color=looks[name].colour, markersize=5, clip_on=False)
    titled(axis, parameter, shown)
    axis.set_yticks(range(len(shown.fits)), shown.fits)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(3))


def _band(axis: Axes, draws: np.ndarray) -> None:
    """The reference's interval, and limits that no stray method may stretch beyond REACH of its widths."""
    left, right = axis.get_xlim()
    short = max(0.0, 3e-3 * max(abs(left), abs(right)) - (right - left))  # else its ticks would be unreadable
    left, right = left - short / 2, right + short / 2
    if len(draws):
        low, high = np.quantile(draws, TAILS)
        axis.axvspan(low, high, color=REFERENCE, alpha=0.08, linewidth=0, zorder=0)
        axis.axvline(draws.mean(), color=REFERENCE, linewidth=0.6, alpha=0.5, zorder=0)
        if high > low:
            left, right = max(left, low - REACH * (high - low)), min(right, high + REACH * (high - low))
    axis.set_xlim(left, right)
