"""EM never lowers the likelihood, walks step for step with scikit-learn, and never ends in a NaN."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pyrometer import datasets
from pyrometer.errors import InputError
from pyrometer.inference.closed_form import em
from pyrometer.inference.runtime.arviz import groups_of
from pyrometer.models import GMM
from sklearn.mixture import GaussianMixture

STRUCTURES = ("full", "diagonal", "tied", "spherical")
RNG = np.random.default_rng(0)
CLOUD = RNG.standard_normal((60, 2))


class FromResponsibilities(GaussianMixture):
    """scikit-learn's mixture, begun by an M-step from given responsibilities."""

    def begin(self, responsibilities: np.ndarray) -> "FromResponsibilities":
        self.given = responsibilities
        return self

    def _initialize_parameters(self, X: np.ndarray, *args: Any, **kwargs: Any) -> None:
        self._initialize(X, self.given)


def table(name: str) -> pd.DataFrame:
    return datasets.blobs(400, 3, 3, seed=1) if name == "blobs" else datasets.load(name)


def one_sided(shares: list[float], rows: int = 60) -> np.ndarray:
    return np.tile(shares, (rows, 1))


def test_one_component_is_the_sample_mean_and_covariance() -> None:
    x = table("iris")
    fit = em(GMM(1), x)
    assert np.allclose(fit.draws()["locs"][0, 0], x.mean(), rtol=1e-12)
    assert np.allclose(fit.draws()["covariances"][0, 0], np.cov(x.T, ddof=0), rtol=1e-12)


