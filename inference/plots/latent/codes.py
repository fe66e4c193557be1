"""The latent codes of rows that have latents of their own, in a plane, and clusters of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ....errors import InputError
from ....models.structure import model_name
from ...mapped.blocks import evenly_spaced
from ..drawing.canvas import canvas, columns_of
from ..drawing.compared import Compared, compared
from ..drawing.figure import drawn, styled
from ..drawing.looks import GREY
from .sheet import is_strings

if TYPE_CHECKING:
    from ...data.as_data import DataLike
    from ...local_latents.latent_space import Clusters
    from ...local_latents.row_fit import RowFit

LOOKED_AT, ALIKE = 200, 0.003  # rows, and the share of their variance below which what they decode to is the same


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
    ax, figsize : see `pyrometer.plots`; a panel is a fit.

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
    fits = of_rows(parts, "plot_latent")
    codes = [fit for fit in fits if hasattr(fit.guide, "posterior")] or fits
    panels = canvas(ax, len(codes), columns_of(len(codes)), (5.0, 4.0), figsize)
    for axis, fit in zip(panels.axes, codes, strict=True):
        draw_codes(axis, fit, labels, x)
        if len(codes) > 1:
            axis.set_title(fit.name, color=parts.palette[fit.name])
    return panels.given_back


def plot_clusters(clusters: Clusters) -> Figure:
    """Rows in the latent plane, coloured by cluster, and beside it by label where labels are known."""

    def draw(figure: Figure) -> None:
        known = {"cluster": clusters.most_probable}
        if clusters.labels is not None:
            known[str(clusters.labels.name or "label")] = clusters.labels
        across, up, names = _flat(clusters.z)
        for axis, (name, labels) in zip(figure.subplots(1, len(known), squeeze=False)[0], known.items(), strict=True):
            _coloured(axis, across, up, labels.rename(name))
            axis.set(xlabel=names[0], ylabel=names[1], title=clusters.how if name == "cluster" else "As they are known")
        if clusters.labels is not None:
            figure.suptitle(f"ARI {clusters.ari:.2f}, NMI {clusters.nmi:.2f}", fontsize=9)

    return drawn(5.2 if clusters.labels is None else 9.6, 4.2, draw)


def draw_codes(axis: Axes, fit: RowFit, labels: Any, x: DataLike | None = None) -> None:
    """What `plot_latent` shows, on an axis."""
    across, up, names = _flat(fit.encode(x))
    if labels is None:
        axis.scatter(across, up, s=5, color=GREY, alpha=0.6, linewidths=0)
    else:
        _coloured(axis, across, up, pd.Series(np.asarray(labels), name=getattr(labels, "name", None)))
    axis.set(xlabel=names[0], ylabel=names[1])
    axis.set_title(f"Latent space: the mean of q(z | x){', by PCA' if fit.latent > 2 else ''}{collapsed(fit)}")


def _flat(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Latent vectors (M, latent) in a plane, and what its axes are: the units, or principal directions of more."""
    if z.shape[1] <= 2:
        across, up = [*z.T, np.zeros(len(z))][:2]
        return across, up, ("z0", "z1" if z.shape[1] > 1 else "")
    centred = z - z.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    share = singular**2 / max(float((singular**2).sum()), 1e-12)
    said = [f"principal direction {k + 1} of {z.shape[1]} units: {share[k]:.0%} of the variance" for k in range(2)]
    across, up = (centred @ directions[:2].T).T
    return across, up, (said[0], said[1])


def _coloured(axis: Axes, across: np.ndarray, up: np.ndarray, labels: pd.Series) -> None:
    """A colour a label where they are few, a scale of colours where they are many numbers."""
    if len(labels) != len(across):
        raise InputError(f"there are {len(labels)} labels for {len(across)} rows: give one a row")
    rows = labels.groupby(labels).indices
    if len(rows) > 10 and pd.api.types.is_numeric_dtype(labels):
        points = axis.scatter(across, up, s=6, c=labels, cmap="viridis", linewidths=0)
        axis.figure.colorbar(points, ax=axis)
        return
    for name, chosen in rows.items():
        axis.scatter(across[chosen], up[chosen], s=6, alpha=0.75, linewidths=0, label=str(name))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.5, title=labels.name)


def collapsed(fit: RowFit) -> str:
    """What a title adds where no unit tells rows apart, or where the decoder heeds none of them."""
    if not fit.active_units().any():
        return ": collapsed, q(z | x) is the prior"
    if is_strings(fit):
        return ""
    some = evenly_spaced(fit.data.rows or 0, LOOKED_AT)
    pairs = fit.rows()[some], fit.decode(fit.encode()[some], fit.data.take(some))
    varies, decoded = (float(rows.var(0).sum()) for rows in pairs)
    return "" if decoded > ALIKE * varies else ": collapsed, all rows decode alike"


def of_rows(shown: Compared, what: str) -> list[Any]:
    """The fits of a model whose rows share no latent."""
    fits: list[Any] = [fit for fit in shown.fits.values() if hasattr(fit, "encode")]
    if not fits:
        model = f"model {model_name(shown.main.model)} has latents that rows share"
        raise InputError(f"{model}: {what} is of rows with latents of their own, a VAE's for example")
    return fits
