"""The log density is the one on paper, z summed out, and the same however it is evaluated."""

import math
from functools import partial
from typing import Any
from unittest.mock import Mock

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.inference.compilation import batched, graph
from pyrometer.inference.compilation.batched import over_draws
from pyrometer.inference.compilation.graph import graph_of
from pyrometer.inference.data.data import Data
from pyrometer.inference.density.log_density import Density
from pyrometer.models import GMM, BayesianGMM
from torch import Tensor
from torch.autograd.functional import jacobian
from truths import COUNTS, COVARIANCES, data_of, in_doubles, mixture, mixture_logits, poisson_mixture, two_clusters

X = two_clusters()
NEW = two_clusters(7) + 1


def theta(model: BayesianGMM, seed: int = 0) -> dict[str, Tensor]:
    """A point near the model's start."""
    with in_doubles(seed, validate=False):
        density = Density(model, data_of(X))
        flat = density.unconstrain(model.init(X, seed=0))
        return density.constrain(flat + 0.3 * torch.randn_like(flat))[0]


def precisions_of(covariance: str, sites: dict[str, Tensor]) -> Tensor:
    """The K precision matrices: (K, D, D)."""
    if covariance == "full":
        return sites["precision_trils"] @ sites["precision_trils"].mT
    if covariance == "tied":
        return (sites["precision_tril"] @ sites["precision_tril"].T).expand(2, 2, 2)
    if covariance == "diagonal":
        return torch.diag_embed(sites["precisions"])
    return sites["precisions"][:, None, None] * torch.eye(2).double()


