"""The pictures of a Comparison, or of one Fit, and how training went: matplotlib Figures, neither shown nor saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase

from .densities import draw_densities, has_density
from .forest import draw_forest, forest_height
from .marginal import draw_gaps, gaps_height
from .predictive import SITES, draw_predictive
from .style import Compared, attempt, columns_of, compared, drawn, say

if TYPE_CHECKING:
    from ..compare.comparison import Comparison
    from ..fit.fit import Fit

WIDTH = 10.0  # inches
SHARE = 0.02  # of the steps, what a smoothed line averages over
BURN = 0.1  # of the steps, what the scale of the axis leaves out of account


def plot_fit(shown: Comparison | Fit) -> Figure:
    """The data and what each method fitted to them, a panel a method.

    Rows of one table, without covariates or latents of their own. Two columns or more: the first two as points, over
    the reference's posterior predictive density (the regions of 50, 80 and 95 % of its mass), with each method's
    components as ellipses of 1 and 2 standard deviations at the posterior mean, and 1 standard deviation in some of the
    draws; without `locs` and `covariances`, each method's own density. One column: its histogram, each method's
    density, and the reference's dashed.

    Any other model: what was observed beside each method's posterior predictive distribution. Of 0 and 1, the share of
    ones by the predicted probability; of a few categories, how often each occurs.
    """
    return drawn(WIDTH, _fits_height(compared(shown)) * 1.1, _draw_fits, compared(shown))


def plot_losses(shown: Comparison | Fit) -> Figure:
    """The loss, minus the ELBO in nats, by step; a running mean over the raw values. Early spikes are cut off.

    A row, where rows share no latent; the loss of held-out rows dashed, where it is known.
    """
    return drawn(WIDTH if hasattr(shown, "fits") else 5.6, 3.6, draw_losses, compared(shown))


def plot_forest(shown: Comparison | Fit) -> Figure:
    """Mean and 94 % interval of each scalar parameter by method, a panel a parameter.

    The grey band is the reference's interval. A method far off does not squash the others: an
    arrow points to it.
    """
    return drawn(WIDTH, forest_height(compared(shown)) or 1.0, draw_forest, compared(shown))


def plot(shown: Comparison | Fit) -> Figure:
    """All that can be drawn in one picture: the fits, the losses, and below them the parameters.

    Where the gaps of guides with a q(z | x) a row are known: these. A part that fails is a grey line that says why.
    """
    parts = compared(shown)
    if len(parts.gaps):
        return drawn(WIDTH, gaps_height(parts.gaps), attempt, draw_gaps, parts.gaps, parts.table)
    heights = [max(_inches(_fits_height, parts), 2.8), *filter(None, [_inches(forest_height, parts)])]
    trained = any(len(fit.losses) for fit in parts.fits.values())

    def draw(figure: FigureBase) -> None:
        above, *below = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
        left, *right = above.subfigures(1, 1 + trained, width_ratios=[2.1, 1][: 1 + trained], squeeze=False).ravel()
        attempt(left, _draw_fits, parts)
        for part in right:
            attempt(part, draw_losses, parts)
        for part in below:
            attempt(part, draw_forest, parts)

    return drawn(WIDTH, sum(heights), draw)


def _draw_fits(figure: FigureBase, shown: Compared) -> None:
    (draw_densities if has_density(shown.main) else draw_predictive)(figure, shown)


def _fits_height(shown: Compared) -> float:
    rows = math.ceil(len(shown.fits) / columns_of(len(shown.fits)))
    return 0.4 + 2.3 * rows * min(len(shown.main.structure.observed), SITES)


def _inches(height: Callable[[Compared], float], shown: Compared) -> float:
    """The height of a part; enough for a line of text where it is not known, as the part will fail then."""
    try:
        return height(shown)
    except Exception:
        return 1.0


def draw_losses(figure: FigureBase, shown: Compared) -> None:
    """The loss of each fit that was trained: a smoothed line over the faint raw one, that of held-out rows dashed."""
    trained = {name: fit for name, fit in shown.fits.items() if len(fit.losses)}
    if not trained:
        say(figure, "no fit was trained step by step")
        return
    axis = figure.subplots()
    by_row = all(fit.structure.only_local for fit in trained.values())
    losses = {name: fit.losses / (fit.number_of_rows if by_row else 1) for name, fit in trained.items()}
    low, high = limits(losses.values())
    for name, loss in losses.items():
        colour, held_out = shown.palette[name], getattr(trained[name], "test_losses", ())
        axis.plot(loss, color=colour, alpha=0.12, linewidth=0.6)
        axis.plot(smoothed(loss), color=colour, linewidth=1.5, label=name)
        if len(held_out):
            places = np.arange(1, len(held_out) + 1) * len(loss) / len(held_out)
            axis.plot(places, held_out, "--", color=colour, linewidth=1.2, label=f"{name}, held out")
            low, high = min(low, *held_out), max(high, *held_out[len(held_out) // 2 :])
    longest = max(map(len, losses.values()))
    axis.set(xlabel="step", ylabel="nats a row" if by_row else "nats", xlim=(0, longest), ylim=(low, high))
    axis.set_title("Training: minus the ELBO")
    if len(shown.fits) > 1 or len(axis.get_legend_handles_labels()[1]) > 1:
        figure.legend(loc="outside lower center", ncols=2 if len(losses) < 9 else 3)


def smoothed(loss: np.ndarray) -> np.ndarray:
    """A running mean over a fiftieth of the steps: (steps,) -> (steps,)."""
    window = max(1, round(SHARE * len(loss)))
    return pd.Series(loss).rolling(window, center=True, min_periods=1).mean().to_numpy()


def limits(losses: Iterable[np.ndarray]) -> tuple[float, float]:
    """The range that shows every fit from a tenth of its steps on; the spikes of the start run out of the picture."""
    late = [loss[int(BURN * len(loss)) :] for loss in losses]
    low = min(float(np.nanquantile(loss, 0.005)) for loss in late)
    high = max(float(max(np.nanquantile(loss, 0.95), np.nanmax(smoothed(loss)))) for loss in late)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
