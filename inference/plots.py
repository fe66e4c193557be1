"""Pictures of a Comparison: matplotlib Figures, neither shown nor saved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from matplotlib.figure import Figure, FigureBase

from .drawing import drawn
from .forest import draw_forest, forest_shape
from .losses import draw_losses
from .portrait import columns_of, draw_fits

if TYPE_CHECKING:
    from .comparison import Comparison

__all__ = ["plot", "plot_fit", "plot_forest", "plot_losses"]

WIDTH = 10.0  # inches


def plot_fit(comparison: Comparison) -> Figure:
    """The data and what each method fitted to them, a panel a method.

    Two columns or more: the first two as points, over the reference's posterior predictive density (the regions of 50,
    80 and 95 % of its mass), with each method's components as ellipses of 1 and 2 standard deviations at the posterior
    mean, and 1 standard deviation in some of the draws. A model without `locs` and `covariances`: each method's own
    density. One column: its histogram, each method's density, and the reference's dashed.
    """
    return _drawn(draw_fits, comparison, _fit_height(comparison) * 1.1)


def plot_losses(comparison: Comparison) -> Figure:
    """The loss, minus the ELBO in nats, by step; a running mean over the raw values. Early spikes are cut off."""
    return _drawn(draw_losses, comparison, 3.6)


def plot_forest(comparison: Comparison) -> Figure:
    """Mean and 94 % interval of each scalar parameter by method, a panel a parameter.

    The grey band is the reference's interval. A method far off does not squash the others: an
    arrow points to it.
    """
    return _drawn(draw_forest, comparison, _forest_height(comparison))


def plot(comparison: Comparison) -> Figure:
    """The three pictures on one figure: the fits, the losses, and below them the parameters."""
    heights = [max(_fit_height(comparison), 2.8), _forest_height(comparison)]

    def draw(figure: FigureBase, comparison: Comparison) -> None:
        top, bottom = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).ravel()
        left, right = top.subfigures(1, 2, width_ratios=[2.1, 1], squeeze=False).ravel()
        draw_fits(left, comparison)
        draw_losses(right, comparison)
        draw_forest(bottom, comparison)

    return _drawn(draw, comparison, sum(heights))


def _drawn(draw: Callable[[FigureBase, Comparison], None], comparison: Comparison, height: float) -> Figure:
    return drawn(lambda figure: draw(figure, comparison), WIDTH, height)


def _fit_height(comparison: Comparison) -> float:
    """Inches."""
    number = len(comparison.fits)
    return 0.4 + 2.3 * math.ceil(number / columns_of(number))


def _forest_height(comparison: Comparison) -> float:
    """Inches: each row of panels has a line a method."""
    rows, _ = forest_shape(comparison)
    return 0.4 + max(rows, 1) * (0.7 + 0.17 * len(comparison.fits))
