"""Each criterion for a number of components is what its definition says, by formula or by a peer."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pyrometer import cavi, choose_components, datasets, em, log_evidence
from pyrometer.inference.components.criteria import cross_validated, information_criteria, log_labellings
from pyrometer.inference.data.as_data import data_for
from pyrometer.models import GMM, BayesianGMM, DirichletProcessGMM
from scipy.stats import multivariate_t
from sklearn.mixture import GaussianMixture
from truths import COVARIANCES, normal_wishart_log_evidence, normal_wishart_posterior, normal_wishart_prior

FAITHFUL = datasets.faithful()
X = torch.as_tensor(FAITHFUL.to_numpy())


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_bic_and_aic_are_scikit_learns_at_the_same_parameters(covariance: Any) -> None:
    x = datasets.load("iris").to_numpy()
    fit = em(GMM(3, covariance), x, progress=False)
    peer = GaussianMixture(3, covariance_type={"diagonal": "diag"}.get(covariance, covariance))
    weights, locs, covariances = (fit.draws()[name][0] for name in ("weights", "locs", "covariances"))
    peer.weights_, peer.means_ = weights, locs
    peer.precisions_cholesky_ = {
        "full": np.linalg.cholesky(np.linalg.inv(covariances)),
        "tied": np.linalg.cholesky(np.linalg.inv(covariances[0])),
        "diagonal": covariances.diagonal(axis1=1, axis2=2) ** -0.5,
        "spherical": covariances[:, 0, 0] ** -0.5,
    }[covariance]
    peer.covariances_ = {"tied": covariances[0], "spherical": covariances[:, 0, 0]}.get(covariance, covariances)
    found = information_criteria(fit)
    assert found["bic"] == pytest.approx(peer.bic(x), rel=1e-9)
    assert found["aic"] == pytest.approx(peer.aic(x), rel=1e-9)


def test_with_one_component_evidence_and_bound_are_that_of_the_normal_wishart() -> None:
    exact = normal_wishart_log_evidence(normal_wishart_prior(BayesianGMM(1), X), X).item()
    selection = choose_components(FAITHFUL, [1], folds=0, progress=False)
    row = selection.table.loc[1]
    assert row["log_evidence"] == pytest.approx(exact, rel=1e-10)
    assert row["elbo"] == pytest.approx(exact, rel=1e-10)
    assert row["log_evidence_se"] < 1e-5
    assert np.isnan(row["khat"])
    assert row["probability"] == 1.0
    assert exact == pytest.approx(-1308.52, abs=0.01)


def test_the_error_of_the_evidence_covers_its_spread_over_seeds() -> None:
    found = [log_evidence(cavi(BayesianGMM(2), FAITHFUL, seed=seed, starts=1, draws=300)) for seed in range(30)]
    values, errors = np.array([each.value for each in found]), np.array([each.se for each in found])
    assert values.mean() == pytest.approx(-1161.58, abs=0.1)
    assert values.std(ddof=1) < errors.mean() * (1 + 5 / math.sqrt(2 * 30))  # it allows for what k-hat leaves open


def test_the_labellings_are_those_of_what_is_exchangeable() -> None:
    assert log_labellings(cavi(BayesianGMM(4), FAITHFUL, starts=1, draws=10)) == pytest.approx(math.log(24))
    assert log_labellings(cavi(BayesianGMM(1), FAITHFUL, starts=1, draws=10)) == 0.0
    assert log_labellings(cavi(DirichletProcessGMM(4), FAITHFUL, starts=1, draws=10)) == 0.0


def test_held_out_rows_of_one_component_have_the_density_of_students_t() -> None:
    """A Normal-Wishart posterior predicts Student t (Bishop 2006, eq. 10.81), given the rows outside each part."""
    data, _ = data_for(BayesianGMM(1), FAITHFUL)
    parts = torch.randperm(272, generator=torch.Generator().manual_seed(3)).tensor_split(4)
    found = cross_validated(lambda kept: cavi(BayesianGMM(1), data.take(kept), starts=1, draws=4000), data, parts)
    exact = np.empty(272)
    for part in parts:
        kept = X[[row for row in range(272) if row not in set(part.tolist())]]
        q = normal_wishart_posterior(normal_wishart_prior(BayesianGMM(1), kept), kept)
        df = (q.df - 1).item()
        shape = q.scale * (1 + q.loc_precision) / (q.loc_precision * df)
        exact[part] = multivariate_t(q.loc.numpy(), shape.numpy(), df=df).logpdf(X[part].numpy())
    assert np.abs(found - exact).max() < 0.05
    assert found.sum() == pytest.approx(exact.sum(), abs=0.5)  # rows in the fit would have 5 nats more
