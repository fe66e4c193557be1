"""Mean field on the correlated Gaussian: what independence costs, in closed form and as a picture."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pyro.distributions import Independent, Normal
from torch import Tensor

from ...models import CorrelatedGaussian
from ..data.as_data import DataLike, as_data
from ..fit.fit import Fit


def mean_field(model: CorrelatedGaussian, x: DataLike) -> Independent:
    """The best q(loc_1) q(loc_2): Normal(m_i, 1 / P_ii), m and P those of the posterior (Bishop 2006, eq. 10.12 f.).

    The marginal variance is (P^-1)_ii; mean field's is that times 1 - r^2, r the posterior's correlation.
    """
    posterior = model.posterior(as_data(x, model).values)
    return Normal(posterior.loc, posterior.precision_matrix.diagonal().rsqrt()).to_event(1)


def coordinate_ascent(model: CorrelatedGaussian, x: DataLike, start: tuple[float, float], steps: int = 20) -> Tensor:
    """The means on their way to that optimum, one coordinate at a time (Bishop 2006, eqs. 10.13 and 10.15).

    m_1 = mu_1 - P_12 (m_2 - mu_2) / P_11, and likewise m_2; mu, P: the posterior's mean and precision.
    Returns (1 + 2 steps, 2), the start first.
    """
    posterior = model.posterior(as_data(x, model).values)
    mu, precision = posterior.loc, posterior.precision_matrix
    path = [torch.tensor(start, dtype=mu.dtype)]
    for step in range(2 * steps):
        i, j = step % 2, 1 - step % 2
        m = path[-1].clone()
        m[i] = mu[i] - precision[i, j] * (m[j] - mu[j]) / precision[i, i]
        path.append(m)
    return torch.stack(path)


def plot_mean_field(model: CorrelatedGaussian, x: DataLike, fits: Mapping[str, Fit] | None = None) -> Figure:
    """Contours at one and two standard deviations of the posterior, of its closed-form mean field, and of fits.

    fits: name -> a Fit of this model, auto_normal and auto_mvn say; drawn by the moments of their draws.
    """
    posterior, factored = model.posterior(as_data(x, model).values), mean_field(model, x)
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    _contours(axes, posterior.mean, posterior.covariance_matrix, label="posterior", color="black")
    _contours(axes, factored.mean, factored.variance.diag(), label="mean field, closed form", color="C3")
    for number, (name, fit) in enumerate((fits or {}).items()):
        draws = torch.as_tensor(fit.draws()["loc"])
        _contours(axes, draws.mean(0), draws.mT.cov(), label=name, color=f"C{number}", linestyle="--")
    axes.set(xlabel="loc 1", ylabel="loc 2", title="What independence costs")
    axes.legend()
    return figure


def _contours(axes: Axes, mean: Tensor, covariance: Tensor, label: str, **style: Any) -> None:
    angle = torch.linspace(0, 2 * torch.pi, 200, dtype=mean.dtype)
    circle = torch.linalg.cholesky(covariance) @ torch.stack([angle.cos(), angle.sin()])
    for deviations, shown in ((1.0, label), (2.0, None)):
        axes.plot(*(mean.unsqueeze(-1) + deviations * circle).numpy(), label=shown, **style)
