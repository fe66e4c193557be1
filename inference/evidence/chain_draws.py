"""The draws of Markov chains, half by half: one half says where the posterior lies, the other what it weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ..compilation.batched import over_draws
from ..density.log_density import Density
from ..fit.fit import Fit

MIN_DRAWS = 20  # of each chain


@dataclass(frozen=True)
class ChainDraws:
    """Draws of the model's continuous sites, chains end to end: name -> (S, ...)."""

    sites: dict[str, Tensor]
    chains: int

    def __len__(self) -> int:
        return len(next(iter(self.sites.values())))

    def flat(self, density: Density) -> Tensor:
        """In unconstrained space: (S, dim)."""
        return density.unconstrain(self.sites)


def halves(fit: Fit, asks: str) -> tuple[ChainDraws, ChainDraws]:
    """The first and the second half of every chain. asks: who wants them, for the message of an InputError."""
    if not fit.is_mcmc:
        raise InputError(f"fit {fit.name} holds no Markov chains: {asks} takes a fit of nuts")
    chains, draws = fit.posterior.sizes["chain"], fit.posterior.sizes["draw"]
    if draws < MIN_DRAWS:
        raise InputError(f"fit {fit.name} has {draws} draws a chain, and {asks} takes {MIN_DRAWS} or more: draw more")
    latent = {site.name for site in fit.structure.latent}
    by_chain = {name: value.unflatten(0, (chains, draws)) for name, value in fit.sites().items() if name in latent}
    half = draws // 2
    first, second = (
        ChainDraws({name: value[:, part].flatten(0, 1) for name, value in by_chain.items()}, chains)
        for part in (slice(half), slice(half, 2 * half))
    )
    return first, second


def log_joints(density: Density, sites: Mapping[str, Tensor]) -> Tensor:
    """log p(x, theta) of each draw, nats: (S,). Minus infinity where it cannot be computed, far out in the tails."""
    try:
        found = over_draws(density.of_data("log_joint"), sites, density.chunk())
    except (RuntimeError, ValueError):  # a matrix that has no Cholesky factor, say
        number = len(next(iter(sites.values())))
        found = torch.stack(
            [_or_none(density, {name: value[i] for name, value in sites.items()}) for i in range(number)]
        )
    return torch.where(found.isnan(), -math.inf, found)


def _or_none(density: Density, sites: Mapping[str, Tensor]) -> Tensor:
    try:
        return density.log_joint(sites)
    except (RuntimeError, ValueError):
        return density.data.like.new_tensor(-math.inf)
