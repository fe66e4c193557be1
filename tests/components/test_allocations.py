"""The evidence by an average of full conditionals, held to exact sums."""

from itertools import permutations
from typing import Any

import pytest
import torch
from pyrometer import cavi, exact_log_evidence
from pyrometer.inference.components.allocations import allocation_evidence, log_permanent
from pyrometer.models import BayesianGMM, DirichletProcessGMM, UnivariateMixture

X = torch.tensor([-2.1, -1.2, -0.9, -0.3, 0.0, 0.2, 0.6, 1.1, 1.3, 2.4]).double()


def test_a_permanent_is_the_sum_over_permutations() -> None:
    table = 30 * torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    terms = [table[..., range(4), list(order)].sum(-1) for order in permutations(range(4))]
    torch.testing.assert_close(log_permanent(table), torch.stack(terms).logsumexp(0))


@pytest.mark.parametrize(
    "model",
    [
        BayesianGMM(2),
        BayesianGMM(3, concentration=0.7),
        BayesianGMM(2, "diagonal"),
        BayesianGMM(2, "spherical"),
        UnivariateMixture(3),
    ],
)
def test_components_that_overlap_have_their_exact_evidence(model: Any) -> None:
    x = X if isinstance(model, UnivariateMixture) or model.covariance == "full" else torch.stack([X, X.roll(3)], 1)
    found = allocation_evidence(cavi(model, x, draws=100, progress=False))
    assert found is not None
    assert found.se < 0.2
    assert abs(found.value - exact_log_evidence(model, x)) < 3.5 * found.se


def test_what_is_not_exchangeable_or_shares_its_covariance_has_none() -> None:
    for model in (BayesianGMM(2, "tied"), DirichletProcessGMM(3)):
        assert allocation_evidence(cavi(model, X, draws=50, starts=1, progress=False)) is None
