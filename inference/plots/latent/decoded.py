"""What codes decode to: those of a plane, or drawn from the prior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure, FigureBase
from scipy.spatial import cKDTree

from ....errors import InputError, check_positive
from ..drawing.canvas import in_place_of
from ..drawing.compared import compared
from ..drawing.figure import drawn, styled
from .codes import collapsed, of_rows
from .sheet import is_strings, is_table, sheet, written

if TYPE_CHECKING:
    from ...local_latents.row_fit import RowFit

REACH = 0.01  # share of the codes beyond each end of the latent plane
WRITTEN = 24  # strings below one another in a panel of samples


@styled
def plot_decoded(shown: Any, number: int = 49, ax: Any = None, figsize: tuple[float, float] | None = None) -> Any:
    """E[x | z] over the plane of the codes; of more than two latent units, of tables and of strings: of prior draws.

    Parameters
    ----------
    shown : as `plot_latent` has it; of a Comparison the first fit.
    number : of pictures, about, or of rows and strings.
    ax, figsize : see `pyrometer.plots`; there is one Axes, in whose place it is drawn.

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
    fit = of_rows(compared(shown), "plot_decoded")[0]
    part = plt.figure(figsize=figsize or (5.0, 5.0), layout="constrained") if ax is None else in_place_of(ax)
    plane = fit.latent <= 2 and not is_strings(fit) and not is_table(fit.rows()[:1])
    if plane:
        draw_plane(part, fit, math.isqrt(number))
    else:
        draw_samples(part, fit, number)
    axes: Any = part.axes
    return axes[0] if plane or len(axes) == 1 else np.array(axes, dtype=object)


def plot_plane(fit: RowFit, side: int = 15) -> Figure:
    """E[x | z] over the plane of the two most active latent units, as far as codes reach; others at their mean.

    After Kingma and Welling (2014), figure 4.
    """
    return drawn(5.0, 5.2, draw_plane, fit, side)


def plot_samples(fit: RowFit, number: int = 49, seed: int = 0) -> Figure:
    """E[x | z] for draws of z from the prior; of a model of strings, as many samples as can be read."""
    return drawn(5.0, 4.0, draw_samples, fit, number, seed)


def draw_plane(figure: FigureBase, fit: RowFit, side: int) -> None:
    """What `plot_plane` shows, on a figure."""
    if is_strings(fit):
        raise InputError("a latent plane is of pictures: see plot_interpolation for the way between two strings")
    codes = fit.encode()
    units = _most_active(codes)
    low, high = np.quantile(codes, [REACH, 1 - REACH], axis=0)
    z = np.tile(codes.mean(0), (side ** len(units), 1))
    places = [np.linspace(low[unit], high[unit], side) for unit in units]
    grid = [places[0], places[1][::-1]] if len(units) > 1 else places
    z[:, units] = np.stack(np.meshgrid(*grid), -1).reshape(len(z), -1)
    rows, whose = _decoded(fit, z)
    axis = sheet(figure, fit, rows, side, f"E[x | z] over the plane of the codes{whose}{collapsed(fit)}")
    across, down = (np.array(limit) for limit in (axis.get_xlim(), axis.get_ylim()[::-1]))
    shown, at = [0, side // 2, side - 1], (np.array([0, side // 2, side - 1]) + 0.5) / side
    axis.set(xlabel=f"z{units[0]}", xticks=across[0] + at * np.ptp(across))
    axis.set_xticklabels([_short(grid[0], place) for place in shown])
    if len(units) > 1:
        axis.set(ylabel=f"z{units[1]}", yticks=down[0] + at * np.ptp(down))
        axis.set_yticklabels([_short(grid[1], place) for place in shown])


def draw_samples(figure: FigureBase, fit: RowFit, number: int, seed: int = 0) -> None:
    """What `plot_samples` shows, on a figure."""
    if is_strings(fit):
        written(figure, fit.sample(min(number, 2 * WRITTEN), seed), WRITTEN, "Samples")
        return
    rows, whose = _decoded(fit, fit.prior_draws(number, seed))
    columns = number if is_table(rows) else math.ceil(math.sqrt(number))
    sheet(figure, fit, rows, columns, f"E[x | z], z drawn from the prior{whose}{collapsed(fit)}")


def _decoded(fit: RowFit, z: np.ndarray) -> tuple[np.ndarray, str]:
    """E[x | z], and what a title adds where there are covariates: each z has those of the row with the nearest code."""
    if len(fit.data.tensors) == 1:
        return fit.decode(z), ""
    _, nearest = cKDTree(fit.encode()).query(z)
    return fit.decode(z, fit.data.take(torch.as_tensor(nearest))), ",\ncovariates of the nearest row"


def _most_active(z: np.ndarray) -> list[int]:
    """The two units whose means differ most from row to row, in their own order; the one, where there is one."""
    return sorted(np.argsort(-z.var(0))[:2].tolist())


def _short(values: np.ndarray, place: int) -> str:
    """One of some numbers, as short as tells its neighbours apart, with one decimal at least and no minus nought."""
    decimals = max(1, 1 - math.floor(math.log10(max(np.ptp(values), 1e-9))))
    return f"{round(float(values[place]), decimals) + 0.0:.{decimals}f}"
