"""Laplace's approximation of a whole posterior: the mode is found from where the curvature is another, or missed."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import InputError, svi
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
