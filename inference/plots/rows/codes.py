"""The latent codes of rows that have latents of their own, and what codes decode to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from ....errors import InputError, check_positive
from ....models.structure import model_name
from .. import latent
from ..drawing.canvas import canvas, columns_of, in_place_of
from ..drawing.compared import Compared, compared
from ..drawing.figure import styled

if TYPE_CHECKING:
    from ...data.as_data import DataLike


@styled
def plot_latent(
    shown: Any,
    labels: Any = None,
    x: DataLike | None = None,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Any:
    """E_q[z | x] of each row, coloured by label: both units, or of more the first two principal directions.

    Parameters
    ----------
    shown : Fit of a model whose rows have latents of their own and share none, a VAE say; of a Comparison a panel a
        guide that tells q(z | x).
    labels : one a row: a Series, array or list of names or numbers; None leaves them grey.
    x : other rows than those that were fitted.
    ax : one Axes for each fit, or one in whose place all are drawn. None makes a new figure of `figsize` inches.

    Returns
    -------
    Axes, or an array of them.

    Raises
    ------
    InputError
        The model has no latents a row, the guide does not tell q(z | x), or labels are not one a row.

    Examples
    --------
    >>> axes = plot_latent(fit, labels=classes)
    """
    parts = compared(shown)
    fits = _of_rows(parts, "plot_latent")
    codes = [fit for fit in fits if hasattr(fit.guide, "posterior")] or fits
    panels = canvas(ax, len(codes), columns_of(len(codes)), (5.0, 4.0), figsize)
    for axis, fit in zip(panels.axes, codes, strict=True):
        latent.draw_codes(axis, fit, labels, x)
        if len(codes) > 1:
            axis.set_title(fit.name, color=parts.palette[fit.name])
    return panels.given_back


@styled
def plot_decoded(shown: Any, number: int = 49, ax: Any = None, figsize: tuple[float, float] | None = None) -> Any:
    """E[x | z] over the plane of the codes; of more than two latent units, of tables and of strings: of prior draws.

    Parameters
    ----------
    shown : Fit of a model whose rows have latents of their own and share none, a VAE say; of a Comparison the first.
    number : of pictures, about, or of rows and strings.
    ax : one Axes in whose place it is drawn. None makes a new figure of `figsize` inches.

    Returns
    -------
    Axes, or an array of them where a table takes several panels.

    Raises
    ------
    InputError
        The model has no latents a row.

    Examples
    --------
    >>> axes = plot_decoded(fit)
    """
    check_positive(number=number)
    fit = _of_rows(compared(shown), "plot_decoded")[0]
    part = plt.figure(figsize=figsize or (5.0, 5.0), layout="constrained") if ax is None else in_place_of(ax)
    plane = fit.latent <= 2 and not hasattr(fit.model, "as_given") and not latent._is_table(fit.rows()[:1])
    if plane:
        latent._plane(part, fit, math.isqrt(number))
    else:
        latent._samples(part, fit, number)
    axes: Any = part.axes
    return axes[0] if plane or len(axes) == 1 else np.array(axes, dtype=object)


def _of_rows(shown: Compared, what: str) -> list[Any]:
    """The fits of a model whose rows share no latent."""
    fits: list[Any] = [fit for fit in shown.fits.values() if hasattr(fit, "encode")]
    if not fits:
        model = f"model {model_name(shown.main.model)} has latents that rows share"
        raise InputError(f"{model}: {what} is of rows with latents of their own, a VAE's for example")
    return fits
