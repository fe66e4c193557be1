"""The whole picture of a Comparison, or of one Fit: what was fitted to the data, training, and the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure, FigureBase

from .drawing.canvas import Canvas, canvas_a_row, columns_of
from .drawing.compared import Compared, compared
from .drawing.figure import attempt, drawn, styled
from .forest import draw_forest, forest_height
from .losses import draw_losses
from .marginal import draw_gaps, gaps_height
from .rows.densities import draw_densities, has_density
from .rows.predictive import SITES, draw_predictive, sites_of

WIDTH = 10.0  # inches


def plot(shown: Any) -> Figure:
    """All that can be drawn in one picture: the fits, the losses, and below them the parameters.

    Where the gaps of guides with a q(z | x) a row are known: these. A part that fails is a grey line that says why.
    shown: Comparison or Fit.
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


@styled
def plot_fit(shown: Any, ax: Any = None, figsize: tuple[float, float] | None = None) -> Any:
    """The data and what each method fitted to them, a panel a method.

    Rows of one table, without covariates or latents of their own. Two columns or more: a point a row, over the
    reference's posterior predictive density (the regions of 50, 80 and 95 % of its mass), with each method's components
    as ellipses of 1 and 2 standard deviations at the posterior mean, and 1 standard deviation in some of the draws;
    without `locs` and `covariances`, each method's own density. More than two columns are shown in the plane that tells
    the components apart best, as its axes say: see `plot_responsibilities`. One column: its histogram, each method's
    density, and the reference's dashed.

    Any other model: what was observed beside each method's posterior predictive distribution, as `plot_predictive`.

    Parameters
    ----------
    shown : Comparison or Fit.
    ax, figsize : see `pyrometer.plots`; a panel is a fit.

    Returns
    -------
    Axes, or an array of them.

    Examples
    --------
    >>> axes = plot_fit(comparison)
    """
    parts = compared(shown)
    draw, rows = _of_fits(parts)
    canvases = canvas_a_row(ax, rows, parts, figsize, 2.5, **_shares(draw))
    draw(canvases, parts)
    return Canvas([axis for panels in canvases for axis in panels.axes], 1).given_back


def _draw_fits(figure: FigureBase, shown: Compared) -> None:
    draw, rows = _of_fits(shown)
    draw(canvas_a_row(figure, rows, shown, **_shares(draw)), shown)


def _of_fits(shown: Compared) -> tuple[Callable[[Sequence[Canvas], Compared], None], int]:
    """What draws the fits, and how many rows of panels it wants."""
    if has_density(shown.main):
        return draw_densities, 1
    return draw_predictive, min(len(sites_of(shown.main.structure)), SITES)


def _shares(draw: Any) -> dict[str, bool]:
    return {"sharex": draw is draw_densities, "sharey": True}


def _fits_height(shown: Compared) -> float:
    rows = math.ceil(len(shown.fits) / columns_of(len(shown.fits)))
    return 0.4 + 2.3 * rows * min(len(sites_of(shown.main.structure)), SITES)


def _inches(height: Callable[[Compared], float], shown: Compared) -> float:
    """The height of a part; enough for a line of text where it is not known, as the part will fail then."""
    try:
        return height(shown)
    except Exception:
        return 1.0
