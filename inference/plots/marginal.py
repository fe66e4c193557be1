"""Pictures of log p(x) of rows: every estimate by its draws, what is unbiased, and the gaps of guides."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from .drawing.figure import drawn
from .drawing.looks import GREY, PALETTE, REFERENCE, colours

BAND = 2  # standard errors either side
LONGEST_BAR = 0.4  # of the panel's width: the rest is for what stands beside it
BLUE, RED = PALETTE[:2]
COLOURS = {"naive": RED, "importance": BLUE, "ais": PALETTE[2], "ais_guide": PALETTE[3]}
# Greys, for a colour is a method's.
GAPS = {"approximation: the family": "#4D4D4D", "amortisation: the encoder": "#A6A6A6", "not told apart": "#D9D9D9"}
LINES = {"naive": "naive, from the prior", "ais": "AIS from the prior", "ais_guide": "AIS from the guide"}


def plot_marginal(table: pd.DataFrame, truth: float | None = None) -> Figure:
    """The table of `marginal_likelihood`: bounds and importance sampling by draws, the others as bands across.

    All with 2 standard errors. truth: mean log p(x) a row, nats, where it is known. A method beyond the picture, as
    naive Monte Carlo often is, is named at its edge. The right panel has the spread of each method's log weights.
    """

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
        _bounds(left, table)
        _bands(left, table)
        if truth is not None:
            left.axhline(truth, color=REFERENCE, linestyle="--", linewidth=1, label="truth")
        left.set(xlabel="draws in the bound, k", ylabel="log p(x), nats a row", xscale="log")
        left.set_title("Estimates, ± 2 standard errors")
        _spread(right, table)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)

    return drawn(9.0, 3.8, draw)


def plot_unbiasedness(table: pd.DataFrame) -> Figure:
    """The table of `unbiasedness`: p-hat / p(x) about one, log p-hat below log p(x), by the number of draws."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        sizes = table.index.to_numpy(dtype=float)
        left.axhline(1, color=REFERENCE, linestyle="--", linewidth=1)
        left.errorbar(sizes, table["ratio"], BAND * table["ratio_se"], fmt="o", color=BLUE, capsize=3)
        margin = 3 * float((table["ratio_se"] * BAND).max())
        left.set(ylim=(1 - margin, 1 + margin), title="p̂ / p(x): 1 on average")
        right.errorbar(sizes, -table["log_error"], BAND * table["log_error_se"], fmt="o", color=RED, capsize=3)
        right.plot(sizes, -table["predicted"], color=GREY, linewidth=1, label="var(w / p(x)) / 2n")
        right.set(yscale="log", title="log p(x) − log p̂, nats: above 0")
        right.legend(loc="upper right")
        for axis in (left, right):
            axis.set(xlabel="draws n, ± 2 standard errors", xscale="log")

    return drawn(8.0, 3.2, draw)


def _bounds(axis: Axes, table: pd.DataFrame) -> None:
    """The ELBO, the IWAE bounds and importance sampling, by how many draws are inside the logarithm."""
    iwae = {name: int(name.removeprefix("iwae_")) for name in table.index if name.startswith("iwae_")}
    inside = pd.Series({"elbo": 1, **iwae, "importance": table["draws"].get("importance")}, dtype=float)
    points = inside[inside.index.isin(table.index)].sort_values(kind="stable")
    if points.empty:
        return
    nats, se = table.loc[points.index, "nats"], BAND * table.loc[points.index, "se"]
    axis.fill_between(points, nats - se, nats + se, color=BLUE, alpha=0.2, linewidth=0)
    style: Any = {"fmt": "o-", "color": BLUE, "capsize": 3, "markersize": 4}
    axis.errorbar(points, nats, se, label="guide: ELBO, IWAE, importance", **style)
    for name, k in points.items():
        label = {"elbo": "ELBO", "importance": "IS"}.get(str(name), str(name).replace("iwae_", "IWAE "))
        axis.annotate(label, (k, nats[name]), (4, -11), textcoords="offset points", color=BLUE, fontsize=7)


def _bands(axis: Axes, table: pd.DataFrame) -> None:
    """The methods that have no k, across the picture; those far below what is there are only named."""
    low, high = axis.get_ylim()
    for name in [name for name in LINES if name in table.index]:
        nats, se = float(table.loc[name, "nats"]), float(table.loc[name, "se"])
        if nats < low - (high - low):
            axis.plot([], [], color=COLOURS[name], label=f"{LINES[name]}: {nats:.1f}, below the picture")
        else:
            axis.axhspan(nats - BAND * se, nats + BAND * se, color=COLOURS[name], alpha=0.15, linewidth=0)
            axis.axhline(nats, color=COLOURS[name], linewidth=1.2, label=LINES[name])


