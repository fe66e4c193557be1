"""The linear VAE is probabilistic PCA, whose every number is known; all guides train, and a fit does what it says."""

import copy
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from pyrometer.errors import InputError
from pyrometer.guides import catalogue
from pyrometer.guides.vae import SemiAmortized
from pyrometer.inference.data.data import Data
from pyrometer.inference.local_latents.row_fit import RowFit
from pyrometer.inference.runtime.isolation import isolated
from pyrometer.inference.steps.compiled_steps import Schedule, compiled_steps, joined, pyro_gradient
from pyrometer.inference.steps.minibatches import Minibatches
from pyrometer.inference.steps.pairing import pair
from pyrometer.models import VAE
from pyrometer.models.trace import read_structure
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

DIGITS = pyrometer.datasets.load("digits").to_numpy() / 16
FEW = torch.tensor(DIGITS[:60], dtype=torch.float32)
OWN = ("encoder", "encoder_full", "encoder_low_rank", "encoder_flow", "free", "semi_amortized")


@pytest.fixture(scope="module")
def linear() -> RowFit:
    """Ten latent entries, trained to the end."""
    options: dict[str, Any] = {"steps": 5000, "batch_size": 256, "lr": 0.01, "progress": False}
    fit = pyrometer.svi(VAE(10, "linear"), "encoder_full", DIGITS, **options)
    assert isinstance(fit, RowFit)
    return fit


def loadings(fit: RowFit) -> tuple[Tensor, Tensor, Tensor]:
    """W (D, L), mean (D,) and variance of x = W z + mean + noise, in doubles."""
    model: Any = fit.model
    decoder = model.network(fit.data.values)
    layer = decoder.get_submodule("network.0")
    assert isinstance(layer, nn.Linear)
    return layer.weight.double(), layer.bias.double(), (2 * decoder.log_scale).exp().double()


def marginal(fit: RowFit) -> MultivariateNormal:
    """p(x) (Tipping and Bishop 1999, eq. 7)."""
    w, mean, variance = loadings(fit)
    return MultivariateNormal(mean, w @ w.T + variance * torch.eye(len(mean)).double())


def posterior(fit: RowFit) -> tuple[np.ndarray, np.ndarray]:
    """Mean (N, L) and sd (L,) of p(z | x) (eq. 8)."""
    w, mean, variance = loadings(fit)
    covariance = torch.linalg.inv(w.T @ w / variance + torch.eye(w.shape[1]).double())
    means = (torch.tensor(DIGITS) - mean) @ w @ covariance / variance
    return means.detach().numpy(), covariance.diagonal().sqrt().detach().numpy()


def test_the_elbo_comes_within_half_a_nat_of_pca(linear: RowFit) -> None:
    best = PCA(10).fit(DIGITS).score(DIGITS)
    elbo = linear.elbo_draws.mean() / len(DIGITS)
    assert best - 0.1 < elbo < best


def test_importance_sampling_finds_the_exact_log_likelihood_at_the_same_parameters(linear: RowFit) -> None:
    exact = marginal(linear).log_prob(torch.tensor(DIGITS)).detach().numpy()
    rows = linear.log_likelihood(draws=400)
    assert list(rows.columns) == ["estimate", "se", "ess", "log_weight_sd", "khat"]
    error = np.sqrt((rows["se"] ** 2).sum())
    assert abs((rows["estimate"] - exact).sum()) < 5 * error
    assert linear.elbo_draws.mean() < exact.sum()


def test_the_encoder_finds_the_exact_posterior(linear: RowFit) -> None:
    mean, sd = posterior(linear)
    bias = np.abs(linear.encode() - mean) / sd
    assert bias.mean() < 0.1
    assert np.quantile(bias, 0.99) < 0.2


