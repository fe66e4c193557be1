"""Any program whose continuous latents stand under the plate of rows goes the VAE's way, here where all is known."""

import math
from functools import cache
from typing import Any

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.inference.data.data import Data
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.density.row_density import RowDensity
from pyrometer.inference.local_latents.gaps import amortisation_gaps
from pyrometer.inference.local_latents.latent_nuts import latent_nuts
from pyrometer.inference.local_latents.marginal import Budget, estimate
from pyrometer.inference.local_latents.row_fit import RowFit
from pyrometer.inference.local_latents.target import target_of
from pyrometer.models import VAE
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

W = torch.tensor([[1.0, 0.0], [0.8, 0.3], [0.5, -0.6], [-0.4, 0.9]], dtype=torch.float64)
MU = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
TAU, NOISE = 0.8, 0.5
OPTIONS: dict[str, Any] = {"progress": False}


def drawn(rows: int = 60) -> Tensor:
    """Rows of W u + MU + noise."""
    generator = torch.Generator().manual_seed(1)
    u, noise = (torch.randn(rows, size, generator=generator, dtype=torch.float64) for size in (2, 4))
    return u @ W.T + MU + NOISE * noise


def ppca(x: Tensor) -> None:
    """Probabilistic PCA (Tipping and Bishop 1999), its loadings trained."""
    loadings = pyro.param("W", lambda: W + 0.1)
    mu = pyro.param("mu", lambda: torch.zeros(4))
    sigma = pyro.param("sigma", lambda: torch.tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        u = pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1), infer={"event_dims": ["factors"]})
        pyro.sample("x", dist.Normal(u @ loadings.T + mu, sigma).to_event(1), obs=x)


