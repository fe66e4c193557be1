"""The pictures of a Comparison, or of one Fit: matplotlib Figures, neither shown nor saved."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from matplotlib.figure import Figure, FigureBase

from .densities import draw_densities, has_density
from .forest import draw_forest, forest_height
from .losses import draw_losses
from .marginal import draw_gaps, gaps_height
from .predictive import SITES, draw_predictive
from .style import Compared, attempt, columns_of, compared, drawn

if TYPE_CHECKING:
    from ..fit.fit import Fit

WIDTH = 10.0  # inches


def plot_fit(shown: Compared | Fit) -> Figure:
    """The data and what each method fitted to them, a panel a method.

    Rows of one table, without covariates or latents of their own. Two columns or more: the first two as points, over
    the reference's posterior predictive density (the regions of 50, 80 and 95 % of its mass), with each method's
    components as ellipses of 1 and 2 standard deviations at the posterior mean, and 1 standard deviation in some of the
    draws; without `locs` and `covariances`, each method's own density. One column: its histogram, each method's
    density, and the reference's dashed.

    Any other model: what was observed beside each method's posterior predictive distribution. Of 0 and 1, the share of
    ones by the predicted probability; of a few categories, how often each occurs.
    """
    shown = compared(shown)
    return drawn(partial(_draw_fits, shown=shown), WIDTH, _fits_height(shown) * 1.1)


def plot_losses(shown: Compared | Fit) -> Figure:
    """The loss, minus the ELBO in nats, by step; a running mean over the raw values. Early spikes are cut off.

    A row, where rows share no latent; the loss of held-out rows dashed, where it is known.
    """
    return drawn(partial(draw_losses, shown=compared(shown)), WIDTH if hasattr(shown, "fits") else 5.6, 3.6)


def plot_forest(shown: Compared | Fit) -> Figure:
    """Mean and 94 % interval of each scalar parameter by method, a panel a parameter.

    The grey band is the reference's interval. A method far off does not squash the others: an
    arrow points to it.
    """
    shown = compared(shown)
    return drawn(partial(draw_forest, shown=shown), WIDTH, forest_height(shown) or 1.0)


def plot(shown: Compared | Fit) -> Figure:
    """All that can be drawn in one picture: the fits, the losses, and below them the parameters.

    Where the gaps of guides with a q(z | x) a row are known: these. A part that fails is a grey line that says why.
    """
    shown = compared(shown)
    if len(shown.gaps):
        draw_all = partial(draw_gaps, gaps=shown.gaps, table=shown.table)
        return drawn(partial(attempt, draw=draw_all), WIDTH, gaps_height(shown.gaps))
    height, below = max(_inches(_fits_height, shown), 2.8), _inches(forest_height, shown)
    trained = any(len(fit.losses) for fit in shown.fits.values())

    def draw(figure: FigureBase) -> None:
        ratios = [height, below] if below else [height]
        rows = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False).ravel()
        top = rows[0].subfigures(1, 1 + trained, width_ratios=[2.1, 1][: 1 + trained], squeeze=False).ravel()
        attempt(top[0], partial(_draw_fits, shown=shown))
        if trained:
            attempt(top[1], partial(draw_losses, shown=shown))
        if below:
            attempt(rows[1], partial(draw_forest, shown=shown))

    return drawn(draw, WIDTH, height + below)


def _draw_fits(figure: FigureBase, shown: Compared) -> None:
    first = next(iter(shown.fits.values()))
    (draw_densities if has_density(first) else draw_predictive)(figure, shown)


def _fits_height(shown: Compared) -> float:
    number, first = len(shown.fits), next(iter(shown.fits.values()))
    panels = number * min(len(first.structure.observed), SITES)
    return 0.4 + 2.3 * math.ceil(panels / columns_of(number))


def _inches(height: Callable[[Compared], float], shown: Compared) -> float:
    """The height of a part; enough for a line of text where it is not known, as the part will fail then."""
    try:
        return height(shown)
    except Exception:
        return 1.0