def test_completion_is_the_conditional_mean_of_the_missing_given_the_rest(linear: RowFit) -> None:
    mask = np.ones((20, 64), bool)
    mask[:, 24:32] = False
    got = linear.complete(DIGITS[:20], mask, steps=600)
    p, missing = marginal(linear), ~mask[0]
    c = p.covariance_matrix.detach().numpy()
    gain = c[missing][:, ~missing] @ np.linalg.inv(c[~missing][:, ~missing])
    mean = p.loc.detach().numpy()
    expected = mean[missing] + (DIGITS[:20][:, ~missing] - mean[~missing]) @ gain.T
    sd = np.sqrt(np.diag(c[missing][:, missing] - gain @ c[~missing][:, missing]))
    assert np.sqrt((((got[:, missing] - expected) / sd) ** 2).mean()) < 0.3
    np.testing.assert_array_equal(got[mask], DIGITS[:20][mask].astype(np.float32))


def test_what_people_do_with_a_fit_has_the_shapes_it_promises(linear: RowFit) -> None:
    assert linear.encode(DIGITS[:5]).shape == (5, 10)
    assert linear.posterior["z"].dims == ("chain", "draw", "data", "latent")
    path = linear.interpolate(DIGITS[0], DIGITS[1], steps=5)
    np.testing.assert_allclose(path[[0, -1]], linear.reconstruct(DIGITS[:2]), rtol=1e-4, atol=1e-4)
    assert linear.sample(4).shape == (4, 64)
    assert linear.active_units().all()
    error = ((linear.reconstruct() - DIGITS) ** 2).mean()
    assert error < 1.1 * ((PCA(10).fit(DIGITS).inverse_transform(PCA(10).fit_transform(DIGITS)) - DIGITS) ** 2).mean()


LIKELIHOODS = ("gaussian", "gaussian_diagonal", "bernoulli", "continuous_bernoulli")


DECODERS = [("conv", "bernoulli"), *(("mlp", likelihood) for likelihood in LIKELIHOODS)]
PAIRS = [  # every guide with one decoder, every decoder with one guide; all of both are slow
    pytest.param(guide, *decoder, marks=[pytest.mark.slow] * (guide != OWN[1] and decoder != DECODERS[1]))
    for guide in OWN
    for decoder in DECODERS
]


@pytest.mark.parametrize(("guide", "decoder", "likelihood"), PAIRS)
def test_compiled_steps_are_those_of_pyro(guide: str, decoder: Any, likelihood: Any) -> None:
    model, data = VAE(3, decoder, likelihood, hidden=(20,), batch_size=16), Data((FEW,), rows=len(FEW))
    with isolated(0, torch.float32):
        structure = read_structure(model, FEW)
        pairing = pair(model, catalogue(model)[guide](model), guide, data, structure, "auto")
        steps, how = compiled_steps(
            pairing, Adam({"lr": 0.01}), data, Minibatches(structure.subsampled, 0), Schedule(1000)
        )
        assert steps is not None, how
        batch = steps.training.minibatches.draw(1)[0]
        loss, gradient = pyro_gradient(steps.training, batch)
        torch.manual_seed(0)
        got, *parts = steps.gradient(*steps.training.inputs(batch))
    assert float(got) == pytest.approx(loss, rel=1e-4)
    assert (joined(parts) - gradient).abs().max() <= 1e-3 * gradient.abs().max()


