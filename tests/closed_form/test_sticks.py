"""CAVI on the Dirichlet process mixture: its bound, its updates, and what they are held to."""

import math
import warnings
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyrometer import cavi, datasets, svi
from pyrometer.guides import catalogue
from pyrometer.inference.closed_form.conjugate import prior_of
from pyrometer.inference.closed_form.weights import StickWeights, weights_prior
from pyrometer.inference.compilation.batched import over_draws
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.evidence.log_evidence import log_evidence
from pyrometer.inference.runtime.isolation import isolated
from pyrometer.models import BayesianGMM, DirichletProcessGMM
from pyrometer.models.gaussians.moments import units
from pyrometer.models.gaussians.sufficient import Units
from scipy.special import digamma
from sklearn.mixture import BayesianGaussianMixture
from truths import COVARIANCES, assignment_log_evidences, data_of, standard_errors, sticks_log_evidence

FAITHFUL = datasets.faithful()
PRIORS = [None, (2.0, 1.0)]
FEW = torch.tensor([[0.0], [0.3], [4.0], [4.4], [1.9]]).double()


class Broken(BayesianGaussianMixture):
    """scikit-learn's mixture begun by an update from given responsibilities, its last stick wholly taken.

    scikit-learn keeps a Beta for the last of T sticks too, which Blei and Jordan (2006, section 3.2) set to one.
    """

    def begin(self, responsibilities: np.ndarray) -> "Broken":
        self.given = responsibilities
        return self

    def _initialize_parameters(self, X: np.ndarray, *args: Any, **kwargs: Any) -> None:
        self._initialize(X, self.given)

    def _estimate_log_weights(self, **_: Any) -> np.ndarray:  # newer versions hand on an array namespace
        own, behind = (part[:-1] for part in self.weight_concentration_)
        both = digamma(own + behind)
        left = np.concatenate([[0.0], np.cumsum(digamma(behind) - both)])
        return np.concatenate([digamma(own) - both, [0.0]]) + left


