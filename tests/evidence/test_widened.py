"""The evidence of a guide together with what short chains have seen, where the guide misses much and where nothing."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import InputError, cavi, compare, datasets, exact_log_evidence, log_evidence, nuts, svi, widened_evidence
from pyrometer.models import BayesianGMM
from scipy import stats
from torch import Tensor
from truths import normal_guide, normal_mean, two_clusters

QUIET: dict[str, Any] = {"progress": False}
TWO_SIGNS = torch.tensor([3.8, 4.1, 4.3]).double()
OVERLAPPING = torch.tensor([-2.1, -1.2, -0.9, -0.3, 0.0, 0.2, 0.6, 1.1, 1.3, 2.4]).double()


def two_signs(y: Tensor) -> None:
    """mu ~ Normal(0, 3), y ~ Normal(mu^2, 0.5): as much of the posterior lies about -2 as about 2."""
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu**2, 0.5), obs=y)


def by_quadrature(y: Tensor) -> float:
    mu = torch.linspace(-6, 6, 24_001).double()
    log_joint = dist.Normal(0.0, 3.0).log_prob(mu) + dist.Normal(mu[:, None] ** 2, 0.5).log_prob(y).sum(-1)
    return float(log_joint.logsumexp(0)) + math.log(12 / 24_000)


def test_a_guide_in_one_of_two_modes_is_seen_to_miss_half_although_its_khat_is_good() -> None:
    fit = svi(two_signs, "auto_normal", TWO_SIGNS, steps=1000, lr=0.02, **QUIET)
    truth, own, found = by_quadrature(TWO_SIGNS), log_evidence(fit), widened_evidence(fit)
    assert own.khat < 0.7
    assert own.value == pytest.approx(truth - math.log(2), abs=0.03)
    assert found.value == pytest.approx(truth, abs=4 * found.se)
    assert found.se < 0.05
    assert found.missed == pytest.approx(0.5, abs=0.05)
    assert "misses about" in found.remark
    table = compare(two_signs, TWO_SIGNS, {"one": fit}, reference=None, **QUIET)
    assert table.table.loc["one", "verdict"] == "not to be trusted"
    assert any("of which its weights know nothing" in note for note in table.notes)


def test_a_guide_that_is_the_posterior_misses_nothing() -> None:
    x = two_clusters()[:, 0] - 4
    fit = svi(normal_mean, normal_guide, x, steps=1000, lr=0.02, draws=1000, **QUIET)
    found = widened_evidence(fit)
    truth = stats.multivariate_normal([0.0] * len(x), torch.eye(len(x)) + 1).logpdf(x.numpy())
    assert found.value == pytest.approx(truth, abs=4 * found.se)
    assert found.se < 0.02
    assert found.missed < 0.05
    assert not found.remark


@pytest.mark.parametrize("name", ["auto_mvn", "auto_structured"])  # the second's q cannot be had at other labellings
def test_components_that_overlap_are_summed_by_what_chains_have_seen(name: str) -> None:
    fit = svi(BayesianGMM(2), name, OVERLAPPING, steps=500, lr=0.02, draws=1000, **QUIET)
    found, truth = widened_evidence(fit), exact_log_evidence(BayesianGMM(2), OVERLAPPING)
    assert found.se < 0.1
    assert found.khat < 0.7
    assert abs(found.value - truth) < 3 * found.se
    assert math.isnan(found.missed) == (name == "auto_structured")


@pytest.mark.slow
def test_of_three_components_on_old_faithful_coordinate_ascent_misses_most() -> None:
    fit = cavi(BayesianGMM(3), datasets.faithful(), **QUIET)
    found = widened_evidence(fit)
    assert abs(found.value + 1158.66) < 3 * found.se + 0.03
    assert found.se < 0.3
    assert found.missed > 0.2


def test_what_has_no_weights_or_too_many_labellings_is_refused_in_one_line() -> None:
    chains = nuts(two_signs, TWO_SIGNS, warmup=50, draws=20, chains=1, **QUIET)
    many = cavi(BayesianGMM(7), OVERLAPPING, starts=1, draws=20, **QUIET)
    for fit, fragment in ((chains, "no importance weights to widen"), (many, "more than 720 labellings")):
        with pytest.raises(InputError, match=fragment) as error:
            widened_evidence(fit)
        assert "\n" not in str(error.value)
