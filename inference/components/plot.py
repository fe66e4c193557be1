"""The picture of how many components: each criterion against K."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..plots.drawing.canvas import columns_of, grid
from ..plots.drawing.figure import drawn
from ..plots.drawing.looks import GREY, PALETTE

BLUE, RED, GREEN, PINK = PALETTE[:4]
BAND = 2  # standard errors either side
FAR = 2.5  # times as far below the best as the next but one: left out of the picture
BESIDE = 0.15  # of a K, so that what would lie on each other lies side by side


def plot_components(table: pd.DataFrame, starts: pd.DataFrame) -> Figure:
    """Each criterion against K, a panel each, those without a value left out.

    The bounds with log K! added, that of every start as a cross (Bishop 2006, figure 10.7), beside the log evidence
    with 2 standard errors; p(K | x); BIC and AIC; the density of held-out rows with 2 standard errors. A ring marks
    what is chosen. table, starts: as `Selection` has them.
    """
    panels: dict[str, Callable[..., None]] = {
        "elbo": partial(_evidence, starts=starts),
        "probability": _probability,
        "bic": _information,
        "lpd_test": _held_out,
    }
    shown = [draw for name, draw in panels.items() if table[name].notna().any()]

    def draw(figure: Figure) -> None:
        axes, _ = grid(figure, len(shown), columns_of(len(shown)))
        for axis, panel in zip(axes, shown, strict=True):
            panel(axis, table)
            axis.set_xlabel("components K")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))

    rows = -(-len(shown) // columns_of(len(shown)))
    return drawn(4.2 * columns_of(len(shown)), 3.1 * rows, draw)


def _evidence(axis: Axes, table: pd.DataFrame, starts: pd.DataFrame) -> None:
    label = "ELBO + log K!, a cross a start"
    axis.plot(starts.index - BESIDE, starts["elbo"], "+", color=BLUE, markersize=7, alpha=0.8, label=label)
    axis.plot(table.index - BESIDE, table["elbo"], "-", color=BLUE, linewidth=1)
    _with_errors(axis, table, "log_evidence", BESIDE, RED, "log evidence, ± 2 se")
    _ring(axis, table["elbo"], table["elbo"].idxmax(), -BESIDE)
    if table["log_evidence"].notna().any():
        _ring(axis, table["log_evidence"], table["log_evidence"].idxmax(), BESIDE)
    worst = starts.groupby(level=0)["elbo"].min()
    _focus(axis, pd.concat([worst, table["elbo"], _band(table, "log_evidence")], axis=1), room=0.35)
    axis.set(ylabel="nats", title="Bound and evidence")
    axis.legend(loc="best")


def _probability(axis: Axes, table: pd.DataFrame) -> None:
    bars = axis.bar(table.index, table["probability"], color=RED, width=0.6)
    axis.bar_label(bars, [f"{p:.2f}" if p >= 0.005 else "" for p in table["probability"]], color=GREY, fontsize=8)
    axis.set(ylim=(0, 1.1), title="p(K | x), every K as likely a priori")


def _information(axis: Axes, table: pd.DataFrame) -> None:
    for name, colour in (("bic", GREEN), ("aic", PINK)):
        axis.plot(table.index, table[name], "o-", color=colour, markersize=4, linewidth=1, label=name.upper())
        _ring(axis, table[name], table[name].idxmin())
    _focus(axis, table[["bic", "aic"]], sign=-1)
    axis.set(title="BIC and AIC: lower is better")
    axis.legend(loc="best")


def _held_out(axis: Axes, table: pd.DataFrame) -> None:
    _with_errors(axis, table, "lpd_test", 0.0, BLUE, None)
    _ring(axis, table["lpd_test"], table["lpd_test"].idxmax())
    _focus(axis, _band(table, "lpd_test"))
    axis.set(ylabel="nats", title="Log density of held-out rows, ± 2 se")


def _band(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The ends of the error bars."""
    return pd.concat([table[name] + side * BAND * table[f"{name}_se"] for side in (-1, 1)], axis=1)


def _with_errors(axis: Axes, table: pd.DataFrame, name: str, shift: float, colour: str, label: str | None) -> None:
    style: Any = {"fmt": "o-", "color": colour, "capsize": 3, "markersize": 4, "linewidth": 1, "label": label}
    axis.errorbar(table.index + shift, table[name], BAND * table[f"{name}_se"], **style)


def _ring(axis: Axes, values: pd.Series, best: Any, shift: float = 0.0) -> None:
    axis.plot([best + shift], [values[best]], "o", color=GREY, markersize=11, fillstyle="none")


def _focus(axis: Axes, shown: pd.DataFrame, sign: int = 1, room: float = 0.1) -> None:
    """Leave out of the picture, and name in its corner, a K so bad that the others could not be told apart.

    shown: all that is drawn, a row a K. sign: 1 where more is better, else -1. room: beyond the worst that is shown.
    """
    top, lows = float((sign * shown).max().max()), (sign * shown).min(axis=1).dropna().sort_values()
    left = []
    while len(lows) > 2 and top - lows.iloc[0] > FAR * (top - lows.iloc[1]):
        left.append(str(lows.index[0]))
        lows = lows.iloc[1:]
    if left:
        height, low = top - lows.iloc[0], sign * (lows.iloc[0] - room * (top - lows.iloc[0]))
        high = sign * (top + 0.1 * height)
        axis.set_ylim(min(low, high), max(low, high))
        text = f"K = {', '.join(left)} lies {'below' if sign > 0 else 'above'}"
        axis.annotate(text, (1, 1), (0, -8), "axes fraction", "offset points", color=GREY, fontsize=7.5, ha="right")
