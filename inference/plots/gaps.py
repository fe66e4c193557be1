"""Pictures of the gaps: what each guide loses to its family and to its encoder, and how its q compares with NUTS."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from .style import GREY, PALETTE, REFERENCE, colours, drawn

__all__ = ["draw_gaps", "gaps_height", "plot_gaps"]

BAND = 2  # standard errors either side


def plot_gaps(gaps: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Stacked bars of the mean gaps a guide, with 2 standard errors of their sum.

    gaps: a row each (guide, data row), as `amortisation_gaps` has it. table: a row a guide, with its gap, gap_se,
    approximation_gap and amortisation_gap: that of a Comparison, or `summarised(gaps)`. Beside the bars stand each
    row's bias and sd_ratio against NUTS, ideally 0 and 1, hollow where NUTS did not converge. A guide whose q* was not
    looked for has its whole gap in grey.
    """
    return drawn(lambda figure: draw_gaps(figure, gaps, table), 10.0, gaps_height(gaps))


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
    bars.set_yticks(range(len(summary)), list(summary.index))
    bars.set_ylim(len(summary) - 0.4, -0.6)
    figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", ncols=4)


def _bars(axis: Axes, summary: pd.DataFrame) -> None:
    """A bar a guide: the approximation gap, then the amortisation gap."""
    places = np.arange(len(summary))
    known = summary["approximation_gap"].notna().to_numpy()
    first, second = (summary[f"{kind}_gap"].where(known, 0.0) for kind in ("approximation", "amortisation"))
    bars = partial(axis.barh, places, height=0.6)
    bars(first, color=PALETTE[0], label="approximation: the family")
    bars(second, left=first.clip(lower=0), color=PALETTE[4], label="amortisation: the encoder")
    if not known.all():
        bars(summary["gap"].where(~known, 0.0), color=GREY, alpha=0.5, label="not told apart")
    errors: Any = {"color": REFERENCE, "fmt": "none", "capsize": 3, "linewidth": 1}
    axis.errorbar(summary["gap"], places, xerr=BAND * summary["gap_se"], label="± 2 se", **errors)
    axis.axvline(0, color=REFERENCE, linewidth=0.8)
    axis.set(xlabel="log p(x) − ELBO, nats a row", title="Gaps")


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
    axis.tick_params(axis="y", length=0)