@pytest.mark.parametrize(("name", "k"), [("iris", 3), ("wine", 3), ("faithful", 2), ("faithful", 4)])
@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_the_same_parameters_as_scikit_learn_from_the_same_start(name: str, k: int, alpha: float) -> None:
    x = datasets.load(name)
    model = DirichletProcessGMM(k, concentration=alpha)
    prior = model.prior(torch.as_tensor(x.to_numpy()))
    found = cavi(model, x, starts=1, draws=50).responsibilities().to_numpy()
    start = 0.8 * found + 0.2 / k  # in the best order from here on: scikit-learn stays in the one given
    fit = cavi(model, x, responsibilities=start, max_steps=41, tol=0.0, draws=10)
    peer = Broken(
        n_components=k,
        reg_covar=0,
        tol=0,
        max_iter=fit.steps - 1,
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=alpha,
        mean_precision_prior=prior.loc_precision.item(),
        mean_prior=prior.loc.numpy(),
        degrees_of_freedom_prior=prior.df.item(),
        covariance_prior=prior.scale.numpy(),
    ).begin(start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(x.to_numpy())
    own, behind = peer.weight_concentration_
    assert np.allclose(fit.params["sticks_concentration1"], own[:-1], rtol=1e-6)
    assert np.allclose(fit.params["sticks_concentration0"], behind[:-1], rtol=1e-6)
    assert np.allclose(fit.params["locs_loc"], peer.means_, rtol=1e-6, atol=1e-12)
    assert np.allclose(fit.params["precision_df"], peer.degrees_of_freedom_, rtol=1e-6)
    trils, df = fit.params["precision_scale_trils"], fit.params["precision_df"]
    scale = np.abs(peer.precisions_).max()
    assert np.allclose(df[:, None, None] * trils @ trils.mT, peer.precisions_, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("name", ["iris", "faithful"])
def test_the_bound_never_falls_and_is_the_mean_of_its_draws(name: str, covariance: Any, prior: Any) -> None:
    fit = cavi(DirichletProcessGMM(5, covariance, concentration_prior=prior), datasets.load(name), starts=2)
    assert (np.diff(fit.losses) <= 0).all()
    assert standard_errors(fit.elbo_draws, -fit.losses[-1]) < 5
    error = fit.log_weights.std(ddof=1) / math.sqrt(len(fit.log_weights))
    assert fit.log_weights.mean() > -fit.losses[-1] - 5 * error  # summing z out only tightens the bound


@pytest.mark.parametrize("prior", PRIORS)
def test_the_bound_is_pyros_elbo_of_the_same_q(prior: Any) -> None:
    x = torch.as_tensor(FAITHFUL.to_numpy())[:60]
    model = DirichletProcessGMM(3, concentration_prior=prior)
    fit = cavi(model, x, starts=2)
    with isolated(0, torch.float64):
        density = Density(model, fit.data)
        guide = catalogue(model)["full_mean_field"](model)
        guide(x)
        store = pyro.get_param_store()
        for name, value in fit.params.items():
            assert name in store
            store[name] = value
        draws = [{name: value[s] for name, value in fit.sites().items()} for s in range(200)]
        store["assignment_logits"] = sum(density.assignment_logits(draw) for draw in draws) / len(draws)
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        losses = np.array([elbo.loss(config_enumerate(model), guide, x) for _ in range(150)])
    assert standard_errors(-losses, -fit.losses[-1]) < 5


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_log_weights_are_those_of_the_models_own_density(covariance: Any, prior: Any) -> None:
    x, model = torch.as_tensor(FAITHFUL.to_numpy()), DirichletProcessGMM(3, covariance, concentration_prior=prior)
    fit = cavi(model, x, draws=3, starts=1)
    with isolated(0, torch.float64):
        density, guide = Density(model, fit.data), catalogue(model)["structured"](model)
        guide(x)
        for name, value in fit.params.items():
            pyro.get_param_store()[name] = value
        for draw in range(3):
            sites = {name: value[draw] for name, value in fit.sites().items()}
            log_q = pyro.poutine.trace(pyro.condition(guide, data=sites)).get_trace(x).log_prob_sum()
            assert (density.log_joint(sites) - log_q).item() == pytest.approx(fit.log_weights[draw], rel=1e-9)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_evidence_of_five_rows_is_the_sum_over_all_assignments(prior: Any) -> None:
    """The mean likelihood of draws from the prior family is p(x), z over 3^5 assignments, alpha by quadrature."""
    model = DirichletProcessGMM(3, loc=2.0, scale=1.0, df=3.0, loc_precision=0.1, concentration_prior=prior)
    exact = assignment_log_evidences(model, FEW).logsumexp(0).item()
    assert -cavi(model, FEW).losses[-1] < exact
    family = prior_of(model, Units(*units(FEW)))
    with isolated(0, torch.float64):
        sites = family.sample(100_000)
        log_likelihood = over_draws(Density(model, data_of(FEW)).log_joint, sites, 20_000) - family.log_prob(sites)
    assert standard_errors((log_likelihood - exact).exp().numpy(), 1.0) < 5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_what_the_weights_give_to_the_bound_is_their_evidence_and_the_chosen_order_is_never_worse(alpha: float) -> None:
    """With alpha fixed q(sticks) is the exact posterior of these counts."""
    rng = np.random.default_rng(0)
    prior = weights_prior(DirichletProcessGMM(5), torch.full((5,), alpha, dtype=torch.float64))
    assert isinstance(prior, StickWeights)
    changed = 0
    for _ in range(30):
        counts = torch.as_tensor(rng.gamma(0.5, 20.0, 5))
        assert prior._gain(counts).item() == pytest.approx(sticks_log_evidence(counts.tolist(), alpha), rel=1e-10)
        order = prior.order(counts)
        assert sorted(order.tolist()) == list(range(5))
        assert prior._gain(counts[order]) >= prior._gain(counts)
        changed += order.tolist() != list(range(5))
    assert changed > 5  # of a large alpha, cut short, the last piece is expected to be the largest


def test_alpha_and_sticks_are_each_the_best_for_the_other() -> None:
    """Blei and Jordan 2006: w_1 = s_1 + T - 1, w_2 = s_2 - sum_t E[log(1 - sticks_t)], and sticks at w_1 / w_2."""
    prior = weights_prior(DirichletProcessGMM(5, concentration_prior=(2.0, 0.5)), torch.ones(5).double())
    assert isinstance(prior, StickWeights)
    for counts in ([50.0, 20.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0], [1e5, 1.0, 1e-3, 1e-12, 0.0]):
        q = prior.updated(torch.tensor(counts, dtype=torch.float64))
        assert q.gamma is not None
        shape, rate = (float(each) for each in q.gamma)
        assert shape == 2.0 + 4
        log_left = q.behind.digamma() - (q.own + q.behind).digamma()
        assert rate == pytest.approx(0.5 - float(log_left.sum()), rel=1e-9)
        tail = torch.tensor([sum(counts[t + 1 :]) for t in range(4)], dtype=torch.float64)
        torch.testing.assert_close(q.behind, tail + shape / rate, rtol=1e-12, atol=0.0)
        torch.testing.assert_close(q.own, 1 + torch.tensor(counts[:-1], dtype=torch.float64))


def test_twelve_components_on_old_faithful_become_two_in_falling_order() -> None:
    fit = cavi(DirichletProcessGMM(12), FAITHFUL)
    weights = fit.draws()["weights"].mean(0)
    assert (weights > 0.02).sum() == 2
    assert (np.diff(weights) < 0).all()


def test_two_sticks_broken_uniformly_have_the_evidence_of_two_uniform_weights() -> None:
    """Old Faithful: -1161.58 nats, by the mixture whose labels are counted apart and by the one whose are not."""
    two = log_evidence(cavi(BayesianGMM(2), FAITHFUL, draws=4000)).value
    one_mode = log_evidence(cavi(DirichletProcessGMM(2), FAITHFUL, draws=4000)).value
    assert two == pytest.approx(-1161.58, abs=0.1)
    assert one_mode + math.log(2) == pytest.approx(two, abs=0.1)  # q holds one of two equal modes


def test_svi_reaches_the_same_bound() -> None:
    model = DirichletProcessGMM(2, concentration_prior=(2.0, 1.0))
    exact = cavi(model, FAITHFUL)
    structured = svi(model, "structured", FAITHFUL, steps=1000, draws=500, progress=False)
    assert structured.log_weights.mean() == pytest.approx(exact.log_weights.mean(), abs=0.5)
