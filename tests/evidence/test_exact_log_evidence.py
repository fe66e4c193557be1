"""The exact sum over assignments, held to each term found by another way."""

import itertools
from typing import Any

import pytest
import torch
from pyrometer import InputError, datasets, exact_log_evidence
from pyrometer.inference.closed_form.conjugate import prior_of
from pyrometer.inference.density.log_density import Density
from pyrometer.models import GMM, BayesianGMM, UnivariateMixture
from pyrometer.models.gaussians.moments import as_matrix, units
from pyrometer.models.gaussians.sufficient import Sums, Units
from torch import Tensor
from truths import COVARIANCES, assignment_log_evidences, data_of, in_doubles

X = torch.tensor([[0.1, 1.0], [0.9, -2.0], [2.0, 0.5], [3.5, 3.0]]).double()


def by_bayes(model: Any, x: Tensor) -> float:
    """log sum_z p(x, z, theta) / p(theta | x, z) at one theta, over all K^N assignments z."""
    rows = as_matrix(x)
    prior: Any = prior_of(model, Units(*units(rows)))
    with in_doubles(validate=False):
        density, sites = Density(model, data_of(x)), prior.sample(1)
        theta = {name: value[0] for name, value in sites.items()}
        logits = density.assignment_logits(theta)
        prior_density = density.log_joint(theta) - logits.logsumexp(-1).sum()
    terms = []
    for z in itertools.product(range(model.components), repeat=len(rows)):
        members = torch.nn.functional.one_hot(torch.tensor(z), model.components).to(rows)
        counts = members.sum(0)
        means = members.mT @ rows / counts.clamp(min=1).unsqueeze(-1)
        away = rows.unsqueeze(1) - means
        scatters = torch.einsum("nk,nki,nkj->kij", members, away, away)
        posterior = prior.updated(Sums(counts, means, scatters)).log_prob(sites)[0]
        terms.append(prior_density + logits[range(len(rows)), z].sum() - posterior)
    return float(torch.stack(terms).logsumexp(0))


@pytest.mark.parametrize("components", [1, 2, 3])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_sum_is_that_of_bayes_theorem_over_every_assignment(covariance: Any, components: int) -> None:
    model = BayesianGMM(components, covariance, concentration=0.7, df=4.5)
    assert exact_log_evidence(model, X) == pytest.approx(by_bayes(model, X), abs=1e-9)


def test_a_mixture_of_known_variance_is_summed_too() -> None:
    model = UnivariateMixture(3, sigma=2.0, sd=1.3)
    assert exact_log_evidence(model, X[:, 0]) == pytest.approx(by_bayes(model, X[:, 0]), abs=1e-9)


def test_the_sum_is_that_of_normal_wishart_evidences_by_formula() -> None:
    x = torch.cat([X, X.flip(1) + 0.5])[:7]
    for components in (2, 3):
        model = BayesianGMM(components)
        assert exact_log_evidence(model, x) == pytest.approx(assignment_log_evidences(model, x).logsumexp(0).item())


def test_ten_rows_in_three_components_and_any_number_in_one() -> None:
    assert exact_log_evidence(BayesianGMM(1), "faithful") == pytest.approx(-1308.52, abs=0.005)
    assert exact_log_evidence(BayesianGMM(3), datasets.load("faithful")[:10]) < 0


def test_what_cannot_be_summed_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"272 rows make .* partitions into 2 components.*bridge") as error:
        exact_log_evidence(BayesianGMM(2), "faithful")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="GMM has no exact evidence"):
        exact_log_evidence(GMM(2), "faithful")
