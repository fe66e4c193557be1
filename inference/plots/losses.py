"""The picture of how training went: the loss by step."""

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from .style import GREY, Compared, colours

SHARE = 0.02  # of the steps, what a smoothed line averages over
BURN = 0.1  # of the steps, what the scale of the axis leaves out of account


def draw_losses(figure: FigureBase, shown: Compared) -> None:
    """The loss of each fit that was trained: a smoothed line over the faint raw one, that of held-out rows dashed."""
    axis = figure.subplots()
    axis.set_title("Training: minus the ELBO")
    trained = {name: fit for name, fit in shown.fits.items() if len(fit.losses)}
    if not trained:
        axis.text(0.5, 0.5, "no fit was trained step by step", color=GREY, ha="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    by_row = all(fit.structure.only_local for fit in trained.values())
    losses = {name: fit.losses / (fit.number_of_rows if by_row else 1) for name, fit in trained.items()}
    smooth, palette = {name: smoothed(loss) for name, loss in losses.items()}, colours(shown.fits, shown.reference)
    low, high = limits(losses, smooth)
    for name, loss in losses.items():
        axis.plot(loss, color=palette[name], alpha=0.12, linewidth=0.6)
        axis.plot(smooth[name], color=palette[name], linewidth=1.5, label=name)
        held_out = getattr(trained[name], "test_losses", ())
        if len(held_out):
            places = np.arange(1, len(held_out) + 1) * len(loss) / len(held_out)
            axis.plot(places, held_out, "--", color=palette[name], linewidth=1.2, label=f"{name}, held out")
            low, high = min(low, *held_out), max(high, *held_out[len(held_out) // 2 :])
    longest = max(map(len, losses.values()))
    axis.set(xlabel="step", ylabel="nats a row" if by_row else "nats", xlim=(0, longest), ylim=(low, high))
    if len(shown.fits) > 1 or len(axis.get_legend_handles_labels()[1]) > 1:
        figure.legend(loc="outside lower center", ncols=2 if len(losses) < 9 else 3)


def smoothed(loss: np.ndarray) -> np.ndarray:
    """A running mean over a fiftieth of the steps: (steps,) -> (steps,)."""
    window = max(1, round(SHARE * len(loss)))
    return pd.Series(loss).rolling(window, center=True, min_periods=1).mean().to_numpy()


def limits(losses: dict[str, np.ndarray], smooth: dict[str, np.ndarray]) -> tuple[float, float]:
    """The range that shows every fit from a tenth of its steps on; the spikes of the start run out of the picture."""
    late = {name: slice(int(BURN * len(loss)), None) for name, loss in losses.items()}
    low = min(float(np.nanquantile(loss[late[name]], 0.005)) for name, loss in losses.items())
    spikes = [float(np.nanquantile(loss[late[name]], 0.95)) for name, loss in losses.items()]
    high = max(*spikes, *(float(np.nanmax(smooth[name][late[name]])) for name in losses))
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
