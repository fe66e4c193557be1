"""Laplace's approximation of a whole posterior: the mode is found from where the curvature is another, or missed."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import InputError, svi
from pyrometer.models.gallery import GALLERY
from torch import Tensor

X = torch.zeros(1).double()
START = 4.0  # where log(1 + z^2) bends the other way


def observe(x: Tensor, log_density: Any) -> None:
    """z under a flat prior and that log density."""
    z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
    pyro.factor("density", log_density(z))
    pyro.sample("x", dist.Normal(0.0, 1.0).expand([1]).to_event(1), obs=x)


class StartsOff:
    """A program that says where its training starts."""

    def init(self, x: Tensor, seed: int | None = None) -> dict[str, Tensor]:
        return {"z": torch.tensor(START).double()}


class HeavyTailed(StartsOff):
    """log p = -log(1 + z^2): its mode is 0, minus the second derivative there 2."""

    def __call__(self, x: Tensor) -> None:
        observe(x, lambda z: -torch.log1p(z.square()))


class Valley(StartsOff):
    """log p = z^2 / 2, which has no mode."""

    def __call__(self, x: Tensor) -> None:
        observe(x, lambda z: 0.5 * z.square())


class Broken(StartsOff):
    """log p = -sqrt(|z - 4|), without a curvature where the training starts."""

    def __call__(self, x: Tensor) -> None:
        observe(x, lambda z: -(z - START).abs().sqrt())


def test_laplace_finds_the_mode_from_where_the_curvature_is_another() -> None:
    fit = svi(HeavyTailed(), "auto_laplace", X, steps=1, draws=20_000, progress=False)
    z = fit.draws()["z"]
    assert abs(z.mean()) < 5 * 0.5**0.5 / len(z) ** 0.5
    assert z.var() == pytest.approx(0.5, rel=5 * (2 / len(z)) ** 0.5)


@pytest.mark.parametrize("model", [Valley(), Broken()])
def test_a_posterior_without_a_mode_has_no_laplace_approximation(model: Any) -> None:
    with pytest.raises(InputError, match="has no mode where the optimizer stopped"):
        svi(model, "auto_laplace", X, steps=1, draws=10, progress=False)


@pytest.mark.parametrize("unit", [1e-5, 1.0, 1e5])
def test_laplace_of_a_gaussian_posterior_is_exact_in_any_unit(unit: float) -> None:
    """m ~ Normal(0, unit), y_n ~ Normal(m, unit / 2): precision (1 + 4 N) / unit^2, mean 4 sum(y) / (1 + 4 N)."""

    def model(y: Tensor) -> None:
        m = pyro.sample("m", dist.Normal(0.0, unit))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(m, unit / 2), obs=y)

    y = unit * torch.tensor([0.3, 0.9, -0.2, 1.4, 0.5]).double()
    m = svi(model, "auto_laplace", y, steps=1, draws=20_000, progress=False).draws()["m"]
    sd = unit / 21**0.5
    assert abs(m.mean() - 4 * float(y.sum()) / 21) < 5 * sd / len(m) ** 0.5
    assert m.std() == pytest.approx(sd, rel=5 * (0.5 / len(m)) ** 0.5)


def test_a_ridge_has_no_mode() -> None:
    """Two locations, of which only the sum is told."""

    def ridge(y: Tensor) -> None:
        m = pyro.sample("m", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(m.sum(), 1.0), obs=y)

    with pytest.raises(InputError, match="has no mode where the optimizer stopped"):
        svi(ridge, "auto_laplace", torch.tensor([0.3, -0.8, 1.1]).double(), steps=20, draws=10, progress=False)


def test_a_funnel_whose_curvature_knows_no_bounds_has_no_mode() -> None:
    posterior = GALLERY["eight_schools-eight_schools_centered"]
    with pytest.raises(InputError, match="has no mode where the optimizer stopped"):
        svi(posterior.model, "auto_laplace", posterior.data(), draws=10, progress=False)


def logistic(X: Tensor, y: Tensor) -> None:
    """A logistic regression on columns of unlike scales."""
    alpha = pyro.sample("alpha", dist.Normal(0.0, 2.5))
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 2.5).to_event(1))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=alpha + X @ beta), obs=y)


def test_laplace_finds_the_mode_of_a_regression_on_raw_columns_from_far_away() -> None:
    """Ages and incomes of 120 rows: at the mode the gradient X^T (y - p) is the prior's."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(120, 2, generator=generator).double()
    X = normal * torch.tensor([15.0, 15_000.0]) + torch.tensor([50.0, 40_000.0])
    y = (torch.rand(120, generator=generator).double() < torch.sigmoid(0.05 * X[:, 0] + 1e-5 * X[:, 1] - 3)).double()
    fit = svi(logistic, "auto_laplace", (X, y), steps=100, draws=4000, progress=False)
    draws = fit.draws()
    alpha, beta = torch.tensor(draws["alpha"].mean()), torch.tensor(draws["beta"].mean(0))
    residual = y - torch.sigmoid(alpha + X @ beta)
    slopes = torch.stack([residual.sum(), *(residual @ X)]) - torch.stack([alpha, *beta]) / 2.5**2
    sds = torch.tensor([draws["alpha"].std(), *draws["beta"].std(0)])
    assert (slopes.abs() * sds < 0.5).all()  # the gradient in posterior sds, at a mean of 4,000 draws


def centre(x: Tensor) -> None:
    """x_n ~ Normal(z, 1) under z ~ Normal(0, 1): the posterior's mode is sum x / (N + 1)."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_the_draw_of_a_point_is_where_its_training_ended_and_not_where_it_began() -> None:
    x = torch.linspace(1.0, 4.0, 9, dtype=torch.float64)
    fit = svi(centre, "auto_delta", x, starts=1, progress=False)
    assert float(fit.draws()["z"][0]) == pytest.approx(float(x.sum()) / 10, abs=1e-2)
    assert float(fit.draws()["z"][0]) == float(fit.params["AutoDelta.z"])
