"""All of a fit whose rows have latents of their own, in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure, FigureBase

from ..drawing.compared import compared
from ..drawing.figure import attempt, drawn
from ..losses import draw_losses
from .codes import draw_codes
from .decoded import draw_plane, draw_samples
from .reconstructions import draw_interpolation, draw_reconstructions
from .sheet import is_strings, is_table

if TYPE_CHECKING:
    from ...local_latents.row_fit import RowFit


def plot_portrait(fit: RowFit, labels: Any = None) -> Figure:
    """Training, latent space, reconstructions, the latent plane (samples of more than two units), interpolations."""

    def draw(figure: Figure) -> None:
        left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1], squeeze=False).ravel()
        table = not is_strings(fit) and is_table(fit.rows()[:1])
        heights = [0.8, 1.4, 1.3] if table else [1, 1.7, 0.7]
        top, middle, bottom = left.subfigures(3, 1, height_ratios=heights, squeeze=False).ravel()
        attempt(top, draw_losses, compared(fit))
        attempt(middle, _latent, fit, labels)
        attempt(bottom, draw_reconstructions, fit, None, 10)
        if table or is_strings(fit):
            attempt(right, draw_samples, fit, 90 if is_strings(fit) else 40)
            return
        upper, lower = right.subfigures(2, 1, height_ratios=[2.1, 1], squeeze=False).ravel()
        attempt(upper, draw_plane if fit.latent <= 2 else draw_samples, fit, 13 if fit.latent <= 2 else 64)
        rows = _one_by_one(fit, 8)
        attempt(lower, draw_interpolation, fit, list(zip(rows[::2], rows[1::2], strict=False)), 8)

    return drawn(11.0, 7.6, draw)


def _latent(figure: FigureBase, fit: RowFit, labels: Any) -> None:
    draw_codes(figure.subplots(), fit, labels)


def _one_by_one(fit: RowFit, number: int) -> list[Any]:
    """The first fitted rows, each with its covariates where there are any."""
    if is_strings(fit) or len(fit.data.tensors) == 1:
        return list(fit.rows()[:number])
    return list(zip(*(value[:number].cpu().numpy() for value in fit.data.tensors), strict=True))
