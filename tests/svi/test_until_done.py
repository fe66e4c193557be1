"""Training ends at the optimum and says so; what stopped short of it says that."""

import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyrometer.inference.svi import starts, until_done
from pyrometer.models.gallery import GALLERY
from torch import Tensor
from truths import normal_guide, normal_mean, two_clusters

X = two_clusters()[:, 0]
GENERATOR = torch.Generator().manual_seed(0)
COLUMNS = torch.randn(5000, 3, generator=GENERATOR, dtype=torch.float64) @ torch.tensor(
    [[1.0, 0.8, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.5]], dtype=torch.float64
)
OUTCOMES = COLUMNS @ torch.tensor([1.0, -2.0, 0.5]).double() + torch.randn(5000, generator=GENERATOR).double()


def regression(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    beta = pyro.sample("beta", dist.Normal(torch.zeros(3), 10.0).to_event(1))
    with pyro.plate("data", len(x), subsample_size=batch_size):
        rows = pyro.subsample(x, event_dim=1), pyro.subsample(y, event_dim=0)
        pyro.sample("y", dist.Normal(rows[0] @ beta, 1.0), obs=rows[1])


def quiet(model: object, guide: object, x: object, **options: object) -> pyrometer.Fit:
    return pyrometer.svi(model, guide, x, progress=False, **options)  # type: ignore[arg-type]


def elbo(fit: pyrometer.Fit) -> tuple[float, float]:
    """Mean and standard error, nats."""
    return float(fit.elbo_draws.mean()), float(fit.elbo_draws.std() / len(fit.elbo_draws) ** 0.5)


@pytest.mark.parametrize(("parameterization", "optimum"), [("noncentered", -31.60), ("centered", -33.41)])
def test_mean_field_reaches_the_known_optimum_and_says_so(parameterization: str, optimum: float) -> None:
    posterior = GALLERY[f"eight_schools-eight_schools_{parameterization}"]
    fit = quiet(posterior.model, "auto_normal", posterior.data(), draws=4000)
    value, se = elbo(fit)
    assert value > optimum - 0.1 - 3 * se
    assert value < optimum + 0.02 + 5 * se  # which it cannot exceed
    assert fit.converged, fit.why


@pytest.mark.parametrize("parameterization", ["noncentered", "centered"])
def test_a_full_gaussian_gets_as_far_as_matching_scores_does(parameterization: str) -> None:
    posterior = GALLERY[f"eight_schools-eight_schools_{parameterization}"]
    trained = quiet(posterior.model, "auto_mvn", posterior.data(), draws=4000)
    matched = pyrometer.bam(posterior.model, posterior.data(), draws=4000, progress=False)
    (value, se), (other, other_se) = elbo(trained), elbo(matched)
    assert value > other - 0.1 - 3 * np.hypot(se, other_se)


def test_the_means_of_a_full_gaussian_are_those_of_a_correlated_posterior() -> None:
    posterior = GALLERY["kilpisjarvi_mod-kilpisjarvi"]  # alpha and beta of a line far from the origin
    fit, known = quiet(posterior.model, "auto_mvn", posterior.data(), draws=4000), posterior.reference()
    draws = posterior.scalars({str(name): values.values for name, values in fit.posterior.data_vars.items()})
    off = [abs(values.mean() - known.loc[name, "mean"]) / known.loc[name, "sd"] for name, values in draws.items()]
    assert max(off) < 0.02 + 5 / 4000**0.5  # a standard deviation's share


def test_a_training_that_was_cut_short_says_what_it_left_and_one_that_was_not_says_so_too() -> None:
    short, long = (quiet(normal_mean, "auto_normal", X, steps=steps, lr=0.05) for steps in (200, 2000))
    assert short.converged is False
    assert "more steps gain" in short.why
    assert long.converged is True
    assert quiet(normal_mean, "auto_normal", X, steps=50).why == "50 steps are too few to tell"


def test_the_judge_leaves_a_fit_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = quiet(normal_mean, "auto_normal", X, steps=200)
    monkeypatch.setattr(starts, "MIN_JUDGED", 10**9)
    plain = quiet(normal_mean, "auto_normal", X, steps=200)
    assert "too few" in plain.why
    assert judged.steps == plain.steps == len(judged.losses) == 200
    assert {name: value.tolist() for name, value in judged.params.items()} == {
        name: value.tolist() for name, value in plain.params.items()
    }
    assert np.array_equal(judged.elbo_draws, plain.elbo_draws)


def test_a_ceiling_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(until_done, "CEILING", 150)
    fit = quiet(normal_mean, normal_guide, X, lr=1e-3)
    assert fit.steps == 150
    assert fit.converged is False
    assert "of 150 steps" in fit.why


def test_minibatches_end_at_the_posterior_s_own_spread() -> None:
    fit = quiet(regression, "auto_mvn", (COLUMNS, OUTCOMES), batch_size=100)
    covariance = torch.linalg.inv(COLUMNS.T @ COLUMNS + torch.eye(3) / 100)
    mean = covariance @ COLUMNS.T @ OUTCOMES
    draws = torch.as_tensor(fit.draws()["beta"])
    sd = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean).abs() / sd).max() < 0.25
    ratio = draws.std(0) / sd
    assert ratio.min() > 0.8
    assert ratio.max() < 1.25


@pytest.mark.parametrize("compile", ["auto", False])
def test_one_seed_gives_one_fit(compile: object) -> None:
    fits = [quiet(normal_mean, "auto_normal", X, compile=compile, seed=3) for _ in range(2)]
    assert np.array_equal(fits[0].elbo_draws, fits[1].elbo_draws)
    assert fits[0].steps == fits[1].steps
