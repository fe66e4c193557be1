"""What every guide in the catalogue owes its model, over every covariance structure, with and without minibatches."""

import warnings
from dataclasses import replace
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate
from pyro.optim import Adam
from pyrometer.guides import CATALOGUE, DEFAULTS, catalogue, defaults
from pyrometer.guides.auto import AUTO
from pyrometer.guides.gaussian import GaussianGuide, diagonal, full, low_rank
from pyrometer.inference.density.log_density import Density
from pyrometer.models import GMM, BayesianGMM, CorrelatedGaussian, DirichletProcessGMM, UnivariateMixture
from pyrometer.models.trace import sites_of
from truths import (
    COUNTS,
    COVARIANCES,
    data_of,
    in_doubles,
    normal_wishart_log_evidence,
    normal_wishart_posterior,
    normal_wishart_prior,
    poisson_mixture,
    two_clusters,
)

X = two_clusters()
ASSIGNING = ("responsibilities", "full_mean_field", "amortized", "sampled")
MODELS: list[Any] = [kind(2, covariance) for kind in (GMM, BayesianGMM) for covariance in COVARIANCES]
MODELS += [UnivariateMixture(2), CorrelatedGaussian()]
MODELS += [DirichletProcessGMM(3), DirichletProcessGMM(3, "tied", concentration_prior=(2.0, 1.0))]
MATRIX = [pytest.param(model, name, id=f"{model}-{name}") for model in MODELS for name in catalogue(model)]


def elbo_for(name: str) -> Any:
    """The estimator that the treatment of z calls for."""
    return TraceGraph_ELBO() if name == "sampled" else TraceEnum_ELBO(max_plate_nesting=1)


def guide_trace(guide: Any, x: torch.Tensor) -> dict[str, Any]:
    """The sites that the guide draws for the model, those of its own left out."""
    sites = sites_of(poutine.trace(guide).get_trace(x))
    return {name: node for name, node in sites.items() if not node["infer"].get("is_auxiliary")}


def whole_and_cut(case: Any) -> list[Any]:
    """A case with all rows and with minibatches; all rows of a covariance other than full are slow, being many."""
    others = [pytest.mark.slow] * (getattr(case.values[0], "covariance", "full") != "full")
    sizes: list[tuple[int | None, list[Any]]] = [(None, others), (8, [])]
    return [pytest.param(*case.values, size, id=f"{case.id}-{size}", marks=marks) for size, marks in sizes]