def precision_prior(model: BayesianGMM, sites: dict[str, Tensor]) -> Tensor:
    """log p of the precisions, by torch's Wishart and Gamma."""
    prior = model.prior(X)
    inverse = torch.linalg.inv(prior.scale)
    wishart = dist.Wishart(prior.df, covariance_matrix=inverse)
    trils = {"full": "precision_trils", "tied": "precision_tril"}
    if model.covariance in trils:
        factor = sites[trils[model.covariance]]
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        log_jacobian = 2 * math.log(2) + (diagonal.log() * torch.tensor([2.0, 1.0])).sum(-1)  # of L -> L L^T
        return (wishart.log_prob(factor @ factor.mT) + log_jacobian).sum()
    if model.covariance == "diagonal":
        return dist.Gamma(prior.df / 2, prior.scale.diagonal() / 2).log_prob(sites["precisions"]).sum()
    return dist.Gamma(prior.df, prior.scale[0, 0]).log_prob(sites["precisions"]).sum()


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_log_joint_of_a_bayesian_mixture_is_bishops(covariance: Any) -> None:
    model = BayesianGMM(2, covariance, concentration=2.5, loc_precision=0.4)
    sites, prior = theta(model), model.prior(X)
    precisions = precisions_of(covariance, sites)
    with in_doubles(validate=False):
        got = Density(model, data_of(X)).log_joint(sites)
        rows = Density(model, data_of(X)).log_likelihood(sites)
        new_rows = Density(model, data_of(X)).on(data_of(NEW)).log_likelihood(sites)
    locs = dist.MultivariateNormal(prior.loc, precision_matrix=prior.loc_precision * precisions)
    exact = mixture(sites["weights"], sites["locs"], torch.linalg.inv(precisions))
    log_prior = (
        dist.Dirichlet(prior.concentration).log_prob(sites["weights"])
        + locs.log_prob(sites["locs"]).sum()
        + precision_prior(model, sites)
    )
    torch.testing.assert_close(got, log_prior + exact.log_prob(X).sum(), rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(rows, exact.log_prob(X), rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(new_rows, exact.log_prob(NEW), rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_assignment_logits_are_the_joint_of_row_and_component(covariance: Any) -> None:
    model = BayesianGMM(2, covariance)
    sites = theta(model)
    with in_doubles(validate=False):
        logits = Density(model, data_of(X)).on(data_of(NEW)).assignment_logits(sites)
    covariances = torch.linalg.inv(precisions_of(covariance, sites))
    expected = mixture_logits(sites["weights"], sites["locs"], covariances, NEW)
    torch.testing.assert_close(logits, expected, rtol=1e-11, atol=1e-10)


def test_params_among_the_sites_come_before_stored_ones_and_those_before_pyros_own() -> None:
    model = GMM(2)
    with in_doubles(validate=False):
        start = model.init(X, seed=0)
        start = {**start, "scale_trils": torch.linalg.cholesky(start.pop("covariances"))}
        moved = start["locs"] + 1
        by_sites = Density(model, data_of(X)).log_likelihood({**start, "locs": moved})
        by_params = Density(model, data_of(X), {**start, "locs": moved}).log_likelihood({})
        both = Density(model, data_of(X), start).log_likelihood({"locs": moved})
        joint = Density(model, data_of(X), start).log_joint({})
    covariances = start["scale_trils"] @ start["scale_trils"].mT
    expected = mixture(start["weights"], moved, covariances).log_prob(X)
    for got in (by_sites, by_params, both):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(joint, mixture(start["weights"], start["locs"], covariances).log_prob(X).sum())


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_constrain_undoes_unconstrain_and_its_jacobian_is_autograds(covariance: Any) -> None:
    model = BayesianGMM(2, covariance)
    sites = theta(model)
    with in_doubles(validate=False):
        density = Density(model, data_of(X))
        flat = density.unconstrain(sites)
        back, log_jacobian = density.constrain(flat)
        torch.testing.assert_close(density.log_density(flat), density.log_joint(sites) + log_jacobian)

        def free(u: Tensor) -> Tensor:
            """The coordinates in which the densities are taken: K - 1 weights, lower triangles."""
            at = dict(density.constrain(u)[0])
            parts = [at.pop("weights")[:-1]]
            rows, columns = torch.tril_indices(2, 2)
            parts += [v[..., rows, columns] if "tril" in n else v for n, v in at.items()]
            return torch.cat([part.reshape(-1) for part in parts])

        expected = jacobian(free, flat).slogdet().logabsdet
    assert sorted(back) == sorted(sites)
    for name, value in sites.items():
        torch.testing.assert_close(back[name], value)
    torch.testing.assert_close(log_jacobian, expected)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_log_density_is_traced_into_a_graph_with_its_gradient(covariance: Any) -> None:
    """Without the graph NUTS runs Pyro's handlers at each step, many times slower."""
    model = BayesianGMM(2, covariance)
    with in_doubles(validate=False):
        density = Density(model, data_of(X))
        flat = density.unconstrain(model.init(X, seed=0))
        graph = graph_of(lambda u: density.log_density(u), (flat,), (flat + 0.1,))
        assert graph is not None
        both = graph_of(torch.func.grad_and_value(graph), (flat,), (flat + 0.1,))
        assert both is not None
        point = (flat + 0.2).requires_grad_()
        (gradient,) = torch.autograd.grad(density.log_density(point), point)
        torch.testing.assert_close(both(flat + 0.2)[0], gradient)


@pytest.mark.parametrize("model", [BayesianGMM(2), BayesianGMM(2, "tied"), poisson_mixture])
def test_all_draws_at_once_give_what_one_by_one_gives(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = COUNTS.double() if model is poisson_mixture else X
    with in_doubles(validate=False):
        density = Density(model, data_of(x))
        size = len(density.unconstrain(model.init(x, seed=0))) if model is not poisson_mixture else 3
        draws = over_draws(lambda u: density.constrain(u["flat"])[0], {"flat": torch.randn(5, size).double()})
        one = lambda s: {name: value[s] for name, value in draws.items()}  # noqa: E731
        for fn in (density.log_joint, density.log_likelihood, density.assignment_logits, density.deterministic):
            by_hand = [fn(one(s)) for s in range(5)]
            together = over_draws(fn, draws, 2)
            for s in range(5):
                got = {k: v[s] for k, v in together.items()} if isinstance(together, dict) else together[s]
                torch.testing.assert_close(got, by_hand[s])
        vectorized = over_draws(density.log_joint, draws)
        monkeypatch.setattr(batched, "graph_of", lambda *_, **__: None)
        torch.testing.assert_close(over_draws(density.log_joint, draws), vectorized)


def two_discrete_sites(x: Tensor) -> None:
    """x_n ~ Normal(locs[z_n], 1 + 2 s_n), z_n and s_n both to be summed out."""
    locs = pyro.sample("locs", dist.Normal(0.0, 5.0).expand([3]).to_event(1))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        s = pyro.sample("s", dist.Bernoulli(0.1 + 0.2 * z))
        pyro.sample("x", dist.Normal(locs[z], 1.0 + 2.0 * s), obs=x)


def test_two_discrete_sites_are_summed_out_and_each_can_be_kept() -> None:
    x, locs = torch.linspace(-3, 8, 9).double(), torch.tensor([-1.0, 2.0, 6.0]).double()
    share = torch.stack([torch.tensor([0.9, 0.7, 0.5]), torch.tensor([0.1, 0.3, 0.5])], -1).double()
    joint = torch.tensor([0.2, 0.3, 0.5]).double()[:, None] * share  # p(z, s)
    normal = dist.Normal(locs[:, None], torch.tensor([1.0, 3.0]).double())
    terms = joint.log() + normal.log_prob(x[:, None, None])  # (N, z, s)
    with in_doubles(validate=False):
        density = Density(two_discrete_sites, data_of(x))
        sites = {"locs": locs}
        rows, z = density.log_likelihood(sites), density.assignment_logits(sites)
        s, named = density.assignment_logits(sites, site="s"), density.assignment_logits(sites, site="z")
        log_joint = density.log_joint(sites)
    close = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)  # the shares above are float32 numbers
    close(rows, terms.logsumexp((1, 2)))
    close(z, terms.logsumexp(2))
    torch.testing.assert_close(named, z)
    close(s, terms.logsumexp(1))
    prior = dist.Normal(0.0, 5.0).log_prob(locs).sum()
    torch.testing.assert_close(log_joint, prior + rows.sum())


def two_observed_sites(x: Tensor) -> None:
    """eta_n ~ Normal(loc, 2), a_n ~ Normal(eta_n, 1), b_n ~ Poisson(exp(eta_n)). x: (N, 2), a beside b."""
    loc = pyro.sample("loc", dist.Normal(0.0, 5.0))
    with pyro.plate("data", len(x)):
        eta = pyro.sample("eta", dist.Normal(loc, 2.0))
        pyro.sample("a", dist.Normal(eta, 1.0), obs=x[:, 0])
        pyro.sample("b", dist.Poisson(eta.exp()), obs=x[:, 1])


def test_a_likelihood_has_no_prior_in_it_and_each_observed_site_its_own() -> None:
    x = torch.tensor([[0.3, 2.0], [-1.0, 0.0], [1.4, 5.0]]).double()
    loc, eta = torch.tensor(0.7).double(), torch.tensor([0.2, -0.5, 1.1]).double()
    with in_doubles(validate=False):
        density, sites = Density(two_observed_sites, data_of(x)), {"loc": loc, "eta": eta}
        both, joint = density.log_likelihood(sites), density.log_joint(sites)
        a, b = (density.log_likelihood(sites, site=site) for site in ("a", "b"))
        rows, prior = density.log_joint_rows(sites), density.log_prior_rows(sites)
    torch.testing.assert_close(a, dist.Normal(eta, 1.0).log_prob(x[:, 0]))
    torch.testing.assert_close(b, dist.Poisson(eta.exp()).log_prob(x[:, 1]))
    torch.testing.assert_close(both, a + b)
    torch.testing.assert_close(prior, dist.Normal(loc, 2.0).log_prob(eta))
    torch.testing.assert_close(rows, both + prior)
    torch.testing.assert_close(joint, rows.sum() + dist.Normal(0.0, 5.0).log_prob(loc))


def test_a_model_without_rows_has_a_joint_and_no_rows_to_score() -> None:
    def model(x: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 5.0))
        pyro.sample("x", dist.MultivariateNormal(loc.expand(3), torch.eye(3)), obs=x)

    x, loc = torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor(0.5).double()
    with in_doubles(validate=False):
        density = Density(model, Data((x,)))
        joint = density.log_joint({"loc": loc})
        with pytest.raises(InputError, match="model model has no plate of rows: put its observations under"):
            density.log_likelihood({"loc": loc})
    torch.testing.assert_close(joint, dist.Normal(0.0, 5.0).log_prob(loc) + dist.Normal(loc, 1.0).log_prob(x).sum())


@pytest.mark.parametrize("inner", [False, True], ids=["a z a row", "a z an entry"])
def test_a_plate_inside_the_data_plate_is_multiplied_over(inner: bool) -> None:
    """x_nd ~ Normal(locs[z], 1): one z_n for all entries of a row, or one z_nd for each."""
    locs, weights = torch.tensor([-1.0, 4.0]).double(), torch.tensor([0.25, 0.75]).double()

    def model(x: Tensor) -> None:
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        rows, entries = pyro.plate("data", len(x), dim=-2), pyro.plate("entries", x.shape[1], dim=-1)
        with rows:
            z = None if inner else pyro.sample("z", dist.Categorical(weights))
            with entries:
                z = pyro.sample("z", dist.Categorical(weights)) if z is None else z
                pyro.sample("x", dist.Normal(locs[z] + shift, 1.0), obs=x)

    terms = dist.Normal(locs + 0.5, 1.0).log_prob(X[:, :, None])  # (N, D, K)
    of_entries, of_rows = (weights.log() + terms).logsumexp(-1).sum(-1), (weights.log() + terms.sum(1)).logsumexp(-1)
    expected = of_entries if inner else of_rows
    sites = {"shift": torch.tensor(0.5).double()}
    with in_doubles(validate=False):
        density = Density(model, data_of(X))
        rows = density.log_likelihood(sites)
        log_joint = density.log_joint(sites)
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(log_joint, expected.sum() + dist.Normal(0.0, 1.0).log_prob(sites["shift"]))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("components", [1, 2])
def test_one_row_and_one_component_are_no_special_case(rows: int, components: int) -> None:
    model = BayesianGMM(components)
    with in_doubles(validate=False):
        sites = model.init(X, seed=0)
        density = Density(model, data_of(X))
        few = density.on(data_of(X[:rows]))
        logits, log_rows = few.assignment_logits(sites), few.log_likelihood(sites)
        whole, all_rows = density.assignment_logits(sites), density.log_likelihood(sites)
    assert logits.shape == (rows, components)
    torch.testing.assert_close(logits, whole[:rows])
    torch.testing.assert_close(log_rows, all_rows[:rows])


def test_a_model_without_a_discrete_site_has_no_assignments() -> None:
    def model(x: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    with in_doubles(), pytest.raises(InputError, match="model model has no discrete site"):
        Density(model, data_of(X[:, 0])).assignment_logits({"loc": torch.zeros(())})
    with in_doubles(), pytest.raises(InputError, match="has no discrete site 'shift' with one value a row"):
        Density(poisson_mixture, data_of(COUNTS.double())).assignment_logits({}, site="shift")


def test_a_discrete_site_that_all_rows_share_is_summed_out_given_the_rest() -> None:
    """p(x_n | loc) = sum_c p(c | loc) p(x_n | c), and no row bears a label."""

    def model(x: Tensor) -> None:
        c = pyro.sample("c", dist.Bernoulli(torch.tensor(0.3).double()))
        loc = pyro.sample("loc", dist.Normal(4.0 * c, 2.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0 + c), obs=x)

    x, loc = X[:, 0], torch.tensor(1.5).double()
    both = torch.tensor([0.0, 1.0]).double()
    prior = torch.tensor([0.7, 0.3]).double().log() + dist.Normal(4 * both, 2.0).log_prob(loc)
    terms = dist.Normal(loc, 1 + both).log_prob(x[:, None])
    with in_doubles(validate=False):
        density = Density(model, data_of(x))
        rows, log_joint = density.log_likelihood({"loc": loc}), density.log_joint({"loc": loc})
        with pytest.raises(InputError, match="has no discrete site with one value a row"):
            density.assignment_logits({"loc": loc})
    torch.testing.assert_close(rows, (prior.log_softmax(-1) + terms).logsumexp(-1))
    torch.testing.assert_close(log_joint, (prior + terms.sum(0)).logsumexp(-1))


class Unreachable(dist.Normal):
    """A distribution whose support no bijection is registered for."""

    support = dist.constraints.Constraint()


def test_a_support_that_no_bijection_reaches_is_refused_by_name() -> None:
    def model(x: Tensor) -> None:
        pyro.sample("loc", Unreachable(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    with in_doubles(validate=False), pytest.raises(InputError, match="site 'loc' of model model has support"):
        _ = Density(model, data_of(X[:, 0])).transforms


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_density_measured_in_units_of_its_data_is_traced_once_for_all_data_of_a_size(
    covariance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, traced = BayesianGMM(2, covariance), Mock(side_effect=graph._of_any_data)
    monkeypatch.setattr(graph, "_of_any_data", traced)
    graph._traced.clear()
    for x in (X, 3 * NEW[torch.arange(len(X)) % len(NEW)] + 0.1 * X):
        density = Density(model, data_of(x))
        with in_doubles(validate=False):
            flat = density.unconstrain(model.init(x, seed=0))
            found = graph_of(density.of_data("log_density"), (flat,), (flat + 0.1,))
            assert found is not None
            assert found(flat - 0.2).item() == pytest.approx(density.log_density(flat - 0.2).item())
    assert traced.call_count == 1