@pytest.mark.parametrize("decoder", ["linear", "mlp", "conv"])
@pytest.mark.parametrize("guide", [*OWN, "auto_normal"])
def test_pyros_own_svi_trains_every_pair(guide: str, decoder: Any) -> None:
    x = FEW.reshape(-1, 1, 8, 8)
    with isolated(0, torch.float32):
        model = VAE(2, decoder, "bernoulli", hidden=(16,))
        svi = SVI(model, catalogue(model)[guide](model), Adam({"lr": 0.01}), Trace_ELBO())
        losses = [svi.step(x) for _ in range(60)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


@pytest.mark.parametrize("guide", ["auto_normal", "auto_mvn"])
def test_an_autoguide_is_fitted_and_refuses_rows_it_has_not_seen(guide: str) -> None:
    fit = pyrometer.svi(VAE(2, "linear"), guide, FEW, steps=150, draws=5, progress=False)
    assert fit.posterior["z"].shape == (1, 5, 60, 2)
    with pytest.raises(InputError, match="has a q for each training row and for no other"):
        fit.encode(DIGITS[60:70])  # type: ignore[attr-defined]


def test_two_fits_start_alike_though_a_network_is_trained_in_place() -> None:
    network = nn.Linear(2, 64)
    before = network.weight.clone()
    one, other = (pyrometer.svi(VAE(2, network), "encoder", FEW, steps=120, draws=5, progress=False) for _ in range(2))
    np.testing.assert_array_equal(one.losses, other.losses)
    torch.testing.assert_close(network.weight, before)


def fails(message: str, call: Any) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_trained_is_refused_in_one_line() -> None:
    options: dict[str, Any] = {"steps": 5, "progress": False}
    fails(
        "likelihood wants entries within [0, 1], and x has 0 to 16: rescale it",
        lambda: pyrometer.svi(VAE(2, likelihood="bernoulli"), "encoder", DIGITS * 16, **options),
    )
    fails(
        "the decoder gives 9 numbers instead of 64",
        lambda: pyrometer.svi(VAE(2, nn.Linear(2, 9)), "encoder", FEW, **options),
    )
    fails("decoder='deep' is unknown: choose one of linear, mlp, conv", lambda: VAE(2, "deep"))  # type: ignore[arg-type]
    fails("latent=0 must be a whole number", lambda: VAE(0))
    fails("a convolution wants pictures", lambda: pyrometer.svi(VAE(2, "conv"), "encoder", FEW[:, :63], **options))


def test_nothing_is_left_in_pyros_store() -> None:
    pyro.clear_param_store()
    pyrometer.svi(VAE(2, "linear"), "encoder", FEW, steps=120, draws=5, progress=False)
    assert not list(pyro.get_param_store())


def test_a_step_of_an_earlier_fit_is_not_taken_for_another_decoder_or_another_guide() -> None:
    options: dict[str, Any] = {"steps": 120, "batch_size": 20, "draws": 2, "progress": False}
    decoder = pyrometer.svi(VAE(2, "mlp", "bernoulli", hidden=(16,)), "encoder", DIGITS[:60], **options)
    assert isinstance(decoder, RowFit)
    trained: Any = decoder.model
    frozen = trained.frozen()
    pyrometer.svi(frozen, "semi_amortized", DIGITS[:60], **options)  # whose compiled step is kept
    other = copy.deepcopy(frozen)
    next(iter(other.networks.values())).get_parameter("network.0.weight").data.mul_(1.0005)
    for model, guide in ((other, "semi_amortized"), (frozen, lambda model: SemiAmortized(model, rate=0.4999))):
        fast, slow = (pyrometer.svi(model, guide, DIGITS[:60], compile=how, **options) for how in ("auto", False))
        assert (fast.compiled, slow.compiled) == ("script", "eager")
        np.testing.assert_allclose(fast.losses[:5], slow.losses[:5], rtol=3e-7)


def test_a_guide_of_ones_own_is_fitted_and_says_what_it_lacks() -> None:
    layer = nn.Linear(64, 2)

    def guide(x: Tensor) -> None:
        pyro.module("layer", layer)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(layer(x), 0.5).to_event(1))

    fit = pyrometer.svi(VAE(2, "linear"), guide, DIGITS[:60], steps=200, draws=5, progress=False)
    assert isinstance(fit, RowFit)
    assert fit.compiled == "script"
    assert fit.losses[-10:].mean() < fit.losses[:10].mean()
    assert fit.posterior["z"].shape == (1, 5, 60, 2)
    with pytest.raises(InputError, match=r"guide .*guide does not tell its q\(z \| x\): give it a method posterior"):
        fit.encode()


def test_a_decoder_of_ones_own_is_a_module_from_z_to_rows() -> None:
    own = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 64))
    fit = pyrometer.svi(VAE(2, own, "bernoulli"), "encoder", DIGITS[:60], steps=200, draws=5, progress=False)
    assert fit.losses[-10:].mean() < fit.losses[:10].mean()
    with pytest.raises(InputError, match="the decoder gives 3 numbers instead of 64"):
        pyrometer.svi(VAE(2, nn.Linear(2, 3)), "encoder", DIGITS[:60], steps=2, progress=False)