def _spread(axis: Axes, table: pd.DataFrame) -> None:
    """The standard deviation of the log weights of each method that has weights of its own."""
    shown = table.loc[[name for name in COLOURS if name in table.index]]
    values = shown["log_weight_sd"]
    bars = axis.barh(shown.index, values, color=[COLOURS[name] for name in shown.index], height=0.6)
    axis.bar_label(bars, [f" ESS {row.ess:.1f} of {row.draws:.0f}" for row in shown.itertuples()])
    positive = values[values > 0]
    if len(positive):
        low = 0.3 * positive.min()
        axis.set(xscale="log", xlim=(low, low * (positive.max() / low) ** (1 / LONGEST_BAR)))
    axis.invert_yaxis()
    axis.set(xlabel="sd of log weights, nats", title="Why they differ")


def plot_gaps(gaps: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Stacked bars of the mean gaps a guide, with 2 standard errors of their sum.

    gaps: a row each (guide, data row), as `amortisation_gaps` has it. table: a row a guide, with its gap, gap_se,
    approximation_gap and amortisation_gap: that of a Comparison, or `summarised(gaps)`. Beside the bars stand each
    row's bias and sd_ratio against NUTS, ideally 0 and 1, hollow where NUTS did not converge. A guide whose q* was not
    looked for has its whole gap in grey.
    """
    return drawn(10.0, gaps_height(gaps), draw_gaps, gaps, table)


def gaps_height(gaps: pd.DataFrame) -> float:
    """Inches that `draw_gaps` needs."""
    return 1.6 + 0.45 * len(gaps.index.unique("guide"))


def draw_gaps(figure: FigureBase, gaps: pd.DataFrame, table: pd.DataFrame) -> None:
    """What `plot_gaps` shows, on a figure."""
    summary = table.loc[list(gaps.index.unique("guide"))]
    bars, bias, ratio = figure.subplots(1, 3, sharey=True, width_ratios=[1.8, 1, 1])
    _bars(bars, summary)
    _dots(bias, gaps, "bias", 0.0)
    _dots(ratio, gaps, "sd_ratio", 1.0)
    bias.set_xlabel("|mean − NUTS| / sd, worst latent")
    ratio.set_xlabel("sd / NUTS sd, smallest latent")
    bars.set_ylim(len(summary) - 0.4, -0.6)
    handles, labels = bars.get_legend_handles_labels()
    if not gaps["converged"].all():
        handles += bias.plot([], [], "o", color=GREY, markersize=3, fillstyle="none")
        labels.append("hollow: NUTS did not converge on the row")
    figure.legend(handles, labels, loc="outside lower left", ncols=4)


def _bars(axis: Axes, summary: pd.DataFrame) -> None:
    """A bar a guide: the approximation gap, then the amortisation gap; the whole where they are not told apart."""
    untold = summary["gap"].where(summary["approximation_gap"].isna())
    gaps = summary[["approximation_gap", "amortisation_gap"]].assign(untold=untold).set_axis([*GAPS], axis=1)
    gaps.dropna(axis=1, how="all").plot.barh(stacked=True, width=0.6, color=GAPS, legend=False, ax=axis)
    style: Any = {"color": REFERENCE, "fmt": "none", "capsize": 3, "linewidth": 1}
    axis.errorbar(summary["gap"], range(len(summary)), xerr=BAND * summary["gap_se"], label="± 2 se", **style)
    axis.axvline(0, color=REFERENCE, linewidth=0.8)
    axis.tick_params(axis="y", which="minor", length=0)  # pandas puts some between guides
    axis.set(xlabel="log p(x) − ELBO, nats a row", ylabel="", title="Gaps")


def _dots(axis: Axes, gaps: pd.DataFrame, column: str, ideal: float) -> None:
    """A dot a data row, a line a guide, the median as a stroke; hollow where NUTS did not converge."""
    palette = colours(gaps.index.unique("guide"))
    for place, guide in enumerate(palette):
        values, sound = (gaps.loc[guide, name].to_numpy() for name in (column, "converged"))
        shifts = place + (np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1))
        axis.plot(values[sound], shifts[sound], "o", color=palette[guide], markersize=3, alpha=0.5)
        axis.plot(values[~sound], shifts[~sound], "o", color=GREY, markersize=3, fillstyle="none")
        if sound.any():
            axis.plot([np.median(values[sound])] * 2, [place - 0.3, place + 0.3], color=palette[guide], linewidth=2)
    axis.axvline(ideal, color=REFERENCE, linestyle="--", linewidth=1)
    axis.set_xlim(left=0)
    axis.tick_params(axis="y", which="both", length=0)