@pytest.mark.parametrize("covariance", STRUCTURES)
@pytest.mark.parametrize("name", ["iris", "wine", "faithful", "blobs"])
def test_the_same_likelihoods_as_scikit_learn_from_the_same_start(name: str, covariance: str) -> None:
    x = table(name)
    k = 2 if name == "faithful" else 3
    start = np.random.default_rng(3).dirichlet(np.ones(k), len(x))
    fit = em(GMM(k, covariance=covariance), x, responsibilities=start, max_steps=41, tol=0.0)  # type: ignore[arg-type]
    peer = FromResponsibilities(
        k, covariance_type=covariance.replace("onal", ""), reg_covar=0, tol=0, max_iter=fit.steps - 1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.begin(start).fit(x.to_numpy())
    steps = min(len(fit.losses), len(peer.lower_bounds_))
    assert steps > 10
    assert np.allclose(-fit.losses[:steps], np.array(peer.lower_bounds_[:steps]) * len(x), rtol=1e-8, atol=0)
    assert (np.diff(fit.losses) <= 0).all()
    order = np.argsort(peer.means_[:, 0])
    assert np.allclose(fit.draws()["locs"][0], peer.means_[order], rtol=1e-6)


def test_the_last_loss_is_minus_the_likelihood_of_the_fit() -> None:
    fit = em(GMM(3), table("iris"), starts=3)
    assert fit.is_point
    assert fit.log_predictive().sum() == pytest.approx(-fit.losses[-1], rel=1e-10)
    assert fit.idata["log_likelihood"]["x"].sum().item() == pytest.approx(-fit.losses[-1], rel=1e-10)
    assert fit.elbo_draws.mean() == pytest.approx(-fit.losses[-1], rel=1e-12)
    assert len(fit.start_losses) == 3
    assert fit.losses[-1] == fit.start_losses.min()


def test_same_seed_same_numbers_and_nothing_outside_moves() -> None:
    x, before, threads = table("blobs"), torch.random.get_rng_state(), torch.get_num_threads()
    first, second = em(GMM(3), x, seed=5), em(GMM(3), x, seed=5)
    assert np.array_equal(first.losses, second.losses)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


def test_the_truth_comes_back() -> None:
    x = datasets.blobs(20_000, 3, seed=2)
    fit = em(GMM(3), x)
    truth = np.array(x.attrs["locs"])
    order = np.argsort(truth[:, 0])
    sd = np.sqrt(np.array(x.attrs["covariances"])[order].diagonal(axis1=1, axis2=2))
    error = 5 * sd / np.sqrt(20_000 * np.array(x.attrs["weights"])[order])[:, None]
    assert (np.abs(fit.draws()["locs"][0] - truth[order]) < 1.5 * error).all()


def test_a_collapse_is_named_and_refused_or_re_seeded() -> None:
    start = one_sided([1.0, 0.0])
    start[17] = [0.0, 1.0]
    with pytest.raises(InputError, match="component 1 collapsed onto row 17"):
        em(GMM(2), CLOUD, responsibilities=start, on_collapse="refuse")
    fit = em(GMM(2), CLOUD, responsibilities=start)
    assert np.isfinite(fit.losses).all()
    assert (np.diff(fit.losses) <= 0).all()


def test_a_collapse_on_the_way_is_told_of() -> None:
    nearest = np.square(CLOUD - CLOUD[6]).sum(1).argsort()[:4]
    start = one_sided([1.0, 0.0])
    start[nearest] = [0.0, 1.0]
    fit = em(GMM(2), CLOUD, responsibilities=start)
    assert "component 1 collapsed onto rows 6, 54: re-seeded" in fit.message
    assert len(fit.losses) < fit.steps  # the trace begins anew
    assert (np.diff(fit.losses) <= 0).all()


def test_a_start_is_the_same_whatever_was_re_seeded_before_it() -> None:
    """The second start of a seed is the first of that seed + 1000."""
    rng = np.random.default_rng(24)
    crowds = np.repeat(rng.normal(5, 1, (2, 2)), 4, 0) + 1e-12  # of equal rows, onto which components collapse
    x = np.concatenate([rng.normal(0, 1, (14, 2)), crowds])
    both = em(GMM(4), x, starts=2, seed=24, progress=False)
    alone = em(GMM(4), x, starts=1, seed=1024, progress=False)
    assert "re-seeded" in alone.message
    assert both.start_losses[1] == alone.start_losses[0]


BAD = {
    "one row each": (CLOUD, np.eye(3)[np.r_[1, 2, np.zeros(58, int)]]),
    "all alike": (CLOUD, one_sided([1 / 3, 1 / 3, 1 / 3])),
    "two empty": (CLOUD, one_sided([1.0, 0.0, 0.0])),
    "duplicated rows": (np.repeat(CLOUD[:3], 20, 0), None),
    "two distinct rows": (np.repeat(CLOUD[:2], 30, 0), None),
    "as many rows as components": (CLOUD[:3], None),
    "one row more": (CLOUD[:4], None),
    "more columns than rows": (RNG.standard_normal((5, 8)), None),
    "an outlier": (np.vstack([CLOUD, [[1e8, 1e8]]]), None),
    "a dependent column": (np.column_stack([CLOUD, CLOUD.sum(1)]), None),
    "tiny units": (CLOUD * 1e-150, None),
}


@pytest.mark.parametrize("covariance", STRUCTURES)
@pytest.mark.parametrize("case", BAD)
def test_a_bad_start_ends_in_a_clear_error_or_a_valid_fit(case: str, covariance: str) -> None:
    x, start = BAD[case]
    try:
        fit = em(GMM(3, covariance=covariance), x, responsibilities=start, starts=2)  # type: ignore[arg-type]
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "\n" not in refusal
        assert "component" in refusal or "column" in refusal
        return
    assert np.isfinite(fit.losses).all()
    assert (np.diff(fit.losses) <= 0).all()
    assert all(np.isfinite(values).all() for values in fit.draws().values())
    assert fit.draws()["weights"].sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"responsibilities": np.ones((60, 2))}, "row 0"),
        ({"responsibilities": np.ones((5, 2)) / 2}, "shape"),
        ({"responsibilities": one_sided([np.nan, 1.0])}, "row 0"),
        ({"max_steps": 0}, "max_steps"),
        ({"tol": -1.0}, "tol"),
        ({"starts": 0}, "starts"),
        ({"floor": 0.0}, "floor"),
        ({"on_collapse": "ignore"}, "on_collapse"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        em(GMM(2), CLOUD, **options)


def test_a_mapped_file_gives_the_same_fit_as_memory(tmp_path: Path) -> None:
    x = datasets.blobs(3000, 3, seed=4).to_numpy().copy()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    start = np.random.default_rng(0).dirichlet(np.ones(3), 3000)
    here, there = (em(GMM(3), data, responsibilities=start) for data in (x, mapped))
    assert np.allclose(there.losses, here.losses, rtol=1e-10)
    assert np.allclose(there.draws()["locs"], here.draws()["locs"], rtol=1e-8)
    assert "log_likelihood" not in groups_of(there.idata)
    x[5, 1] = np.nan
    np.save(tmp_path / "y.npy", x)
    with pytest.raises(InputError, match="column 'x1', row 5"):
        em(GMM(3), np.load(tmp_path / "y.npy", mmap_mode="r"))
