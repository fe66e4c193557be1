"""The latent codes of rows that have latents of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....errors import InputError
from ....models.structure import model_name
from ..latent import draw_codes
from ..style import canvas, columns_of, compared, styled

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
    fits: list[Any] = [fit for fit in parts.fits.values() if hasattr(fit, "encode")]
    if not fits:
        what = f"model {model_name(parts.main.model)} has latents that rows share"
        raise InputError(f"{what}: plot_latent is of latent codes of rows, a VAE's for example")
    codes = [fit for fit in fits if hasattr(fit.guide, "posterior")] or fits
    panels = canvas(ax, len(codes), columns_of(len(codes)), (5.0, 4.0), figsize)
    for axis, fit in zip(panels.axes, codes, strict=True):
        draw_codes(axis, fit, labels, x)
        if len(codes) > 1:
            axis.set_title(fit.name, color=parts.palette[fit.name])
    return panels.given_back