def random_effects(y: Tensor) -> None:
    """eta_n ~ Normal(0, 1), and several measurements of MU + TAU eta_n."""
    with pyro.plate("groups", len(y), dim=-2):
        eta = pyro.sample("eta", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("measurements", y.shape[1], dim=-1):
            pyro.sample("y", dist.Normal(MU[0] + TAU * eta, NOISE), obs=y)


def counts(exposure: Tensor, y: Tensor) -> None:
    """A rate of its own for each row, known to be positive, and a covariate."""
    with pyro.plate("data", len(y)):
        rate = pyro.sample("rate", dist.Gamma(torch.tensor(3.0), 2.0))
        pyro.sample("y", dist.Poisson(exposure * rate), obs=y)


def effects(rows: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    eta, noise = (torch.randn(rows, size, generator=generator, dtype=torch.float64) for size in (1, 3))
    return MU[0] + TAU * eta + NOISE * noise


@cache
def fitted(which: str) -> RowFit:
    """Trained to the end."""
    model, x = {"ppca": (ppca, drawn()), "random_effects": (random_effects, effects())}[which]
    fit = pyrometer.svi(model, "auto_normal", x, steps=2500, lr=0.02, **OPTIONS)
    assert isinstance(fit, RowFit)
    return fit


def linear(which: str) -> tuple[Tensor, Tensor, Tensor]:
    """Loadings (D, L), mean (D,) and noise variance of x = loadings z + mean + noise, as the fit has them."""
    params = fitted(which).params
    if which == "ppca":
        return params["W"], params["mu"], params["sigma"] ** 2
    return torch.full((3, 1), TAU, dtype=torch.float64), MU[:1].expand(3), torch.tensor(NOISE**2)


def exact(which: str) -> tuple[MultivariateNormal, MultivariateNormal]:
    """p(x) of a row, and p(z_n | x_n) of every row."""
    loadings, mean, variance = linear(which)
    x = fitted(which).data.values
    precision = torch.eye(loadings.shape[1]).double() + loadings.T @ loadings / variance
    covariance = torch.linalg.inv(precision)
    loc = (x - mean) @ loadings @ covariance / variance
    marginal = MultivariateNormal(mean, loadings @ loadings.T + variance * torch.eye(len(mean)).double())
    return marginal, MultivariateNormal(loc, covariance.expand(len(x), *covariance.shape))


BOTH = pytest.mark.parametrize("which", ["ppca", "random_effects"])


@BOTH
def test_the_derived_log_joint_is_the_closed_form_over_draws_and_its_gradient_flows(which: str) -> None:
    rows, (loadings, mean, variance) = fitted(which).row_density(), linear(which)
    x = rows.data.values
    z = torch.randn(3, 5, len(x), rows.latent, dtype=torch.float64, requires_grad=True)
    with rows.data.isolated(0):
        found = rows.log_joint(z)
    given = Normal(z @ loadings.T + mean, variance.sqrt()).log_prob(x).sum(-1)
    expected = given + Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value.sum(), z, retain_graph=True)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


@BOTH
def test_each_estimator_finds_the_exact_log_likelihood_of_a_row(which: str) -> None:
    fit = fitted(which)
    truth = exact(which)[0].log_prob(fit.data.values).detach().numpy()[:10]
    target, budget = fit.target().take(slice(10)), Budget(draws=4000, chains=32, temperatures=150)
    for method in ("naive", "importance", "ais"):
        found = estimate(target, method, budget)
        assert (np.abs(found.value - found.log_bias - truth) < 5 * found.se).all()
        assert method != "importance" or found.se.max() < 0.05


@BOTH
def test_the_gap_is_the_divergence_of_a_diagonal_normal_from_the_posterior(which: str) -> None:
    """(sum_i log P_ii - log det P) / 2 for the best (Bishop 2006, section 10.1.2); the rest is what training left."""
    precision = exact(which)[1].precision_matrix[0]
    truth = float(precision.diagonal().log().sum() - precision.logdet()) / 2
    table = fitted(which).gaps([0, 3, 7, 11], nuts={"draws": 400, "jobs": 1})
    assert ((table["approximation_gap"] - truth).abs() < 5 * table["approximation_gap_se"] + 0.002).all()
    assert table["approximation_gap_se"].max() < 0.06
    assert (table["amortisation_gap"].abs() < 0.03).all()
    assert table["converged"].all()


@BOTH
def test_nuts_over_z_finds_the_exact_posterior_of_every_row(which: str) -> None:
    fit, chosen = fitted(which), torch.tensor([1, 5, 9])
    posterior = exact(which)[1]
    found = latent_nuts(fit.row_density().take(chosen), draws=800, jobs=1, progress=False)
    mean, sd = posterior.mean[chosen].detach().numpy(), posterior.stddev[chosen].detach().numpy()
    assert (np.abs(found.mean - mean) < 5 * sd / np.sqrt(found.ess_bulk)[:, None]).all()
    np.testing.assert_allclose(found.sd, sd, rtol=5 / np.sqrt(2 * found.ess_bulk.min()))


def test_a_fit_has_the_sites_of_its_model_by_their_own_names() -> None:
    fit = fitted("ppca")
    assert fit.posterior["u"].dims == ("chain", "draw", "data", "factors")
    assert fit.idata["observed_data"]["x"].shape == (60, 4)
    assert fit.idata["log_likelihood"]["x"].dims == ("chain", "draw", "data")
    assert np.isfinite(az.loo(fit.idata).elpd_loo)
    assert fitted("random_effects").posterior["eta"].shape == (1, 100, 40, 1)
    exact_evidence = exact("ppca")[0].log_prob(fit.data.values).sum()
    assert fit.elbo_draws.mean() < exact_evidence


def test_what_people_do_with_a_vae_they_can_do_with_pca() -> None:
    fit, (loadings, mean, _) = fitted("ppca"), linear("ppca")
    z = np.array([[0.0, 0.0], [1.0, -2.0]])
    np.testing.assert_allclose(fit.decode(z), (torch.as_tensor(z) @ loadings.T + mean).detach().numpy())
    centre = exact("ppca")[1].mean.detach().numpy()
    assert np.abs(fit.encode() - centre).max() < 0.1
    np.testing.assert_allclose(fit.reconstruct(), fit.decode(fit.encode()))
    assert fit.active_units().all()
    rows = fit.sample(4000)
    np.testing.assert_allclose(rows.mean(), mean.detach(), atol=5 * float(rows.std().max()) / math.sqrt(4000))
    with pytest.raises(InputError, match="has a q for each training row and for no other"):
        fit.encode(drawn(5))
    with pytest.raises(InputError, match=r"wants \(M, 2\)"):
        fit.decode(np.zeros((3, 5)))


def test_a_distribution_without_a_mean_is_named_in_one_line() -> None:
    def heavy(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Cauchy(u, 1.0), obs=x)

    fit: Any = pyrometer.svi(heavy, "auto_normal", drawn()[:, 0], steps=20, **OPTIONS)
    with pytest.raises(InputError, match="site 'x' of model heavy is a Cauchy, without a mean"):
        fit.decode(np.zeros((2, 1)))


def poisson_data() -> tuple[Data, Tensor, Tensor]:
    exposure = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
    y = torch.tensor([2.0, 5.0, 0.0, 9.0], dtype=torch.float64)
    return Data((exposure, y), rows=4), exposure, y


def test_a_positive_latent_and_a_covariate_give_the_exact_evidence_of_a_gamma_poisson() -> None:
    """p(y) is negative binomial: y + 2 choose y, with p = exposure / (exposure + 2)."""
    data, exposure, y = poisson_data()
    rows = RowDensity(Density(counts, data))
    truth = torch.distributions.NegativeBinomial(3.0, probs=exposure / (exposure + 2.0)).log_prob(y).numpy()
    shape = y + 3
    loc = (shape.log() - (exposure + 2).log()).unsqueeze(-1)
    q = Independent(Normal(loc, shape.rsqrt().unsqueeze(-1)), 1)
    budget = Budget(draws=20_000, chains=64, temperatures=100)
    for method in ("naive", "importance", "ais"):
        found = estimate(target_of(rows, q), method, budget)
        assert (np.abs(found.value - found.log_bias - truth) < 5 * found.se).all()
    fit: Any = pyrometer.svi(counts, "auto_normal", (exposure, y), steps=1500, **OPTIONS)
    assert (fit.posterior["rate"] > 0).all()
    z = fit.encode()
    np.testing.assert_allclose(fit.decode(z), exposure.numpy() * np.exp(z[:, 0]))
    assert (fit.gaps([0, 3], nuts={"jobs": 1})["approximation_gap"] < 0.2).all()


def test_the_vae_s_own_log_joint_is_the_derived_one() -> None:
    x = torch.rand(7, 6)
    for likelihood in ("gaussian", "bernoulli", "continuous_bernoulli"):
        fit: Any = pyrometer.svi(VAE(2, "mlp", likelihood, (8,)), "encoder", x, steps=20, draws=3, **OPTIONS)
        rows = fit.row_density()
        z = torch.randn(7, 2)
        with rows.data.isolated(0), torch.no_grad():
            torch.testing.assert_close(rows.log_joint(z), rows.traced_log_joint(z))


def test_compare_trains_the_loadings_once_and_holds_every_guide_to_nuts() -> None:
    options: dict[str, Any] = {"steps": 1500, "lr": 0.02, "starts": 1, "warmup": 200, "draws": 200, **OPTIONS}
    found = pyrometer.compare(ppca, drawn(), ["auto_normal", "auto_mvn"], rows=3, **options)
    one, other = found.fits.values()
    assert "W" in one.params
    assert "W" not in other.params
    assert other.posterior["u"].shape == (1, 100, 60, 2)
    assert found.table.loc["auto_normal", "gap"] < 0.2
    assert any("auto_mvn: its q(z | x) cannot be had row by row" in note for note in found.notes)
    assert len(found.gaps) == 3


def test_a_guide_of_one_s_own_says_whether_it_knows_new_rows() -> None:
    class Own(torch.nn.Module):
        amortized = True

        def __init__(self) -> None:
            super().__init__()
            self.loc = torch.nn.Linear(4, 2, dtype=torch.float64)

        def posterior(self, x: Tensor, rows: Tensor | None = None) -> Any:
            return dist.Normal(self.loc(x), 0.5).to_event(1)

        def forward(self, x: Tensor) -> None:
            pyro.module("own", self)
            with pyro.plate("data", len(x)):
                pyro.sample("u", self.posterior(x))

    fit: Any = pyrometer.svi(ppca, Own(), drawn(), steps=600, lr=0.02, **OPTIONS)
    assert fit.encode(drawn(8)).shape == (8, 2)
    table = fit.marginal_likelihood(drawn(8), ("elbo", "importance"))
    assert table.loc["elbo", "nats"] < table.loc["importance", "nats"]
    mask = np.ones((5, 4), bool)
    mask[:, 2] = False
    assert fit.complete(drawn(5).numpy(), mask).shape == (5, 4)
    trained = pyrometer.train(batched_ppca, Own(), drawn(), x_test=drawn(9), epochs=3, batch_size=20, **OPTIONS)
    assert len(trained.test_losses) == 3


def schools(y: Tensor) -> None:
    """Latents of each row, and one that all share."""
    mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0), 5.0))
    with pyro.plate("data", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, TAU))
        pyro.sample("y", dist.Normal(theta, NOISE), obs=y)


