"""The mixtures mean the same in any units, agree where their covariance structures coincide, and start well."""

from typing import Any

import pyro
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.guides import catalogue
from pyrometer.inference.density.log_density import Density
from pyrometer.models import GMM, BayesianGMM
from torch import Tensor
from truths import COVARIANCES, data_of, in_doubles, mixture, standard_errors, two_clusters

X = two_clusters()


def start_of(model: BayesianGMM, x: Tensor = X) -> dict[str, Tensor]:
    """The model's own start."""
    with in_doubles():
        return model.init(x, seed=0)


def log_joint(model: BayesianGMM, sites: dict[str, Tensor], x: Tensor = X) -> Tensor:
    """log p(x, theta) with z summed out."""
    with in_doubles():
        return Density(model, data_of(x)).log_joint(sites)


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_the_posterior_in_unconstrained_space_does_not_depend_on_units(covariance: Any) -> None:
    loc, scale = torch.tensor([100.0, -3.0]).double(), torch.tensor([60.0, 1e-3]).double()
    model, moved = BayesianGMM(2, covariance), loc + scale * X
    with in_doubles():
        here, there = Density(model, data_of(X)), Density(model, data_of(moved))
        flat = here.unconstrain(model.init(X, seed=0)) + 0.1
        difference = there.log_density(flat) - here.log_density(flat)
    torch.testing.assert_close(difference, -len(X) * scale.log().sum(), rtol=1e-9, atol=1e-9)


def test_a_vector_is_a_matrix_of_one_column() -> None:
    model, column = BayesianGMM(2), X[:, :1]
    sites = start_of(model, column)
    assert log_joint(model, sites, X[:, 0]) == log_joint(model, sites, column)


def test_one_component_has_nothing_to_tie() -> None:
    full, tied = BayesianGMM(1), BayesianGMM(1, "tied")
    sites = start_of(full)
    shared = {"weights": sites["weights"], "locs": sites["locs"], "precision_tril": sites["precision_trils"][0]}
    torch.testing.assert_close(log_joint(tied, shared), log_joint(full, sites))


def test_all_structures_are_one_in_one_dimension() -> None:
    """Densities of a precision p and of its factor sqrt(p) differ by the Jacobian 2 sqrt(p)."""
    x = X[:, :1]
    full = start_of(BayesianGMM(2), x)
    factors = full.pop("precision_trils")
    expected = log_joint(BayesianGMM(2), {**full, "precision_trils": factors}, x) - (2 * factors).log().sum()
    diagonal = {**full, "precisions": factors[..., 0].square()}
    spherical = {**full, "precisions": factors[:, 0, 0].square()}
    torch.testing.assert_close(log_joint(BayesianGMM(2, "diagonal"), diagonal, x), expected)
    torch.testing.assert_close(log_joint(BayesianGMM(2, "spherical"), spherical, x), expected)


def test_the_default_prior_is_read_from_the_data() -> None:
    prior = BayesianGMM(3).prior(X)
    torch.testing.assert_close(prior.loc, X.mean(0))
    torch.testing.assert_close(prior.scale, torch.diag(X.var(0, correction=0)) * 3 ** (-2 / 2))
    assert prior.df == X.shape[1] + 2
    assert prior.concentration.tolist() == [1, 1, 1]


def test_each_part_of_the_prior_can_be_set() -> None:
    scale = torch.tensor([[2.0, 0.3], [0.3, 1.0]])
    model = BayesianGMM(2, concentration=5.0, loc=1.0, loc_precision=0.3, df=7.0, scale=scale)
    prior = model.prior(X)
    assert prior.concentration.tolist() == [5, 5]
    assert prior.loc.tolist() == [1, 1]
    assert (prior.loc_precision.item(), prior.df.item()) == (0.3, 7)
    torch.testing.assert_close(prior.scale, scale.double())
    torch.testing.assert_close(BayesianGMM(2, scale=3.0).prior(X).scale, 3 * torch.eye(2).double())
    variances = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(BayesianGMM(2, scale=variances).prior(X).scale, torch.diag(variances).double())


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_start_has_every_site_in_its_support_and_its_means_in_the_clusters(covariance: Any) -> None:
    model = BayesianGMM(2, covariance)
    with in_doubles():
        start = model.init(X, seed=0)
        for site in Density(model, data_of(X)).structure.latent:
            assert start[site.name].shape == site.shape
            assert site.support is not None
            assert bool(site.support.check(start[site.name]).all())
    order = start["locs"][:, 0].argsort()
    truth = torch.stack([X[:8].mean(0), X[8:].mean(0)])
    torch.testing.assert_close(start["locs"][order], truth)
    torch.testing.assert_close(start["weights"][order], torch.tensor([9 / 26, 17 / 26]).double())
    again = model.init(X, seed=0)
    assert all(torch.equal(start[name], again[name]) for name in start)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_params_of_a_gmm_are_those_of_its_mixture(covariance: Any) -> None:
    model = GMM(2, covariance)
    with in_doubles():
        trace = pyro.poutine.trace(model).get_trace(X)
        store = dict(pyro.get_param_store().items())
        density = Density(model, data_of(X), {name: value.detach() for name, value in store.items()})
        rows = density.log_likelihood({})
    covariances = trace.nodes["covariances"]["value"]
    expected = mixture(store["weights"], store["locs"], covariances).log_prob(X)
    torch.testing.assert_close(rows, expected.detach())
    per_component = {"full": 4, "diagonal": 2, "tied": 4, "spherical": 1}[covariance]
    sizes = {name: value.numel() for name, value in store.items() if name not in ("weights", "locs")}
    assert list(sizes.values()) == [per_component * (1 if covariance == "tied" else 2)]


@pytest.mark.parametrize("model", [GMM(2, batch_size=6), BayesianGMM(2, batch_size=6)])
def test_a_minibatch_estimates_the_whole_likelihood_without_bias(model: Any) -> None:
    """Its rows are drawn without replacement, and their log density is scaled by N / B."""
    name = "marginal" if isinstance(model, GMM) else "auto_delta"
    whole = type(model)(2)
    losses = []
    with in_doubles(validate=False):
        guide = catalogue(model)[name](model)
        guide(X)
        elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
        losses = [elbo.loss(pyro.infer.config_enumerate(model), guide, X) for _ in range(300)]
        exact = elbo.loss(pyro.infer.config_enumerate(whole), guide, X)
    assert standard_errors(torch.tensor(losses).double().numpy(), exact) < 5


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"components": 0}, "components=0 must be a whole number"),
        ({"components": 2.0}, "components=2.0 must be a whole number"),
        ({"components": 2, "covariance": "round"}, "covariance='round' is unknown: choose one of full, diagonal"),
        ({"components": 2, "batch_size": 0}, "batch_size=0 must be a whole number"),
    ],
)
@pytest.mark.parametrize("kind", [GMM, BayesianGMM])
def test_a_mixture_that_cannot_be_is_refused(kind: Any, options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(InputError, match=fragment):
        kind(**options)


def test_a_prior_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="concentration=0 must be positive"):
        BayesianGMM(2, concentration=0)
    with pytest.raises(InputError, match="loc_precision=-1 must be positive"):
        BayesianGMM(2, loc_precision=-1)
    with pytest.raises(InputError, match="df=1 must be above D - 1 = 1"):
        BayesianGMM(2, df=1).prior(X)
