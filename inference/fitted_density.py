"""A mixture of one column in two pictures: the ELBO on its way up, and the fitted density over the data."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import InputError
from .fit import Fit

__all__ = ["plot_fitted_density"]

GRID = 400


def plot_fitted_density(fit: Fit) -> Figure:
    """The ELBO of each step, and exp(log_predictive) on a grid, over a histogram of the data.

    Raises InputError where the data have more than one column.
    """
    if len(fit.data.columns) != 1:
        raise InputError(f"{fit.name} was fitted to {len(fit.data.columns)} columns: this plot is of one")
    figure = Figure(figsize=(10, 4), layout="constrained")
    trace, density = figure.subplots(1, 2)
    _trace(trace, fit)
    _density(density, fit)
    return figure


def _trace(axes: Axes, fit: Fit) -> None:
    axes.plot(np.arange(1, len(fit.losses) + 1), -fit.losses, color="C0")
    axes.set(xlabel="step", ylabel="ELBO (nats)", title=fit.name)


def _density(axes: Axes, fit: Fit) -> None:
    values = fit.data.values.reshape(-1).cpu().numpy()
    margin = 0.25 * np.ptp(values)
    grid = np.linspace(values.min() - margin, values.max() + margin, GRID)
    new = grid if fit.data.values.dim() == 1 else grid[:, None]
    axes.hist(values, bins="auto", density=True, color="0.85")
    axes.plot(grid, np.exp(fit.log_predictive(new)), color="C0", label="posterior predictive")
    for number, loc in enumerate(fit.draws()["locs"].mean(0).reshape(-1)):
        axes.axvline(loc, color="C1", linestyle=":", label="posterior means of locs" if number == 0 else None)
    axes.set(xlabel=fit.data.columns[0], ylabel="density")
    axes.legend()