def test_the_rows_of_a_mixed_model_have_gaps_where_the_shared_sites_stand_at_their_means() -> None:
    """The posterior of theta_n given mu is normal, and auto_normal's q has its variance: no approximation gap."""
    y = effects()[:, 0]
    fit = pyrometer.svi(schools, "auto_normal", y, steps=2500, lr=0.02, **OPTIONS)
    assert not isinstance(fit, RowFit)
    chosen, mu = torch.tensor([0, 4]), torch.as_tensor(fit.draws()["mu"].mean())
    rows = RowDensity(fit.density.on(fit.data.take(chosen)), {"mu": mu})
    table = amortisation_gaps({"auto_normal": target_of(rows, fit.guide, chosen)}, nuts={"jobs": 1})
    truth = Normal(mu, math.hypot(TAU, NOISE)).log_prob(y[chosen])
    assert (np.abs(table["log_p"] - truth.numpy()) < 5 * table["log_p_se"]).all()
    assert (table["approximation_gap"].abs() < 5 * table["approximation_gap_se"]).all()
    assert (table["amortisation_gap"] < 0.1).all()


def batched_ppca(x: Tensor, batch_size: int | None = None) -> None:
    """The same in minibatches; the guide above sees all rows, so that only whole batches are drawn here."""
    ppca(x)
