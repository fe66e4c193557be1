"""Parts of one's own, as the README has them: each is trained, and has its gaps and its log p(x) by annealing."""

from typing import Any

import numpy as np
import pyro.distributions as dist
import pyrometer
import pytest
from pyrometer.inference.local_latents.latent_nuts import LatentDraws
from pyrometer.inference.local_latents.marginal import Budget
from pyrometer.models import VAE
from torch import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")
X = pyrometer.datasets.pixels("digits")[:200]


def judged(model: VAE, guide: str = "encoder") -> Any:
    """A short training of it, after its gaps and log p(x) were found to be numbers in their order."""
    fit = pyrometer.train(model, guide, X, epochs=2, draws=2, progress=False)
    unused = LatentDraws(np.random.default_rng(0).normal(size=(2, 50, 1, 2)), np.zeros(1))
    gaps = fit.gaps([0], steps=20, nuts=unused, budget=Budget(500, 8, 32))
    assert gaps[["log_p", "elbo", "approximation_gap"]].notna().all(axis=None)
    assert (gaps["log_p"] > gaps["elbo"] - 5 * gaps["log_p_se"] - 5 * gaps["elbo_se"]).all()
    assert fit.marginal_likelihood(X[:2], ["ais"], chains=8, temperatures=32)["nats"].notna().all()
    return fit


def test_an_encoder_of_ones_own() -> None:
    encoder = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 2 * 2))  # locations, then unconstrained scales
    fit = judged(VAE(2, hidden=(16,), encoder=encoder))
    assert isinstance(fit.guide.network[1], nn.Tanh)


def test_a_decoder_of_ones_own() -> None:
    decoder = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 64))
    fit = judged(VAE(2, decoder, hidden=(16,)))
    assert isinstance(fit.model.network(fit.data.values).network[1], nn.Tanh)


def test_a_prior_of_ones_own() -> None:
    def heavy_tails(x: Tensor) -> dist.TorchDistribution:  # p(z), in the dtype and on the device of x
        return dist.StudentT(x.new_full((2,), 4.0)).to_event(1)

    fit = judged(VAE(2, hidden=(16,), prior=heavy_tails))
    assert isinstance(fit.model.p_z(fit.data.values).base_dist, dist.StudentT)


def test_a_subclass_of_ones_own() -> None:
    class LaplaceVAE(VAE):  # p(x | z) of one's own; the program, the guides and the gaps follow
        def likelihood_of(self, x: Tensor, z: Tensor) -> dist.TorchDistribution:
            means = self.network(x)(z).mean
            return dist.Laplace(means, 0.1).to_event(means.dim() - z.dim() + 1)

    fit = judged(LaplaceVAE(2, hidden=(16,)), "encoder_full")
    assert isinstance(fit.model.likelihood_of(fit.data.values[:1], Tensor([[0.0, 0.0]])).base_dist, dist.Laplace)
