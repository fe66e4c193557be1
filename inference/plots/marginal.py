"""Pictures of the marginal likelihood: every estimate against its draws, and what is unbiased and what is not."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import GREY, PALETTE, REFERENCE, drawn

__all__ = ["plot_marginal", "plot_unbiasedness"]

BAND = 2  # standard errors either side
BLUE, RED = PALETTE[:2]
COLOURS = {"naive": RED, "importance": BLUE, "ais": PALETTE[2], "ais_guide": PALETTE[3]}
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

    return drawn(draw, 9.0, 3.8)


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

    return drawn(draw, 8.0, 3.2)


def _bounds(axis: Axes, table: pd.DataFrame) -> None:
    """The ELBO, the IWAE bounds and importance sampling, at their number of draws."""
    draws = {name: _draws_in(str(name), table) for name in table.index}
    points = pd.Series({name: k for name, k in draws.items() if k}, dtype=int).sort_values(kind="stable")
    if points.empty:
        return
    nats, se = table.loc[points.index, "nats"], BAND * table.loc[points.index, "se"]
    axis.fill_between(points, nats - se, nats + se, color=BLUE, alpha=0.2, linewidth=0)
    axis.errorbar(
        points, nats, se, fmt="o-", color=BLUE, capsize=3, markersize=4, label="guide: ELBO, IWAE, importance"
    )
    for name, k in points.items():
        label = {"elbo": "ELBO", "importance": "IS"}.get(str(name), str(name).replace("iwae_", "IWAE "))
        axis.annotate(label, (k, nats[name]), (4, -11), textcoords="offset points", color=BLUE, fontsize=7)


def _draws_in(name: str, table: pd.DataFrame) -> int:
    """How many draws are inside the logarithm; 0 for what does not belong on this axis."""
    if name == "elbo":
        return 1
    if name.startswith("iwae_"):
        return int(name.removeprefix("iwae_"))
    return int(table.loc[name, "draws"]) if name == "importance" else 0


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
    axis.barh(shown.index, values, color=[COLOURS[name] for name in shown.index], height=0.6)
    for place, (sd, ess, draws) in enumerate(zip(values, shown["ess"], shown["draws"], strict=True)):
        axis.text(sd, place, f" ESS {ess:.1f} of {draws:.0f}", va="center")
    positive = values[values > 0]
    if len(positive):
        reach = 3 * positive.max() * (positive.max() / positive.min()) ** 0.8
        axis.set(xscale="log", xlim=(0.3 * positive.min(), reach))
    axis.invert_yaxis()
    axis.set(xlabel="sd of log weights, nats", title="Why they differ")
