"""Which component each row is of, and which rows are in doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke

from ....errors import InputError
from ....models.structure import model_name
from ..drawing.canvas import canvas_a_row, panel_a_fit
from ..drawing.compared import Compared, compared
from ..drawing.figure import styled
from ..drawing.looks import GREY, MARKERS, REFERENCE
from .plane import Plane, plane_of, rows_of, shares_of, shown_rows, thinned

if TYPE_CHECKING:
    from ...fit.fit import Fit

# Tol's bright scheme: of components, that no method has.
COMPONENTS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
LINES = ("-", "--", ":", "-.")
DOUBT = 0.8  # of the likeliest component, below which a row is ringed
POINTS = 300  # of a curve


@styled
def plot_responsibilities(shown: Any, ax: Any = None, figsize: tuple[float, float] | None = None) -> Any:
    """The rows coloured by p(z_n = k | x), a panel a fit; rows whose likeliest component has less than 0.8 are ringed.

    Two columns as they are; of more the plane of the linear discriminants of the likeliest components, in which these
    are told apart best, as its axes say. One column: p(k | x) as curves over the rows. At most 2,000 rows, evenly
    spaced.

    Parameters
    ----------
    shown : Comparison or Fit, of a mixture.
    ax, figsize : see `pyrometer.plots`; a panel is a fit.

    Returns
    -------
    Axes, or an array of them.

    Raises
    ------
    InputError
        The model is no mixture: it has no discrete site with one value a row.

    Examples
    --------
    >>> axes = plot_responsibilities(comparison["structured"])
    """
    parts = compared(shown)
    main = parts.main
    if len(main.structure.labels) != 1 or len(main.structure.discrete) != 1:
        what = f"model {model_name(main.model)} is no mixture"
        raise InputError(f"{what}: it has no one discrete site with a value a row, so no responsibilities")
    single = len(main.data.tensors) == 1 and rows_of(main.data).shape[1] == 1
    canvases = canvas_a_row(ax, 1, parts, figsize, height=2.6, sharex=True, sharey=True)
    panel_a_fit(canvases, parts, _curves(parts) if single else _scatter(parts), sharex=True)
    return canvases[0].given_back


def _scatter(shown: Compared) -> Callable[[Axes, str, str], None]:
    """What draws a fit: its rows in the plane of the first."""
    plane, places = plane_of(shown.main), shown_rows(shown.main)
    points = plane.of(rows_of(shown.main.data)[places])

    def draw(axis: Axes, name: str, colour: str) -> None:
        shares = shares_of(shown.fits[name], places)
        components = shares.argmax(1)
        for k in np.unique(components):
            mine = components == k
            _dots(axis, points[mine], shares[mine], int(k))
        for k in np.unique(components):
            halo = [withStroke(linewidth=2.5, foreground="white")]
            style: Any = {"fontweight": "bold", "ha": "center", "va": "center", "path_effects": halo}
            axis.annotate(str(k), np.median(points[components == k], 0), color=REFERENCE, **style)
        if (shares.max(1) < DOUBT).any():
            ring: Any = {"color": REFERENCE, "markersize": 5, "fillstyle": "none", "linestyle": "none"}
            axis.plot([], [], "o", label=f"in doubt: below {DOUBT}", **ring)
        _labelled(axis, plane)

    return draw


def _dots(axis: Axes, points: np.ndarray, shares: np.ndarray, k: int) -> None:
    """The rows of one component, (M, 2), in the mixture of colours that they are of; ringed where in doubt."""
    hues = np.array([to_rgb(COMPONENTS[i % len(COMPONENTS)]) for i in range(shares.shape[1])])
    doubt = shares.max(1) < DOUBT
    edges = np.where(doubt[:, None], to_rgb(REFERENCE), (shares @ hues).clip(0, 1))
    style: Any = {"marker": MARKERS[k % len(MARKERS)], "c": (shares @ hues).clip(0, 1), "edgecolors": edges}
    sizes: Any = {"s": np.where(doubt, 24, 9), "linewidths": np.where(doubt, 1.0, 0.3)}
    axis.scatter(points[:, 0], points[:, 1], **sizes, **style)
    handle: Any = {"color": hues[k], "markersize": 4, "linestyle": "none", "label": f"component {k}"}
    axis.plot([], [], MARKERS[k % len(MARKERS)], **handle)


def _labelled(axis: Axes, plane: Plane) -> None:
    axis.set_xlabel(plane.labels[0], fontsize=plane.label_size)
    axis.set_ylabel(plane.labels[1], fontsize=plane.label_size)


def _curves(shown: Compared) -> Callable[[Axes, str, str], None]:
    """What draws a fit of one column: p(k | x) over its range, and a stroke a row below."""
    values = rows_of(shown.main.data)[:, 0]
    margin = 0.05 * np.ptp(values)
    at = np.linspace(values.min() - margin, values.max() + margin, POINTS)
    at = at if (values != values.round()).any() else np.unique(at.round().clip(values.min(), values.max()))

    def draw(axis: Axes, name: str, colour: str) -> None:
        for k, share in _responsibilities_at(shown.fits[name], at).items():
            style: Any = {"color": COMPONENTS[int(k) % len(COMPONENTS)], "linestyle": LINES[int(k) % len(LINES)]}
            axis.plot(at, share, linewidth=1.8, label=f"component {k}", **style)
        axis.plot(values, np.full(len(values), -0.05), "|", color=GREY, markersize=5, label="data")
        axis.axhline(0, color=GREY, linewidth=0.4)
        axis.set(xlabel=shown.main.data.columns[0], ylabel="p(k | x)", ylim=(-0.1, 1.03))

    return draw


def _responsibilities_at(fit: Fit, at: np.ndarray) -> pd.DataFrame:
    """p(k | x) at values (M,) of the one column: (M, K)."""
    return thinned(fit).responsibilities(at.reshape(len(at), *fit.data.values.shape[1:]))