@pytest.mark.parametrize(("model", "name", "batch_size"), [each for case in MATRIX for each in whole_and_cut(case)])
def test_a_guide_trains_under_pyros_own_svi(model: Any, name: str, batch_size: int | None) -> None:
    """It draws exactly its model's sites, each of its parameters gets a gradient, and Pyro's validation is content."""
    model = replace(model, batch_size=batch_size)
    x = X[:, 0] if isinstance(model, UnivariateMixture) else X
    program = model if name == "sampled" else config_enumerate(model)
    with in_doubles(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guide = catalogue(model)[name](model)
        svi = SVI(program, guide, Adam({"lr": 1e-3}), elbo_for(name))
        losses = [svi.step(x) for _ in range(2)]
        structure = Density(model, data_of(x)).structure
        sites = guide_trace(guide, x)
        svi.loss_and_grads(program, guide, x)
        gradients = {key: value.grad for key, value in pyro.get_param_store().named_parameters()}
    assert all(abs(loss) < 1e4 for loss in losses)
    expected = [site.name for site in structure.latent] + ["z"] * (name in ASSIGNING)
    assert sorted(sites) == sorted(expected)
    for site in structure.latent:
        assert sites[site.name]["value"].shape == site.shape
    assert bool(sites or name == "marginal")
    for key, gradient in gradients.items():
        assert gradient is not None, f"{key} gets no gradient"
        assert bool(gradient.isfinite().all()), f"the gradient of {key} is not finite"
        assert bool((gradient != 0).any()), f"the gradient of {key} vanishes"
    assert gradients
    assert not [str(w.message) for w in caught if "Found" in str(w.message)]


@pytest.mark.parametrize("name", list(AUTO))
def test_an_auto_guide_hides_the_discrete_sites_of_a_users_own_model(name: str) -> None:
    x = COUNTS.double()
    with in_doubles():
        guide = catalogue(poisson_mixture)[name](poisson_mixture)
        svi = SVI(config_enumerate(poisson_mixture), guide, Adam({"lr": 1e-3}), TraceEnum_ELBO(max_plate_nesting=1))
        svi.step(x)
        sites = guide_trace(guide, x)
    assert sorted(sites) == ["rates", "weights"]


def test_a_structured_guide_at_the_conjugate_posterior_has_constant_weights_equal_to_the_evidence() -> None:
    model = BayesianGMM(1)
    prior = normal_wishart_prior(model, X)
    posterior = normal_wishart_posterior(prior, X)
    with in_doubles():
        guide = catalogue(model)["structured"](model)
        guide(X)
        store = pyro.get_param_store()
        store["locs_loc"] = posterior.loc.expand(1, 2)
        store["locs_precision"] = posterior.loc_precision.expand(1)
        store["precision_df"] = posterior.df.expand(1)
        store["precision_scale_trils"] = torch.linalg.cholesky(torch.linalg.inv(posterior.scale)).expand(1, 2, 2)
        density = Density(model, data_of(X))
        weights = []
        for _ in range(5):
            trace = poutine.trace(guide).get_trace(X)
            values = {site.name: trace.nodes[site.name]["value"] for site in density.structure.latent}
            weights.append(density.log_joint(values) - trace.log_prob_sum())
    evidence = normal_wishart_log_evidence(prior, X)
    torch.testing.assert_close(torch.stack(weights).detach(), evidence.expand(5), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("family", ["diagonal", "full", "low_rank"])
def test_a_gaussian_in_unconstrained_space_is_pushed_forward_with_its_jacobian(covariance: Any, family: str) -> None:
    model = BayesianGMM(2, covariance)
    with in_doubles():
        guide = catalogue(model)[f"gaussian_{family}"](model)
        trace = poutine.trace(guide).get_trace(X)
        density = Density(model, data_of(X))
        values = {site.name: trace.nodes[site.name]["value"] for site in density.structure.latent}
        flat = density.unconstrain(values)
        normal = trace.nodes["unconstrained"]["fn"]
        _, log_jacobian = density.constrain(flat)
        torch.testing.assert_close(flat, trace.nodes["unconstrained"]["value"])
        torch.testing.assert_close(trace.log_prob_sum(), normal.log_prob(flat) - log_jacobian)


@pytest.mark.parametrize("family", [diagonal, full, low_rank])
def test_a_gaussian_has_the_sites_of_a_plate_that_is_not_the_rightmost(family: Any) -> None:
    """A site in a plate at -2 alone has a batch dim of one on its right."""

    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            width = pyro.sample("width", pyro.distributions.LogNormal(0.0, 1.0))
            with pyro.plate("entries", 2, dim=-1):
                pyro.sample("x", pyro.distributions.Normal(0.0, width), obs=x)

    with in_doubles():
        trace = poutine.trace(GaussianGuide(model, family)).get_trace(X)
        density = Density(model, data_of(X))
        node, normal = trace.nodes["width"], trace.nodes["unconstrained"]
        _, log_jacobian = density.constrain(normal["value"])
        torch.testing.assert_close(trace.log_prob_sum(), normal["fn"].log_prob(normal["value"]) - log_jacobian)
    assert node["value"].shape == (len(X), 1)
    assert node["fn"].event_dim == 0


@pytest.mark.parametrize("name", ["auto_delta", "auto_normal", "auto_mvn", "auto_low_rank", "auto_iaf"])
def test_an_auto_guide_starts_where_the_model_starts(name: str) -> None:
    model = BayesianGMM(2)
    with in_doubles():
        guide = catalogue(model)[name](model)
        torch.manual_seed(3)  # both take the seed of torch's generator
        guide(X)
        torch.manual_seed(3)
        start = model.init(X)
        draws = torch.stack([guide(X)["locs"].detach() for _ in range(50)])
    distance = (draws.mean(0) - start["locs"]).abs() / X.std(0)
    assert bool((distance < 0.3).all())


def test_two_guides_from_one_factory_share_nothing_trained() -> None:
    model = BayesianGMM(2)
    for name, factory in catalogue(model).items():
        one, other = factory(model), factory(model)
        assert one is not other, name


def test_the_defaults_are_in_the_catalogue() -> None:
    for kind, names in DEFAULTS.items():
        assert set(names) <= set(CATALOGUE[kind])
    assert set(defaults(poisson_mixture)) <= set(catalogue(poisson_mixture))


def test_every_kind_of_model_has_the_auto_guides_it_can_use() -> None:
    assert set(AUTO) <= set(catalogue(BayesianGMM(2)))
    assert set(catalogue(poisson_mixture)) == set(AUTO)
    assert set(catalogue(GMM(2))) == {"marginal", "responsibilities", "amortized", "sampled"}
