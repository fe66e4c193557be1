"""Priors that are learned, and one's own: log p(x) by two roads, the shares of clusters, and what does not fit."""

from typing import Any

import numpy as np
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.inference.local_latents.marginal import Budget, estimate
from pyrometer.models import VAE
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")

CLUSTERS = torch.tensor([[0.0, 6.0], [6.0, 0.0], [-6.0, -6.0]])


def clustered(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a linear map of three clusters in the plane, and which one each is of."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (rows,), generator=generator)
    z = CLUSTERS[labels] / 4 + 0.2 * torch.randn(rows, 2, generator=generator)
    x = z @ torch.randn(2, 8, generator=generator) + 0.2 * torch.randn(rows, 8, generator=generator)
    return x.numpy(), labels.numpy()


@pytest.mark.parametrize("prior", ["mixture", "vamp", pytest.param("flow", marks=pytest.mark.slow)])
def test_importance_sampling_and_annealing_from_the_learned_prior_agree(prior: Any) -> None:
    fit = pyrometer.train(VAE(2, hidden=(20,), prior=prior), "encoder", clustered()[0], epochs=25, progress=False)
    target = fit.target().take(slice(8))
    found = [estimate(target, how, Budget(5000, 60, 300)) for how in ("importance", "ais")]
    apart = float((found[0].value - found[1].value).mean())
    error = float(np.sqrt(sum((each.se**2).sum() for each in found))) / 8
    assert abs(apart) < 5 * error < 0.5


def test_a_learned_prior_is_better_than_a_normal_one_where_rows_come_in_clusters() -> None:
    x, _ = clustered()
    fits = [pyrometer.train(VAE(2, "linear", prior=prior), "encoder", x, epochs=60, progress=False)
            for prior in ("normal", "mixture")]  # fmt: skip
    normal, mixture = (fit.log_likelihood(draws=100)["estimate"].mean() for fit in fits)
    assert mixture > normal + 0.2


def test_the_density_of_a_prior_is_what_its_draws_have() -> None:
    """The mean of p(z) / r(z) over draws of r is 1, r a wide normal: every learned prior is normalised."""
    x = torch.randn(50, 6, dtype=torch.float64)
    wide = dist.Normal(torch.zeros(2, dtype=torch.float64), 4.0).to_event(1)
    for prior in ("mixture", "vamp", "flow"):
        torch.manual_seed(0)
        p_z = VAE(2, hidden=(8,), prior=prior).p_z(x)
        z = wide.sample(torch.Size((200_000,)))
        ratio = (p_z.log_prob(z) - wide.log_prob(z)).exp()
        assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / 200_000**0.5


def test_what_does_not_fit_is_refused_in_one_line_that_says_what_was_found_and_what_is_needed() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6))

    def refused(message: str, **options: Any) -> None:
        with pytest.raises(InputError) as caught:
            pyrometer.train(VAE(2, **options), "encoder", x, epochs=1, progress=False)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(
        "the prior gives batch (2,), event (): z needs batch (), event (2,)", prior=lambda x: dist.Normal(x[0, :2], 1)
    )
    wrong = nn.Linear(6, 3)
    refused("the encoder gives shape (16, 3) for 16 rows, and the guide needs (16, 4)", encoder=wrong)
    refused("prior='gmm' is unknown: choose one of normal, mixture, vamp, flow", prior="gmm")
    refused("the prior gives a Tensor: it needs a Distribution over z", prior=lambda x: x)
    with pytest.raises(InputError, match=r"beta=0 must be a number above 0"):
        VAE(2, beta=0)


def test_beta_weighs_the_divergence_in_training_and_nothing_after_it() -> None:
    x, _ = clustered()
    options: dict[str, Any] = {"epochs": 12, "draws": 20, "progress": False}
    plain, heavy = (pyrometer.train(VAE(2, hidden=(20,), beta=beta), "encoder", x, **options) for beta in (1.0, 20.0))
    eager = pyrometer.train(VAE(2, hidden=(20,), beta=20.0), "encoder", x, compile=False, **options)
    np.testing.assert_allclose(heavy.losses[:30], eager.losses[:30], rtol=1e-4)
    assert heavy.losses[0] > plain.losses[0]
    q = [fit.target().q for fit in (plain, heavy)]
    prior = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    divergence = [float((each.log_prob(z := each.sample((99,))) - prior.log_prob(z)).mean()) for each in q]
    assert divergence[1] < divergence[0] / 2
    bound = heavy.log_likelihood(method="elbo", draws=200)["estimate"].sum()
    assert heavy.elbo_draws.mean() == pytest.approx(bound, abs=5 * float(heavy.elbo_draws.std()) / 20**0.5 + 2)
