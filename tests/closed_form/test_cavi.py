"""CAVI never lowers the ELBO, has scikit-learn's parameters, and its bound is the ELBO with every constant."""

import itertools
import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyrometer import datasets
from pyrometer.errors import InputError
from pyrometer.guides import catalogue
from pyrometer.inference.closed_form import cavi
from pyrometer.inference.closed_form.cavi import CAVIUpdates
from pyrometer.inference.closed_form.e_step import inline, terms, weighted_sums
from pyrometer.inference.closed_form.row_blocks import as_row_blocks
from pyrometer.inference.data.data import Data
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.runtime.isolation import isolated
from pyrometer.inference.svi.svi import svi
from pyrometer.models import GMM, BayesianGMM
from sklearn.mixture import BayesianGaussianMixture

STRUCTURES = ("full", "diagonal", "tied", "spherical")
FAITHFUL = datasets.faithful()


class FromResponsibilities(BayesianGaussianMixture):
    """scikit-learn's mixture, begun by an update from given responsibilities."""

    def begin(self, responsibilities: np.ndarray) -> "FromResponsibilities":
        self.given = responsibilities
        return self

    def _initialize_parameters(self, X: np.ndarray, *args: Any, **kwargs: Any) -> None:
        self._initialize(X, self.given)


def standard_errors(draws: np.ndarray, value: float) -> float:
    return abs(draws.mean() - value) / (draws.std(ddof=1) / math.sqrt(len(draws)))


