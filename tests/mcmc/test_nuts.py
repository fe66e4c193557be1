"""NUTS draws from the posterior that mathematics gives, and says plainly what it cannot do."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import Fit, log_evidence, nuts, svi
from pyrometer.errors import InputError
from pyrometer.models import GMM, BayesianGMM
from torch import Tensor
from truths import (
    NormalWishart,
    in_doubles,
    normal_mean,
    normal_wishart_log_evidence,
    normal_wishart_posterior,
    normal_wishart_prior,
    standard_errors,
    two_clusters,
)

X = two_clusters(30, gap=1.0)
MODEL = BayesianGMM(1)


@pytest.fixture(scope="module")
def posterior() -> NormalWishart:
    """The closed form."""
    return normal_wishart_posterior(normal_wishart_prior(MODEL, X), X)


@pytest.fixture(scope="module")
def chains() -> Fit:
    """NUTS on the one-component model."""
    return nuts(MODEL, X, warmup=250, draws=600, chains=2, jobs=1, progress=False)


def truths(posterior: NormalWishart) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> (mean, sd) of locs (D,) and covariances (D, D)."""
    return {
        "locs": (posterior.loc.numpy(), posterior.loc_covariance.diagonal().sqrt().numpy()),
        "covariances": (posterior.covariance_mean.numpy(), posterior.covariance_variance.sqrt().numpy()),
    }


def test_nuts_recovers_the_normal_wishart_posterior(chains: Fit, posterior: NormalWishart) -> None:
    for name, (mean, sd) in truths(posterior).items():
        draws = chains.idata["posterior"][name][:, :, 0]
        error, sd_error = (az.mcse(draws, method=method)[name].values for method in ("mean", "sd"))
        assert (np.abs(draws.mean(("chain", "draw")).values - mean) < 5 * error).all(), name
        assert (np.abs(draws.std(("chain", "draw")).values - sd) < 5 * sd_error).all(), name
    assert float(az.rhat(chains.idata["posterior"]["locs"])["locs"].max()) < 1.02
    assert int(chains.idata["sample_stats"]["diverging"].sum()) == 0


def test_a_structured_guide_recovers_it_too_and_its_evidence(posterior: NormalWishart) -> None:
    fit = svi(MODEL, "structured", X, steps=1500, draws=1000, progress=False)
    for name, (mean, sd) in truths(posterior).items():
        draws = fit.draws()[name][:, 0]
        for place in np.ndindex(mean.shape):
            values = draws[(slice(None), *place)]
            assert standard_errors(values, float(mean[place])) < 5
            assert standard_errors((values - mean[place]) ** 2, float(sd[place]) ** 2) < 5
    evidence = normal_wishart_log_evidence(normal_wishart_prior(MODEL, X), X).item()
    error = fit.log_weights.std() / 1000**0.5
    assert abs(log_evidence(fit).value - evidence) < 5 * error + 1e-6
    assert fit.elbo_draws.mean() < evidence + 5 * error


def test_lp_is_the_log_density_in_unconstrained_space(chains: Fit) -> None:
    with in_doubles(validate=False):
        first = {name: value[0] for name, value in chains.sites().items()}
        flat = chains.density.unconstrain(first)
        assert chains.idata["sample_stats"]["lp"].values[0, 0] == pytest.approx(chains.density.log_density(flat).item())


def test_the_same_seed_gives_the_same_draws_one_by_one_or_in_threads() -> None:
    x = X[:, 0]
    one, same, threads = (
        nuts(normal_mean, x, warmup=30, draws=20, chains=2, seed=3, jobs=jobs, progress=False) for jobs in (1, 1, 2)
    )
    other = nuts(normal_mean, x, warmup=30, draws=20, chains=2, seed=4, jobs=1, progress=False)
    for again in (same, threads):
        np.testing.assert_array_equal(one.draws()["loc"], again.draws()["loc"])
    assert not np.array_equal(one.draws()["loc"], other.draws()["loc"])
    assert not np.array_equal(*one.idata["posterior"]["loc"].values)


@pytest.mark.parametrize(("x", "chains"), [(X[:, 0], 1), (X[:, 0], 2), (X[:, 0].repeat(8000), 2)])
def test_nuts_leaves_torch_and_pyro_as_it_found_them(x: Tensor, chains: int) -> None:
    pyro.clear_param_store()
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = torch.get_rng_state(), torch.get_default_dtype()
    nuts(normal_mean, x, warmup=5, draws=5, chains=chains, jobs=chains, progress=False)
    after = torch.get_rng_state(), torch.get_default_dtype()
    with ThreadPoolExecutor(1) as executor:  # what threads that begin later find
        assert [torch.get_num_threads(), executor.submit(torch.get_num_threads).result()] == [2, 2]
    torch.set_num_threads(threads)
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert not list(pyro.get_param_store())


def test_minibatches_are_switched_off() -> None:
    whole, parts = (
        nuts(BayesianGMM(1, batch_size=size), X, warmup=5, draws=5, chains=1, progress=False) for size in (None, 4)
    )
    np.testing.assert_array_equal(whole.draws()["locs"], parts.draws()["locs"])


class Startless:
    """A model whose start fails."""

    def __call__(self, x: Tensor) -> None:
        normal_mean(x)

    def init(self, x: Tensor, seed: int | None = None) -> dict[str, Tensor]:
        raise InputError("the start cannot be found")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_in_a_chain_arrives_as_one_line(jobs: int) -> None:
    with pytest.raises(InputError, match=r"^the start cannot be found$"):
        nuts(Startless(), X[:, 0], warmup=5, draws=5, chains=2, jobs=jobs, progress=False)


def no_density(x: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc * float("nan"), 1.0), obs=x)


@pytest.mark.parametrize(
    ("model", "options", "fragment"),
    [
        (
            normal_mean,
            {"mass_matrix": "lowrank"},
            "mass_matrix='lowrank' is unknown: choose auto, diagonal or low_rank",
        ),
        (normal_mean, {"engine": "pyro", "mass_matrix": "low_rank"}, "mass_matrix='low_rank' is nutpie's alone"),
        (GMM(2), {}, "model GMM has no continuous latent site: there is nothing to sample"),
        (MODEL, {"engine": "turbo"}, "engine='turbo' is unknown: choose"),
        (MODEL, {"warmup": 0}, "warmup=0 must be a whole number, 1 or more"),
        (MODEL, {"draws": 1.5}, "draws=1.5 must be a whole number, 1 or more"),
        (MODEL, {"chains": -1}, "chains=-1 must be a whole number, 1 or more"),
        (BayesianGMM(31), {}, "x has 30 rows, fewer than 31 components"),
        (no_density, {}, "model no_density has no finite density at 100 starting points: check the priors"),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_one_line(model: Any, options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        nuts(model, X if model is not no_density else X[:, 0], **{"chains": 1, "progress": False, **options})
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
