"""Families of q(z) by their parameters: how many they take for a row, and the distribution those give."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ...models.vae.networks import SMALLEST_OF_Q

__all__ = ["Family", "diagonal", "full", "low_rank"]


@dataclass(frozen=True)
class Family:
    """numbers: of parameters a row, of latent size L. q: parameters (..., numbers) -> batch (...), event (L,)."""

    numbers: Callable[[int], int]
    q: Callable[[Tensor, int], dist.TorchDistribution]


def _scale(free: Tensor) -> Tensor:
    return SMALLEST_OF_Q + softplus(free)


def _diagonal(free: Tensor, latent: int) -> dist.TorchDistribution:
    loc, scale = free.split(latent, -1)
    return dist.Normal(loc, _scale(scale)).to_event(1)


def _full(free: Tensor, latent: int) -> dist.TorchDistribution:
    loc, scale, below = free.split([latent, latent, latent * (latent - 1) // 2], -1)
    rows, columns = torch.tril_indices(latent, latent, -1, device=free.device)
    flat = torch.zeros(*free.shape[:-1], latent * latent, dtype=free.dtype, device=free.device)
    tril = flat.index_add(-1, rows * latent + columns, below).unflatten(-1, (latent, latent))
    return dist.MultivariateNormal(loc, scale_tril=tril + torch.diag_embed(_scale(scale)))


def _low_rank(free: Tensor, latent: int, rank: int) -> dist.TorchDistribution:
    loc, scale, factor = free.split([latent, latent, rank * latent], -1)
    return dist.LowRankMultivariateNormal(loc, factor.unflatten(-1, (latent, rank)), _scale(scale).square())


def diagonal() -> Family:
    """Independent normals."""
    return Family(lambda latent: 2 * latent, _diagonal)


def full() -> Family:
    """A normal of any covariance."""
    return Family(lambda latent: 2 * latent + latent * (latent - 1) // 2, _full)


def low_rank(rank: int = 2) -> Family:
    """A normal whose covariance is a diagonal and a factor of that rank."""
    return Family(lambda latent: (2 + rank) * latent, lambda free, latent: _low_rank(free, latent, rank))
