"""Bridge sampling and THAMES, held to evidences that are known."""

import math
from functools import cache
from typing import Any

import numpy as np
import pyrometer
import pytest
import torch
from answers import schools_log_evidence
from programs import flat
from pyrometer import Fit, InputError, bridge, exact_log_evidence, log_evidence, nuts, svi, thames
from pyrometer.inference.evidence.bridge import estimate
from pyrometer.models import BayesianGMM, UnivariateMixture
from pyrometer.models.gallery import GALLERY
from scipy import stats
from torch.distributions import MultivariateNormal
from truths import normal_guide, normal_mean, two_clusters

X = two_clusters()[:, 0] - 4
CHAINS: dict[str, Any] = {"warmup": 500, "draws": 1000, "chains": 4, "progress": False}
OVERLAPPING = torch.tensor([-2.1, -1.2, -0.9, -0.3, 0.0, 0.2, 0.6, 1.1, 1.3, 2.4]).double()


@cache
def chains() -> Fit:
    return nuts(normal_mean, X, **CHAINS)


@cache
def mixture() -> Fit:
    """Two components that overlap: the labels of the draws are not those of the chains."""
    return nuts(BayesianGMM(2), OVERLAPPING, **CHAINS)


def normal_log_evidence(x: torch.Tensor) -> float:
    """loc ~ Normal(0, 1), x_n ~ Normal(loc, 1): x ~ Normal(0, I + 1 1^T)."""
    return stats.multivariate_normal(np.zeros(len(x)), np.eye(len(x)) + 1).logpdf(x.numpy())


def within(found: Any, truth: float, errors: float = 3, se: float = math.inf) -> None:
    """Near the truth by its own errors, which are below `se`."""
    assert found.se < se
    assert abs(found.value - truth) < errors * found.se + 1e-9, f"{found.value} +- {found.se} is not {truth}"


def test_the_estimate_is_the_root_of_the_optimal_bridge_and_its_error_the_spread_of_repeats() -> None:
    """p = 7 Normal(0.5, 1), q = Normal(0, 1.5): independent draws, so that repeats tell the error."""
    p, q, rng = stats.norm(0.5, 1), stats.norm(0, 1.5), np.random.default_rng(0)
    ratio = lambda u: math.log(7) + p.logpdf(u) - q.logpdf(u)  # noqa: E731
    found = [
        estimate(ratio(p.rvs((4, 100), random_state=rng)), ratio(q.rvs(300, random_state=rng))) for _ in range(300)
    ]
    values, errors = np.array([each.value for each in found]), np.array([each.se for each in found])
    assert abs(values.mean() - math.log(7)) < 4 * values.std() / math.sqrt(300)
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)


def test_a_proposal_that_is_the_posterior_gives_the_evidence_itself() -> None:
    number = len(X) + 1
    posterior = MultivariateNormal(X.sum().reshape(1) / number, torch.eye(1).double() / number)
    found = bridge(chains(), posterior)
    assert found.value == pytest.approx(normal_log_evidence(X), abs=1e-9)
    assert found.se < 1e-6


@pytest.mark.parametrize("method", [bridge, thames])
def test_the_evidence_of_a_normal_mean(method: Any) -> None:
    within(method(chains()), normal_log_evidence(X), se=0.05)


def test_eight_schools_agree_with_quadrature() -> None:
    schools = GALLERY["eight_schools-eight_schools_noncentered"]
    y, sigma = schools.data().values()
    truth = schools_log_evidence(torch.as_tensor(y).double(), torch.as_tensor(sigma).double())
    assert truth == pytest.approx(-31.31, abs=0.01)
    fit = nuts(schools.model, schools.data(), **CHAINS)
    within(bridge(fit), truth, se=0.03)
    within(thames(fit), truth, se=0.3)


@pytest.mark.parametrize("method", [bridge, thames])
def test_components_that_overlap_are_summed_over_their_labellings(method: Any) -> None:
    within(method(mixture()), exact_log_evidence(BayesianGMM(2), OVERLAPPING), se=0.2)


def test_four_components_of_ten_rows_are_bridged_to_the_exact_sum() -> None:
    fit = nuts(BayesianGMM(4), OVERLAPPING, **CHAINS)
    within(bridge(fit), exact_log_evidence(BayesianGMM(4), OVERLAPPING), se=0.1)


def test_seven_components_are_bridged_within_one_labelling() -> None:
    """7! = 5040 labellings; eight rows in 4139 partitions, summed exactly."""
    model, x = UnivariateMixture(7), OVERLAPPING[1:9] * 2
    fit = nuts(model, x, **CHAINS)
    assert fit.exchangeable == ("components",)
    within(bridge(fit), exact_log_evidence(model, x), se=0.2)
    with pytest.raises(InputError, match="more than 720 labellings"):
        thames(fit)


def test_the_evidence_of_a_fit_of_nuts_is_that_of_its_bridge() -> None:
    assert log_evidence(chains())[:2] == bridge(chains())
    assert math.isnan(log_evidence(chains()).khat)
    assert bridge(chains(), seed=1) != bridge(chains())


def test_what_has_no_bridge_is_refused_and_a_flat_prior_has_none() -> None:
    guide = svi(normal_mean, normal_guide, X, steps=50, draws=50, progress=False)
    for method in (bridge, thames):
        with pytest.raises(InputError, match="holds no Markov chains"):
            method(guide)
        with pytest.raises(InputError, match="10 draws a chain"):
            method(nuts(normal_mean, X, **{**CHAINS, "draws": 10}))
    unbounded = nuts(flat, X, **{**CHAINS, "draws": 50})
    assert all(math.isnan(number) for number in (*bridge(unbounded), *thames(unbounded)))
    assert math.isnan(log_evidence(unbounded).value)
    assert "bridge" in pyrometer.__all__
