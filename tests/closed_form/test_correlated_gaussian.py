"""Mean field understates a correlated Gaussian exactly as theory says; a full Gaussian does not."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pyrometer.errors import InputError
from pyrometer.inference.closed_form.correlated_gaussian import coordinate_ascent, mean_field, plot_mean_field
from pyrometer.inference.svi.svi import svi
from pyrometer.models import CorrelatedGaussian

MODEL = CorrelatedGaussian(correlation=0.9, scales=(1.0, 3.0))
X = np.random.default_rng(0).multivariate_normal([2.0, -1.0], [[1.0, 2.7], [2.7, 9.0]], 40)


def test_the_posterior_is_bayes_rule() -> None:
    x = torch.as_tensor(X)
    posterior = MODEL.posterior(x)
    points = posterior.sample((5,))
    rows = torch.distributions.MultivariateNormal(points.unsqueeze(1), MODEL.covariance(x))
    joint = rows.log_prob(x).sum(1) + torch.distributions.Normal(0.0, MODEL.prior_scale).log_prob(points).sum(1)
    evidence = joint - posterior.log_prob(points)
    assert torch.allclose(evidence, evidence[0].expand(5), rtol=1e-10)


def test_mean_field_loses_one_minus_the_squared_correlation_of_the_variance() -> None:
    posterior = MODEL.posterior(torch.as_tensor(X))
    cov = posterior.covariance_matrix
    correlation = cov[0, 1] / (cov[0, 0] * cov[1, 1]).sqrt()
    factored = mean_field(MODEL, X)
    assert torch.allclose(factored.mean, posterior.mean, rtol=1e-10)
    assert torch.allclose(factored.variance, cov.diagonal() * (1 - correlation**2), rtol=1e-10)
    assert correlation.item() == pytest.approx(0.9, abs=1e-3)


def test_coordinate_ascent_ends_there_and_contracts_by_the_squared_correlation() -> None:
    posterior = MODEL.posterior(torch.as_tensor(X))
    cov = posterior.covariance_matrix
    squared = (cov[0, 1] ** 2 / (cov[0, 0] * cov[1, 1])).item()
    path = coordinate_ascent(MODEL, X, start=(0.0, 0.0), steps=300)
    assert torch.allclose(path[-1], posterior.mean, rtol=1e-8)
    error = (path[2:21:2] - posterior.mean)[:, 1]
    assert torch.allclose(error[1:] / error[:-1], torch.full_like(error[1:], squared), rtol=1e-6)


@pytest.mark.parametrize("guide", ["auto_normal", "mean_field"])
def test_svi_finds_the_closed_form(guide: str) -> None:
    factored = mean_field(MODEL, X)
    draws = svi(MODEL, guide, X, steps=1000, lr=0.05, draws=4000, progress=False).draws()["loc"]
    sd = factored.variance.sqrt().numpy()
    assert (np.abs(draws.mean(0) - factored.mean.numpy()) < 0.25 * sd).all()
    assert draws.std(0) == pytest.approx(sd, rel=0.12)


@pytest.mark.parametrize("guide", ["auto_mvn", "full"])
def test_a_full_gaussian_recovers_the_posterior(guide: str) -> None:
    posterior = MODEL.posterior(torch.as_tensor(X))
    draws = svi(MODEL, guide, X, steps=2500, lr=0.05, draws=4000, progress=False).draws()["loc"]
    assert draws.std(0) == pytest.approx(posterior.stddev.numpy(), rel=0.12)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(0.9, abs=0.05)


def test_the_plot_draws_every_contour() -> None:
    figure = plot_mean_field(MODEL, X)
    assert isinstance(figure, Figure)
    assert len(figure.axes[0].lines) == 4


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="correlation"):
        CorrelatedGaussian(correlation=1.0)
    with pytest.raises(InputError, match="two columns"):
        svi(MODEL, "mean_field", X[:, :1], steps=1, progress=False)
