"""The picture of how training went: the loss by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from .panels import GREY, colours

if TYPE_CHECKING:
    from .comparison import Comparison

__all__ = ["draw_losses"]

SHARE = 0.02  # of the steps, what a smoothed line averages over
BURN = 0.1  # of the steps, what the scale of the axis leaves out of account


def draw_losses(figure: FigureBase, comparison: Comparison) -> None:
    """The loss of each fit that was trained: a smoothed line over the faint raw one."""
    axis = figure.subplots()
    losses = {name: fit.losses for name, fit in comparison.fits.items() if len(fit.losses)}
    palette = colours(comparison.fits, comparison.reference)
    smooth = {name: smoothed(loss) for name, loss in losses.items()}
    for name, loss in losses.items():
        axis.plot(loss, color=palette[name], alpha=0.12, linewidth=0.6)
    for name, loss in smooth.items():
        axis.plot(loss, color=palette[name], linewidth=1.5, label=name)
    axis.set_title("Training", loc="left", fontweight="bold")
    _dress(axis, losses, smooth)
    if losses:
        figure.legend(loc="outside lower center", ncols=2 if len(losses) < 9 else 3)


def smoothed(loss: np.ndarray) -> np.ndarray:
    """A running mean over a fiftieth of the steps: (steps,) -> (steps,)."""
    window = max(1, round(SHARE * len(loss)))
    return pd.Series(loss).rolling(window, center=True, min_periods=1).mean().to_numpy()


def limits(losses: dict[str, np.ndarray], smooth: dict[str, np.ndarray]) -> tuple[float, float]:
    """The range that shows every fit from a tenth of its steps on; the spikes of the start run out of the picture."""
    late = lambda loss: loss[int(BURN * len(loss)) :]  # noqa: E731
    low = min(float(np.nanquantile(late(loss), 0.005)) for loss in losses.values())
    high = max(
        max(float(np.nanmax(late(smooth[name]))), float(np.nanquantile(late(losses[name]), 0.95))) for name in losses
    )
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _dress(axis: Axes, losses: dict[str, np.ndarray], smooth: dict[str, np.ndarray]) -> None:
    if not losses:
        axis.text(0.5, 0.5, "no fit was trained step by step", color=GREY, ha="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    axis.set(xlabel="step", ylabel="loss: minus the ELBO (nats)", ylim=limits(losses, smooth))
    axis.set_xlim(0, max(map(len, losses.values())))
