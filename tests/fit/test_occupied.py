"""The posterior of how many components hold rows, held to the sum over all assignments."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from pyrometer import cavi, datasets, nuts, svi
from pyrometer.errors import InputError
from pyrometer.models import BayesianGMM, CorrelatedGaussian, DirichletProcessGMM
from truths import assignment_log_evidences

X = torch.tensor([[1.0], [1.5], [2.0], [2.6], [3.1]]).double()  # so close that labels are uncertain
PRIOR: dict[str, Any] = {"loc": 2.0, "scale": 1.0, "df": 3.0, "loc_precision": 0.1}


@pytest.mark.parametrize(
    "model",
    [BayesianGMM(3, **PRIOR), DirichletProcessGMM(3, concentration=4.0, **PRIOR)],
)
def test_of_few_rows_it_is_that_of_all_assignments(model: BayesianGMM) -> None:
    log_joint = assignment_log_evidences(model, X)
    numbers = np.array([len(set(z)) for z in itertools.product(range(3), repeat=len(X))])
    shares = torch.softmax(log_joint, 0).numpy()
    exact = np.array([shares[numbers == k].sum() for k in (1, 2, 3)])
    fit = nuts(model, X, warmup=500, draws=2000, chains=4, target_accept=0.95, progress=False)
    found = fit.occupied().reindex([1, 2, 3], fill_value=0.0).to_numpy()
    error = np.sqrt(exact * (1 - exact) / 2000)  # as of a quarter of the draws, which are not independent
    assert (abs(found - exact) < 5 * error).all()


def test_it_is_seeded_sums_to_one_and_moves_no_generator() -> None:
    fit = cavi(DirichletProcessGMM(8), datasets.faithful(), draws=200)
    before = torch.random.get_rng_state()
    first = fit.occupied(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.equals(fit.occupied(seed=1))
    assert first.sum() == pytest.approx(1.0)
    assert first.index.min() >= 2


def test_rows_far_apart_occupy_a_component_each_cluster() -> None:
    x = torch.cat([torch.randn(30, 2, generator=torch.Generator().manual_seed(k)).double() + 50 * k for k in range(3)])
    fit = cavi(BayesianGMM(3, concentration=1e-3), x, draws=100)
    assert fit.occupied().to_dict() == {3: 1.0}


def test_a_model_without_labels_is_refused() -> None:
    fit = svi(CorrelatedGaussian(), "full", torch.eye(3, 2), steps=2, draws=10, progress=False)
    with pytest.raises(InputError, match="no discrete site with one value a row"):
        fit.occupied()