@pytest.mark.parametrize("name", ["iris", "wine", "faithful"])
def test_the_same_parameters_as_scikit_learn_from_the_same_start(name: str) -> None:
    x, k = datasets.load(name), 3
    model = BayesianGMM(k, concentration=0.5)
    prior = model.prior(torch.as_tensor(x.to_numpy()))
    start = np.random.default_rng(1).dirichlet(np.ones(k), len(x))
    fit = cavi(model, x, responsibilities=start, max_steps=61, tol=0.0, draws=10)
    peer = FromResponsibilities(
        n_components=k,
        reg_covar=0,
        tol=0,
        max_iter=fit.steps - 1,
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=0.5,
        mean_precision_prior=prior.loc_precision.item(),
        mean_prior=prior.loc.numpy(),
        degrees_of_freedom_prior=prior.df.item(),
        covariance_prior=prior.scale.numpy(),
    ).begin(start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(x.to_numpy())
    trils, df = fit.params["precision_scale_trils"], fit.params["precision_df"]
    close = partial(np.allclose, rtol=1e-6, atol=1e-12)
    assert close(fit.params["weights_concentration"], peer.weight_concentration_)
    assert close(fit.params["locs_loc"], peer.means_)
    assert close(fit.params["locs_precision"], peer.mean_precision_)
    assert close(df, peer.degrees_of_freedom_)
    scale = np.abs(peer.precisions_).max()
    assert np.allclose(df[:, None, None] * trils @ trils.mT, peer.precisions_, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("covariance", STRUCTURES)
@pytest.mark.parametrize("name", ["iris", "wine", "faithful"])
def test_the_bound_never_falls_and_is_the_mean_of_its_draws(name: str, covariance: str) -> None:
    fit = cavi(BayesianGMM(3, covariance=covariance), datasets.load(name), starts=2)  # type: ignore[arg-type]
    assert (np.diff(fit.losses) <= 0).all()
    assert standard_errors(fit.elbo_draws, -fit.losses[-1]) < 5
    assert fit.log_weights.mean() > -fit.losses[-1]  # summing z out only tightens the bound


@pytest.mark.parametrize("covariance", STRUCTURES)
def test_the_bound_is_pyros_elbo_of_the_same_q(covariance: str) -> None:
    """q(z) and the bound of each draw, by Pyro's own estimator on the model and the guide `full_mean_field`."""
    x = torch.as_tensor(FAITHFUL.to_numpy())[:80]
    model = BayesianGMM(2, covariance=covariance)  # type: ignore[arg-type]
    fit = cavi(model, x, starts=1)
    with isolated(0, torch.float64):
        guide = catalogue(model)["full_mean_field"](model)
        guide(x)
        store = pyro.get_param_store()
        for name, value in fit.params.items():
            store[name] = value
        store["assignment_logits"] = best_logits(fit.params, covariance, x)
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        losses = np.array([elbo.loss(config_enumerate(model), guide, x) for _ in range(150)])
    assert standard_errors(-losses, -fit.losses[-1]) < 5


def best_logits(params: dict[str, torch.Tensor], covariance: str, x: torch.Tensor) -> torch.Tensor:
    """E[log weights_k + log Normal(x | k)] by 100 draws: (N, K), up to a constant a row."""
    model = BayesianGMM(2, covariance=covariance)  # type: ignore[arg-type]
    density = Density(model, Data((x,), rows=len(x)))
    guide = catalogue(model)["structured"](model)
    guide(x)
    for name, value in params.items():
        pyro.get_param_store()[name] = value
    total = torch.zeros(len(x), 2)
    for _ in range(100):
        trace = pyro.poutine.trace(guide).get_trace(x)
        sites = {site.name: trace.nodes[site.name]["value"] for site in density.structure.latent}
        total += density.assignment_logits(sites).detach()
    return total / 100


def test_log_weights_are_those_of_the_models_own_density() -> None:
    x = torch.as_tensor(FAITHFUL.to_numpy())
    for covariance in STRUCTURES:
        model = BayesianGMM(2, covariance=covariance)  # type: ignore[arg-type]
        fit = cavi(model, x, draws=4, starts=1)
        with isolated(0, torch.float64):
            density, guide = Density(model, fit.data), catalogue(model)["structured"](model)
            guide(x)
            for name, value in fit.params.items():
                pyro.get_param_store()[name] = value
            order = fit.params["locs_loc"][:, 0].argsort().argsort()  # the Fit's draws are relabelled, q is not
            for draw in range(4):
                sites = {}
                for site in density.structure.latent:
                    value = fit.sites()[site.name][draw]
                    sites[site.name] = value[order] if "components" in site.dims else value
                conditioned = pyro.condition(guide, data=sites)
                log_q = pyro.poutine.trace(conditioned).get_trace(x).log_prob_sum()
                assert (density.log_joint(sites) - log_q).item() == pytest.approx(fit.log_weights[draw], rel=1e-9)


@pytest.mark.parametrize("covariance", STRUCTURES)
def test_with_one_component_the_bound_is_the_evidence(covariance: str) -> None:
    """q is then the exact posterior, so each importance weight is log p(x), whatever the draw."""
    fit = cavi(BayesianGMM(1, covariance=covariance), FAITHFUL, draws=50)  # type: ignore[arg-type]
    assert np.allclose(fit.log_weights, -fit.losses[-1], rtol=1e-10)
    assert np.allclose(fit.elbo_draws, -fit.losses[-1], rtol=1e-10)


def test_the_bound_on_four_rows_is_the_sum_over_all_assignments() -> None:
    """ELBO = sum_z q(z) [log p(x, z) - log q(z) - KL(q(theta) || p(theta | x, z))], z over 2^4 assignments."""
    x = torch.as_tensor(np.array([[0.0], [0.3], [4.0], [4.4]]))
    model = BayesianGMM(2, loc=2.0, scale=1.0, df=3.0, loc_precision=0.1)
    updates = CAVIUpdates(model, as_row_blocks(x, model), inline)
    q = updates.from_kmeans(2)
    log_q = torch.cat(list(terms([x], q.expected_components(), updates.blocks.units)), -1).log_softmax(0)
    bound = 0.0
    for z in itertools.product((0, 1), repeat=4):
        sums = weighted_sums([x], torch.eye(2, dtype=torch.float64)[list(z)])
        log_q_z = log_q[list(z), range(4)].sum()
        gap = q.kl(updates.prior.updated(sums))  # type: ignore[arg-type]
        bound += (log_q_z.exp() * (log_evidence_of(x[:, 0], z) - log_q_z - gap)).item()
    assert updates.evaluate(q)[0] == pytest.approx(bound, rel=1e-10)
    log_joint = [log_evidence_of(x[:, 0], z) for z in itertools.product((0, 1), repeat=4)]
    assert bound < np.logaddexp.reduce(log_joint)


def log_evidence_of(x: torch.Tensor, z: tuple[int, ...]) -> float:
    """log p(x, z) of two univariate components, weights, locs and precisions integrated out (Murphy 2007, eq. 95)."""
    loc, kappa, alpha, beta = 2.0, 0.1, 1.5, 0.5  # Gamma(df / 2, scale / 2)
    total = math.lgamma(2) - math.lgamma(2 + len(x))
    for k in (0, 1):
        own = x[torch.tensor(z) == k]
        n = len(own)
        total += math.lgamma(1 + n)
        if n == 0:
            continue
        mean = own.mean().item()
        scatter = (own - mean).square().sum().item() + kappa * n / (kappa + n) * (mean - loc) ** 2
        total += math.lgamma(alpha + n / 2) - math.lgamma(alpha) + alpha * math.log(beta)
        total -= (alpha + n / 2) * math.log(beta + scatter / 2)
        total += math.log(kappa / (kappa + n)) / 2 - n / 2 * math.log(2 * math.pi)
    return total


def test_six_components_on_old_faithful_become_two() -> None:
    """Bishop 2006, figure 10.6."""
    fit = cavi(BayesianGMM(6, concentration=1e-3), FAITHFUL)
    concentration = fit.params["weights_concentration"]
    assert (concentration / concentration.sum() > 0.01).sum() == 2


def test_svi_reaches_the_same_bound() -> None:
    model = BayesianGMM(2)
    exact = cavi(model, FAITHFUL)
    structured = svi(model, "structured", FAITHFUL, steps=1000, draws=500, progress=False)
    assert structured.log_weights.mean() == pytest.approx(exact.log_weights.mean(), abs=0.5)
    factored = svi(model, "full_mean_field", FAITHFUL, steps=1000, draws=500, progress=False)
    assert factored.elbo_draws.mean() == pytest.approx(-exact.losses[-1], abs=0.5)


def test_bad_starts_end_in_a_valid_fit() -> None:
    rng = np.random.default_rng(0)
    cloud = rng.standard_normal((60, 2))
    start = np.zeros((60, 3))
    start[:, 1] = 1.0
    cases = [
        (cloud, start),
        (np.repeat(cloud[:3], 20, 0), None),
        (cloud[:4], None),
        (rng.standard_normal((5, 8)), None),
    ]
    for (x, given), covariance in itertools.product(cases, STRUCTURES):
        fit = cavi(BayesianGMM(3, covariance=covariance), x, responsibilities=given, starts=2, draws=20)
        assert all(np.isfinite(values).all() for values in (*fit.draws().values(), fit.losses, fit.log_weights))


def test_a_mapped_file_gives_the_same_fit_as_memory(tmp_path: Path) -> None:
    x = datasets.blobs(3000, 3, seed=4).to_numpy()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    start = np.random.default_rng(0).dirichlet(np.ones(3), 3000)
    here, there = (cavi(BayesianGMM(3), data, responsibilities=start, draws=50) for data in (x, mapped))
    assert np.allclose(there.losses, here.losses, rtol=1e-9)
    assert np.allclose(there.log_weights, here.log_weights, rtol=1e-9)


def test_a_model_it_cannot_fit_is_named() -> None:
    with pytest.raises(InputError, match="GMM"):
        cavi(GMM(2), FAITHFUL)  # type: ignore[arg-type]
