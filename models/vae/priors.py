"""Priors p(z) of a latent vector that are learned with the decoder: a mixture, VampPrior, a flow.

Each is a module that gives a Distribution over z, batch (), event (L,), in whatever place a user's own may stand.
"""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import AffineCoupling, Permute
from pyro.nn import DenseNN
from torch import Tensor, nn
from torch.nn.functional import softplus

from ...errors import InputError

__all__ = ["Flow", "Mixture", "Prior", "Vamp", "check_prior"]

Prior = Literal["normal", "mixture", "vamp", "flow"]

SMALLEST = 1e-2  # standard deviation of a component: below it a likelihood has no maximum
WIDE = 0.541  # softplus of it is 1


class Mixture(nn.Module):
    """p(z) = sum_k weights_k Normal(z | locs_k, diag(scales_k^2)), weights, locations and scales learned."""

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.locs = nn.Parameter(torch.randn(components, latent))
        self.free_scales = nn.Parameter(torch.full((components, latent), WIDE))

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        """p(z); x is not looked at."""
        scales = SMALLEST + softplus(self.free_scales)
        return _mixture(self.logits, self.locs, scales)


class Vamp(nn.Module):
    """p(z) = sum_k weights_k q(z | u_k), q the diagonal normal of an encoder, u_k rows that are learned.

    Tomczak and Welling (2018), eq. 11. encoder: rows -> location and unconstrained scale, the first 2 L of its numbers;
    a guide that takes as many shares it. x: (N, ...) rows, of which the u_k are drawn at the start.
    """

    def __init__(self, latent: int, encoder: nn.Module, x: Tensor, components: int) -> None:
        super().__init__()
        self.latent, self.encoder = latent, encoder
        self.logits = nn.Parameter(torch.zeros(components))
        self.rows = nn.Parameter(x[torch.randint(len(x), (components,))].clone())

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        """p(z); x is not looked at."""
        loc, free = self.encoder(self.rows)[:, : 2 * self.latent].chunk(2, -1)
        return _mixture(self.logits, loc, SMALLEST + softplus(free))


class Flow(nn.Module):
    """A standard normal bent by affine couplings (RealNVP, Dinh, Sohl-Dickstein and Bengio 2017)."""

    def __init__(self, latent: int, couplings: int = 4, hidden: int = 64) -> None:
        super().__init__()
        if latent < 2:
            raise InputError("a flow prior couples entries of z, and latent=1 has none to couple: choose mixture")
        self.latent, self.split = latent, latent // 2
        sizes = [latent - self.split, latent - self.split]
        self.networks = nn.ModuleList(DenseNN(self.split, [hidden], sizes) for _ in range(couplings))

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        """p(z), in the dtype and on the device of x."""
        bends: list[torch.distributions.Transform] = []
        for network in self.networks:  # anew each time: a transform holds on to its last draw
            bends += [AffineCoupling(self.split, network), Permute(torch.arange(self.latent - 1, -1, -1))]
        return dist.TransformedDistribution(dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1), bends)


def _mixture(logits: Tensor, locs: Tensor, scales: Tensor) -> dist.TorchDistribution:
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(locs, scales).to_event(1))


def check_prior(fn: object, latent: int) -> None:
    """Refuse what a user's prior gives where it is no Distribution over z."""
    if not isinstance(fn, torch.distributions.Distribution):
        raise InputError(f"the prior gives a {type(fn).__name__}: it needs a Distribution over z, event ({latent},)")
    if tuple(fn.event_shape) != (latent,) or tuple(fn.batch_shape):
        found = f"batch {tuple(fn.batch_shape)}, event {tuple(fn.event_shape)}"
        raise InputError(f"the prior gives {found}: z needs batch (), event ({latent},); see to_event")
