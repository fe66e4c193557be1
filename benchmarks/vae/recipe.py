"""Held-out ELBO of a VAE on binarised pictures of 28 by 28, beside the recipe of Pyro's own VAE example.

Both have layers 784-400-20-400-784, the same pictures and as many epochs; ours are the defaults of `train`, theirs are
examples/vae/vae.py of Pyro: softplus layers, batches of 256, Adam at 1e-3, Trace_ELBO. The pictures are the digits of
scikit-learn, blown up and made black or white once. Nats a row, higher is better, three seeds.
"""

from __future__ import annotations

import sys

import pyro
import pyro.distributions as dist
import pyrometer
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from pyrometer.models import VAE
from torch import Tensor, nn

SIDE, LATENT, HIDDEN, BATCH, LR, HELD_OUT, SEEDS = 28, 20, 400, 256, 1e-3, 300, (0, 1, 2)


def pictures() -> Tensor:
    """Black and white: (1797, 784)."""
    small = torch.tensor(pyrometer.datasets.pixels("digits").to_numpy(), dtype=torch.float32).reshape(-1, 1, 8, 8)
    grey = torch.nn.functional.interpolate(small, (SIDE, SIDE), mode="bilinear").flatten(1)
    return torch.bernoulli(grey, generator=torch.Generator().manual_seed(0))


class Recipe(nn.Module):
    """The example's encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(SIDE**2, HIDDEN), nn.Softplus())
        self.loc, self.log_scale = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, SIDE**2))

    def model(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            features = self.features(x)
            pyro.sample("z", dist.Normal(self.loc(features), self.log_scale(features).exp()).to_event(1))


def theirs(x: Tensor, x_test: Tensor, epochs: int, seed: int) -> float:
    """The held-out ELBO of Pyro's recipe, nats a row."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    vae = Recipe()
    svi = SVI(vae.model, vae.guide, Adam({"lr": LR}), Trace_ELBO())
    best = -torch.inf
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            svi.step(x[rows])
        best = max(best, -svi.evaluate_loss(x_test) / len(x_test))  # the best epoch counts, as it does for ours
    return best


def ours(x: Tensor, x_test: Tensor, epochs: int, seed: int) -> float:
    """That of `train`, untouched but for the epochs."""
    model = VAE(LATENT, "mlp", "bernoulli", (HIDDEN,))
    fit = pyrometer.train(model, "encoder", x, x_test=x_test, epochs=epochs, draws=2, seed=seed, progress=False)
    return -float(fit.test_losses.min())


if __name__ == "__main__":
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    x = pictures()
    for seed in SEEDS:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        parts = x[order[HELD_OUT:]], x[order[:HELD_OUT]]
        print(f"seed {seed}: ours {ours(*parts, epochs, seed):.2f}, Pyro's recipe {theirs(*parts, epochs, seed):.2f}")
