"""The picture of a calibration: rank histograms, and differences of the ranks' distribution from a uniform one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ..plots.drawing.figure import attempt, drawn, say
from ..plots.drawing.looks import GREY, PALETTE

if TYPE_CHECKING:
    from .calibration import Calibration

COLUMNS = 4  # panels side by side
MOST = 24  # scalars; where there are more, those with the smallest p-values are shown
POINTS = 50  # at which a difference is drawn, and its band holds
BAR = 0.99  # of the histogram's band
HALVINGS = 40  # of what is left to find of a level
RIGHT, WRONG = PALETTE[0], PALETTE[1]


def plot_calibration(calibration: Calibration, alpha: float) -> Figure:
    """Two panels a scalar: its ranks, and the difference of their distribution from a uniform one.

    The histogram's band holds each bar of an exact method with 99 %. The band of the difference holds the whole curve,
    and those of all scalars together, with 1 - alpha (Säilynoja, Bürkner and Vehtari 2022, algorithm 2, at
    1 - alpha / P each).
    """
    shown = _shown(calibration)
    width = 2.5 * max(2, min(COLUMNS, len(shown)))
    return drawn(width, 0.6 + 3.4 * math.ceil(len(shown) / COLUMNS), _draw, calibration, shown, alpha)


def _shown(calibration: Calibration) -> list[str]:
    """The scalars that are shown, in their order."""
    least = calibration.table[["chi2", "ks"]].min(axis=1).to_numpy()
    return [str(calibration.ranks.columns[i]) for i in np.sort(np.argsort(least, kind="stable")[:MOST])]


def _draw(figure: Figure, calibration: Calibration, shown: list[str], alpha: float) -> None:
    ranks, draws = calibration.ranks, calibration.draws
    some = f" ({len(shown)} of {ranks.shape[1]}, the farthest from uniform)" if len(shown) < ranks.shape[1] else ""
    what = f"ranks of the truth among {draws} draws, {len(ranks)} simulations{some}"
    title = f"{calibration.method} on {calibration.model}: {what}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    rows, columns = math.ceil(len(shown) / COLUMNS), max(2, min(COLUMNS, len(shown)))
    axes = figure.subplots(2 * rows, columns, squeeze=False, sharex=True)
    for axis in axes.ravel():
        axis.set_axis_off()
    band = _band(len(ranks), draws, alpha / ranks.shape[1])
    for place, name in enumerate(shown):
        row, column = divmod(place, columns)
        upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
        verdict = calibration.table.loc[name, "verdict"]
        colour = RIGHT if verdict == "uniform" else WRONG
        for axis in (upper, lower):
            axis.set_axis_on()
        attempt(upper, _histogram, ranks[name].to_numpy(), draws, calibration.bins, colour)
        attempt(lower, _difference, ranks[name].to_numpy(), draws, band, colour)
        upper.set_title(name, color=colour, pad=15)
        upper.annotate(verdict, (0, 1), (0, 4), "axes fraction", "offset points", color=GREY, fontsize=7.5)
        upper.set_ylabel("" if column else "simulations")
        lower.set_ylabel("" if column else "difference of ECDF")
        lower.set_xlabel("rank")


def _histogram(axis: Axes, ranks: np.ndarray, draws: int, bins: np.ndarray, colour: str) -> None:
    """How many ranks fall into each bin, over the band for one bar."""
    if not len(ranks):
        say(axis, "no simulation ended")
        return
    counts, _ = np.histogram(ranks, bins - 0.5)
    share = np.diff(bins) / (draws + 1)
    low, high = stats.binom.interval(BAR, len(ranks), share)
    edges = bins - 0.5
    axis.stairs(high, edges, baseline=low, fill=True, color=GREY, alpha=0.25, linewidth=0)
    axis.stairs(len(ranks) * share, edges, baseline=None, color=GREY, linewidth=0.8)
    axis.stairs(counts, edges, color=colour, linewidth=1.2)
    axis.set_ylim(0, 1.15 * max(high.max(), counts.max()))


def _difference(
    axis: Axes, ranks: np.ndarray, draws: int, band: tuple[np.ndarray, np.ndarray, np.ndarray], colour: str
) -> None:
    """The empirical distribution function of the ranks less that of a uniform one, over the band for all of it."""
    if not len(ranks):
        say(axis, "no simulation ended")
        return
    steps, low, high = band
    uniform = steps / (draws + 1)
    found = np.searchsorted(np.sort(ranks), steps - 1, side="right") / len(ranks)
    places = np.concatenate([[0], steps]) - 0.5
    axis.fill_between(places, [0, *(low - uniform)], [0, *(high - uniform)], color=GREY, alpha=0.25, linewidth=0)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.plot(places, [0, *(found - uniform)], color=colour, linewidth=1.2)


def _band(simulations: int, draws: int, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of ranks, and the least and largest share of simulations an exact method has in so many: each (M,)."""
    levels, number = draws + 1, max(1, simulations)
    steps = np.unique(np.round(np.linspace(0, levels, min(POINTS, levels) + 1)).astype(int))[1:]
    at = steps[:-1] / levels  # at the last the band has no width
    narrow, wide = 1 - alpha, 1.0  # the share of curves that the interval at one point holds
    for _ in range(HALVINGS):
        middle = (narrow + wide) / 2
        enough = _held(number, at, *stats.binom.interval(middle, number, at)) >= 1 - alpha
        narrow, wide = (narrow, middle) if enough else (middle, wide)
    low, high = stats.binom.interval(wide, number, at)
    return steps, np.append(low / number, 1.0), np.append(high / number, 1.0)


def _held(number: int, at: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The share of uniform samples of a size of which low to high, (M,), lie below each point at, (M,).

    Exactly, from point to point (Säilynoja, Bürkner and Vehtari 2022, algorithm 2): the numbers between points are
    independent and Poisson, given that they sum to the size.
    """
    shares, first = np.ones(1), 0  # of samples with first, first + 1, ... below the point before
    for share, least, most in zip(np.diff(at, prepend=0.0), low.astype(int), high.astype(int), strict=True):
        more = stats.poisson.pmf(np.arange(most - first + 1), number * share)
        shares, first = np.convolve(shares, more)[least - first : most - first + 1], least
    rest = stats.poisson.pmf(number - first - np.arange(len(shares)), number * (1 - at[-1]))
    return float(shares @ rest / stats.poisson.pmf(number, number))
