"""Every mistake ends in one line that says what would mend it; and what is computed is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pyro
import pyro.distributions as dist
import pytest
import torch
from agreement import one_line
from fuzz.odd_models import nowhere
from programs import X, Y
from pyrometer import Fit, InputError, bam, dadvi, laplace, load, pathfinder
from pyrometer.inference.fit.idata import matched_to
from pyrometer.models import GMM
from torch import Tensor
from truths import poisson_mixture

METHODS: list[Callable[..., Fit]] = [laplace, pathfinder, dadvi, bam]
NOTHING = torch.zeros(3).double()


def branching(x: Tensor) -> None:
    """A discrete site that decides what runs, which no enumeration can follow."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    wide = pyro.sample("wide", dist.Bernoulli(0.5))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 2.0 if wide else 1.0), obs=x)


def counting(x: Tensor) -> None:
    """A discrete site without an end, which cannot be enumerated at all."""
    count = pyro.sample("count", dist.Poisson(3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(count, 1.0), obs=x)


def cornered(x: Tensor) -> None:
    """A density whose gradient is finite nowhere."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.factor("corner", torch.sqrt(loc - loc.detach()))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


REFUSED: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "branching": (branching, NOTHING, "the discrete sites wide of model branching cannot be summed out"),
    "counting": (counting, NOTHING, "site 'count' of model counting has support"),
    "nowhere": (nowhere, NOTHING, "model nowhere has no finite density at 100 starting points"),
    "cornered": (cornered, NOTHING, "model cornered has no finite gradient where it starts"),
    "point": (GMM(2), torch.randn(20, 2).double(), "model GMM has no continuous latent site"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_fitted_is_refused_in_one_line(method: Callable[..., Fit], what: str) -> None:
    model, x, message = REFUSED[what]
    with pytest.raises(InputError) as caught:
        method(model, x, progress=False)
    assert message in one_line(caught)


@pytest.mark.parametrize("method", METHODS)
def test_another_guide_is_refused(method: Callable[..., Fit]) -> None:
    with pytest.raises(InputError, match=r"has no option 'guide': it fits .*; for another guide take svi") as caught:
        method(programs.regression, (X, Y), guide="auto_mvn", progress=False)
    one_line(caught)


@pytest.mark.parametrize(
    "call",
    [
        partial(laplace, starts=0),
        partial(pathfinder, paths=0),
        partial(bam, batch=0),
        partial(bam, max_steps=0),
        partial(dadvi, fixed_draws=2),
        partial(dadvi, max_fixed_draws=0),
        partial(dadvi, draws=0),
    ],
)
def test_sizes_that_are_none_are_refused(call: Callable[..., Fit]) -> None:
    with pytest.raises(InputError, match="must be") as caught:
        call(programs.regression, (X, Y), progress=False)
    one_line(caught)


def wide(x: Tensor) -> None:
    """More dimensions than a dense matrix is for."""
    loc = pyro.sample("loc", dist.Normal(torch.zeros(2001), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc.mean(), 1.0), obs=x)


@pytest.mark.parametrize("method", [laplace, bam, dadvi])
def test_too_many_dimensions_are_refused_and_pathfinder_takes_them(method: Callable[..., Fit]) -> None:
    with pytest.raises(InputError, match=r"2001 unconstrained dimensions, .* take pathfinder") as caught:
        method(wide, NOTHING, progress=False)
    one_line(caught)


def test_pathfinder_takes_many_dimensions() -> None:
    fit = pathfinder(wide, NOTHING, paths=2, draws=100, progress=False)
    assert np.isfinite(fit.log_weights).all()


@pytest.mark.parametrize("method", METHODS)
def test_minibatches_are_switched_off(method: Callable[..., Fit]) -> None:
    whole = method(programs.minibatched, (X, Y), progress=False)
    bound = method(partial(programs.minibatched, batch_size=4), (X, Y), progress=False)
    np.testing.assert_array_equal(whole.draws()["beta"], bound.draws()["beta"])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_fit_and_no_state_is_left(method: Callable[..., Fit]) -> None:
    pyro.get_param_store().clear()
    torch.manual_seed(1)
    before, of_numpy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    one, two, other = (method(programs.expanded, (X, Y), seed=seed, progress=False) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.draws()["beta"], two.draws()["beta"])
    np.testing.assert_array_equal(one.log_weights, two.log_weights)
    assert not np.array_equal(one.draws()["beta"], other.draws()["beta"])
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(of_numpy, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    assert not list(pyro.get_param_store().keys())


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_is_kept(method: Callable[..., Fit]) -> None:
    fit = method(programs.expanded, (X, Y), dtype=torch.float32, progress=False)
    assert fit.draws()["beta"].dtype == np.float32
    exact = method(programs.expanded, (X, Y), progress=False)
    np.testing.assert_allclose(fit.draws()["beta"].mean(0), exact.draws()["beta"].mean(0), atol=0.1)


def saddle(x: Tensor) -> None:
    """log p = z^2, which has no mode."""
    z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
    pyro.factor("density", 0.5 * z.square())
    pyro.sample("x", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=x)


def test_laplace_says_that_there_is_no_mode() -> None:
    fit = laplace(saddle, NOTHING, progress=False)
    assert "no mode was found" in fit.message
    assert any("made positive definite" in remark for remark in fit.remarks)


def two_modes(x: Tensor) -> None:
    """A mixture of a high and a low mode, far apart."""
    z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
    parts = dist.Normal(torch.tensor([-1.5, 1.5]), 0.1).log_prob(z.unsqueeze(-1)) + torch.tensor([0.8, 0.2]).log()
    pyro.factor("density", parts.logsumexp(-1))
    pyro.sample("x", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=x)


def test_laplace_takes_the_highest_mode_and_tells_of_the_others() -> None:
    fit = laplace(two_modes, NOTHING, starts=12, progress=False)
    assert fit.draws()["z"].mean() == pytest.approx(-1.5, abs=5 * 0.1 / 1000**0.5)
    assert fit.remarks == (f"2 modes were found, the others {np.log(4):.2f} nats below",)


def test_pathfinder_weighs_modes_by_their_mass() -> None:
    fit = pathfinder(two_modes, NOTHING, paths=12, draws=4000, progress=False)
    assert (fit.draws()["z"] > 0).mean() == pytest.approx(0.2, abs=0.03)
    mass = np.log(np.exp(fit.log_weights).mean())  # of two densities under a flat prior, and of x
    assert mass == pytest.approx(-1.5 * np.log(2 * np.pi), abs=0.02)


COUNTS = torch.tensor([1, 2, 0, 3, 1, 2, 2, 11, 14, 9, 12, 10, 13, 8, 12, 11]).double()


def test_linear_response_is_saved_and_follows_the_labels(tmp_path: Path) -> None:
    fit = dadvi(poisson_mixture, COUNTS, progress=False)
    fit.save(tmp_path)
    read = load(tmp_path, poisson_mixture)
    assert isinstance(read, Fit)
    turned = matched_to(fit, {"components": fit.pivot()["components"][::-1]})
    for name in ("weights", "rates"):
        np.testing.assert_array_equal(fit.linear_response[name], read.linear_response[name])
        np.testing.assert_array_equal(fit.mean_errors[name], read.mean_errors[name])
        np.testing.assert_array_equal(fit.linear_response[name][::-1], turned.linear_response[name])


def test_labellings_of_one_mode_are_no_modes_beside_it() -> None:
    assert laplace(poisson_mixture, COUNTS, starts=8, progress=False).remarks == ()
