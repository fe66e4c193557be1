"""The Gaussian that others start from: exact where the posterior is one, near it elsewhere, and never an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import answers
import numpy as np
import programs
import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import X, Y
from pyrometer.inference.compilation.compiled import value_and_gradient
from pyrometer.inference.data.as_data import data_for
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.deterministic.start import gaussian_start
from pyrometer.models.gallery import GALLERY
from torch import Tensor

FUNNEL = "eight_schools-eight_schools_centered"  # it has no mode, and no Gaussian is as wide in log tau


def density_of(model: Callable[..., Any], x: Any) -> Density:
    data, _ = data_for(model, x, None)
    return Density(model, data)


def test_the_start_is_the_posterior_where_that_is_gaussian() -> None:
    found = gaussian_start(density_of(programs.regression, (X, Y)))
    assert found is not None
    truth = answers.independent(X).posterior(Y)
    torch.testing.assert_close(found[0], truth.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1] @ found[1].T, truth.covariance_matrix, rtol=1e-6, atol=1e-9)


def test_the_same_seed_gives_the_same_start_and_no_state_is_left() -> None:
    posterior = GALLERY["eight_schools-eight_schools_noncentered"]
    density = density_of(posterior.model, posterior.data())
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two = gaussian_start(density, 3), gaussian_start(density, 3)
    assert one is not None
    assert two is not None
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", GALLERY)
def test_the_start_covers_every_published_posterior(name: str) -> None:
    """loc within two published sds of the mean, and scales not ten times off, for scalars that are sites themselves."""
    posterior = GALLERY[name]
    density = density_of(posterior.model, posterior.data())
    found = gaussian_start(density)
    assert found is not None
    loc, scale = found
    flat = loc + torch.randn(2000, density.dim, generator=torch.Generator().manual_seed(1)).double() @ scale.T
    with density.data.isolated(0):
        draws = {key: value.numpy() for key, value in density.constrain(flat)[0].items()}
    known = {name: row for name, row in posterior.reference().iterrows() if name.partition("[")[0] in draws}
    assert known
    for scalar, row in known.items():
        values = _entry(scalar, draws)
        assert abs(np.median(values) - row["q50"]) < 2 * row["sd"], scalar
        if name == FUNNEL and scalar == "tau":
            continue
        assert 0.1 < np.diff(np.quantile(values, [0.05, 0.95]))[0] / (row["q95"] - row["q05"]) < 10, scalar


def _entry(name: str, draws: dict[str, np.ndarray]) -> np.ndarray:
    site, _, index = name.removesuffix("]").partition("[")
    places: tuple[Any, ...] = (..., *(int(number) - 1 for number in index.split(",") if number))
    return draws[site][places]


def test_a_gradient_that_is_compiled_already_is_used() -> None:
    density, calls = density_of(programs.regression, (X, Y)), []
    with density.data.isolated(0):
        both, _ = value_and_gradient(density.log_density, torch.zeros(2).double(), torch.ones(2).double())

    def counted(point: Tensor) -> Any:
        calls.append(point)
        return both(point)

    assert gaussian_start(density, 0, counted) is not None
    assert calls


def no_mode(x: Tensor) -> None:
    """log p = z^2: it rises for ever."""
    z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
    pyro.factor("density", z.square())
    pyro.sample("x", dist.Normal(0.0, 1.0).expand([1]).to_event(1), obs=x)


def nowhere(x: Tensor) -> None:
    """A density that is zero everywhere."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("density", z - torch.inf)
    pyro.sample("x", dist.Normal(0.0, 1.0).expand([1]).to_event(1), obs=x)


@pytest.mark.parametrize("model", [no_mode, nowhere])
def test_there_is_no_start_where_there_is_no_gaussian(model: Callable[..., Any]) -> None:
    assert gaussian_start(density_of(model, torch.zeros(1).double())) is None
