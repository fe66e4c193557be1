"""The latents of a row: their derived density is the one on paper, and a Gaussian row's mode is exact."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer.inference.data.data import Data
from pyrometer.inference.density.laplace import row_modes
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.density.row_density import RowDensity
from torch import Tensor
from torch.distributions import biject_to, constraints
from truths import in_doubles

Y = torch.tensor([[0.3, -1.0], [2.0, 1.5], [-0.7, 0.4], [4.0, 3.0], [0.0, 0.1]]).double()
SHARED = {"mu": torch.tensor(0.4).double(), "tau": torch.tensor(1.7).double()}
SIGMA = 0.8


def centred(y: Tensor) -> None:
    """eta_n ~ Normal(mu, tau), y_n ~ Normal(eta_n, sigma): random effects, centred. y: (N,)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("data", len(y)):
        eta = pyro.sample("eta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(eta, SIGMA), obs=y)


def constrained(y: Tensor) -> None:
    """rate_n ~ Gamma(2, tau), shares_n ~ Dirichlet(1, 2, 3), a_n ~ Normal(mu, 1) in two dimensions.

    y_n ~ Normal(a_n + shares_n1, rate_n). y: (N, 2).
    """
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("data", len(y)):
        rate = pyro.sample("rate", dist.Gamma(2.0, tau))
        shares = pyro.sample("shares", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
        a = pyro.sample("a", dist.Normal(mu, 1.0).expand([2]).to_event(1))
        pyro.sample("y", dist.Normal(a + shares[:, :1], rate[:, None]).to_event(1), obs=y)


def labelled(y: Tensor) -> None:
    """eta_n ~ Normal(mu, tau), k_n ~ Bernoulli(0.3), y_n ~ Normal(eta_n + 4 k_n, sigma). y: (N,)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("data", len(y)):
        eta = pyro.sample("eta", dist.Normal(mu, tau))
        k = pyro.sample("k", dist.Bernoulli(torch.tensor(0.3).double()))
        pyro.sample("y", dist.Normal(eta + 4 * k, SIGMA), obs=y)


def outer_dim(y: Tensor) -> None:
    """A z for each entry of a row, rows on the left: z_nd ~ Normal(mu, tau), y_nd ~ Normal(z_nd, sigma). y: (N, 2)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("data", len(y), dim=-2), pyro.plate("entries", 2, dim=-1):
        z = pyro.sample("z", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(z, SIGMA), obs=y)


def inner_dim(y: Tensor) -> None:
    """The same with rows on the right. y: (2, N)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("entries", 2, dim=-2), pyro.plate("data", y.shape[1], dim=-1):
        z = pyro.sample("z", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(z, SIGMA), obs=y)


def rows_of(model: object, y: Tensor, number: int = 5) -> RowDensity:
    """The rows of a model at SHARED; to be called within `in_doubles`."""
    return RowDensity(Density(model, Data((y,), rows=number)), SHARED)  # type: ignore[arg-type]


def z_of(latent: int) -> Tensor:
    """A point of each row: (5, latent)."""
    return torch.randn(5, latent, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_the_rows_of_a_random_effects_model_are_those_on_paper() -> None:
    z = z_of(1)
    with in_doubles(validate=False):
        rows = rows_of(centred, Y[:, 0])
        assert rows.latent == 1
        got, prior = rows.log_joint(z), rows.log_prior(z)
    expected = dist.Normal(SHARED["mu"], SHARED["tau"]).log_prob(z[:, 0])
    torch.testing.assert_close(prior, expected)
    torch.testing.assert_close(got, expected + dist.Normal(z[:, 0], SIGMA).log_prob(Y[:, 0]))


def test_the_likelihood_of_a_row_has_no_prior_in_it_and_the_joint_of_a_row_has_its_own_only() -> None:
    eta = z_of(1)[:, 0]
    with in_doubles(validate=False):
        density = rows_of(centred, Y[:, 0]).density
        sites = {**SHARED, "eta": eta}
        likelihood, joint, prior = (
            fn(sites) for fn in (density.log_likelihood, density.log_joint_rows, density.log_prior_rows)
        )
        whole = density.log_joint(sites)
    own = dist.Normal(SHARED["mu"], SHARED["tau"]).log_prob(eta)
    torch.testing.assert_close(likelihood, dist.Normal(eta, SIGMA).log_prob(Y[:, 0]))
    torch.testing.assert_close(prior, own)
    torch.testing.assert_close(joint, likelihood + own)
    shared = dist.Normal(0.0, 5.0).log_prob(SHARED["mu"]) + dist.HalfCauchy(5.0).log_prob(SHARED["tau"])
    torch.testing.assert_close(whole, joint.sum() + shared)


def test_constrained_sites_and_event_dims_come_with_their_jacobian() -> None:
    """z: log rate, two stick-breaking coordinates of the shares, a."""
    z = z_of(5)
    with in_doubles(validate=False):
        rows = rows_of(constrained, Y)
        assert rows.latent == 5
        got, prior = rows.log_joint(z), rows.log_prior(z)
        sites, log_jacobian = rows.sites(z)
        torch.testing.assert_close(rows.vector(sites), z)
    rate, a = z[:, 0].exp(), z[:, 3:]
    sticks = biject_to(constraints.simplex)
    shares = sticks(z[:, 1:3])
    jacobian = z[:, 0] + sticks.log_abs_det_jacobian(z[:, 1:3], shares)
    torch.testing.assert_close(log_jacobian, jacobian)
    expected = (
        dist.Gamma(2.0, SHARED["tau"]).log_prob(rate)
        + dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0]).double()).log_prob(shares)
        + dist.Normal(SHARED["mu"], 1.0).log_prob(a).sum(-1)
        + jacobian
    )
    torch.testing.assert_close(prior, expected)
    likelihood = dist.Normal(a + shares[:, :1], rate[:, None]).log_prob(Y).sum(-1)
    torch.testing.assert_close(got, expected + likelihood)


def test_the_discrete_sites_of_a_row_are_summed_out() -> None:
    z = z_of(1)
    with in_doubles(validate=False):
        got = rows_of(labelled, Y[:, 0]).log_joint(z)
    both = torch.tensor([0.0, 1.0]).double()
    weights = torch.tensor([0.7, 0.3]).double().log()
    terms = weights + dist.Normal(z + 4 * both, SIGMA).log_prob(Y[:, :1])
    expected = dist.Normal(SHARED["mu"], SHARED["tau"]).log_prob(z[:, 0]) + terms.logsumexp(-1)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("outer", [True, False], ids=["rows left", "rows right"])
def test_a_plate_beside_the_rows_is_part_of_each_row(outer: bool) -> None:
    z = z_of(2)
    with in_doubles(validate=False):
        rows = rows_of(outer_dim, Y) if outer else rows_of_columns()
        assert rows.latent == 2
        got = rows.log_joint(z)
        torch.testing.assert_close(rows.vector(rows.sites(z)[0]), z)
    expected = dist.Normal(SHARED["mu"], SHARED["tau"]).log_prob(z) + dist.Normal(z, SIGMA).log_prob(Y)
    torch.testing.assert_close(got, expected.sum(-1))


def rows_of_columns() -> RowDensity:
    """`inner_dim`, whose data bear the rows along their second axis."""
    return rows_of(inner_dim, Y.T.contiguous())


def test_new_rows_are_looked_at_with_the_density_of_the_fitted_ones() -> None:
    z = z_of(1)[:3]
    with in_doubles(validate=False):
        density = rows_of(centred, Y[:, 0]).density
        got = RowDensity(density.on(Data((Y[:3, 1],), rows=3)), SHARED).log_joint(z)
    prior = dist.Normal(SHARED["mu"], SHARED["tau"]).log_prob(z[:, 0])
    torch.testing.assert_close(got, prior + dist.Normal(z[:, 0], SIGMA).log_prob(Y[:3, 1]))


def test_draws_of_the_prior_have_its_moments() -> None:
    with in_doubles(validate=False):
        rows = rows_of(centred, Y[:, 0])
        draws = torch.stack([rows.prior_draw() for _ in range(400)])
    assert draws.shape == (400, 5, 1)
    error = SHARED["tau"] / math.sqrt(2000)
    assert abs(draws.mean() - SHARED["mu"]) < 5 * error
    assert abs(draws.std() - SHARED["tau"]) < 5 * error


def test_the_mode_of_a_gaussian_row_is_its_posterior() -> None:
    """eta_n | y_n ~ Normal(v (mu / tau^2 + y_n / sigma^2), v), v = 1 / (1 / tau^2 + 1 / sigma^2)."""
    mu, tau = SHARED["mu"], SHARED["tau"]
    variance = 1 / (tau**-2 + SIGMA**-2)
    mean = variance * (mu / tau**2 + Y[:, 0] / SIGMA**2)
    with in_doubles(validate=False):
        rows = rows_of(centred, Y[:, 0])
        q, found = row_modes(rows.log_joint, torch.zeros(5, 1).double())
        weights = rows.log_joint(z_of(1)) - q.log_prob(z_of(1))
        wide, _ = row_modes(rows.log_joint, torch.zeros(5, 1).double(), widen=3.0)
    assert bool(found.all())
    torch.testing.assert_close(q.mean[:, 0], mean)
    torch.testing.assert_close(q.covariance_matrix[:, 0, 0], variance.expand(5))
    torch.testing.assert_close(wide.covariance_matrix[:, 0, 0], (3 * variance).expand(5))
    evidence = dist.Normal(mu, (tau**2 + SIGMA**2).sqrt()).log_prob(Y[:, 0])
    torch.testing.assert_close(weights, evidence)  # whatever the point, where q is the posterior


def test_the_modes_of_correlated_gaussian_rows_are_exact_and_rows_do_not_meet() -> None:
    generator = torch.Generator().manual_seed(1)
    factors = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    precisions = factors @ factors.mT + torch.eye(3).double()
    locs = 10 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    normal = dist.MultivariateNormal(locs, precision_matrix=precisions)
    q, found = row_modes(normal.log_prob, torch.zeros(4, 3).double())
    assert bool(found.all())
    torch.testing.assert_close(q.mean, locs)
    torch.testing.assert_close(q.covariance_matrix, torch.linalg.inv(precisions))


def test_a_row_without_a_mode_is_told_apart_from_rows_that_have_one() -> None:
    """z^2 / 2 is a valley, -z^2 / 2 a hill."""
    signs = torch.tensor([1.0, -1.0]).double()
    _, found = row_modes(lambda z: 0.5 * signs * z.square().sum(-1), torch.full((2, 1), 0.1).double())
    assert found.tolist() == [False, True]


def test_the_mode_of_a_skewed_row_is_where_its_gradient_vanishes() -> None:
    """log p = 3 z - exp(z): the mode is log 3, minus the second derivative there 3; from far off on either side."""
    start = torch.tensor([[-8.0], [0.0], [6.0]]).double()
    q, found = row_modes(lambda z: (3 * z - z.exp()).sum(-1), start)
    assert bool(found.all())
    torch.testing.assert_close(q.mean, torch.full((3, 1), math.log(3)).double())
    torch.testing.assert_close(q.covariance_matrix, torch.full((3, 1, 1), 1 / 3).double())


def test_where_newton_has_not_arrived_there_is_no_mode() -> None:
    """log p = -sqrt(1 + z^2): its mode is 0, but so far out its curvature promises a step far beyond."""
    start = torch.tensor([[1e12], [0.1]]).double()
    q, found = row_modes(lambda z: -(1 + z.square()).sqrt().sum(-1), start)
    assert found.tolist() == [False, True]
    torch.testing.assert_close(q.mean[1], torch.zeros(1).double())
