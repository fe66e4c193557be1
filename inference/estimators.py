"""Estimators of log p(x) a row, each within a budget: from the prior, from the guide, and by annealing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Size, Tensor

from .ais import anneal
from .estimate import Estimate, bound, log_mean
from .target import Target

__all__ = ["METHODS", "USUAL", "Budget", "Method", "log_weights"]


@dataclass(frozen=True)
class Budget:
    """What an estimator may spend on a row: draws of importance sampling; chains, temperatures, leapfrogs of AIS."""

    draws: int = 5000
    chains: int = 16
    temperatures: int = 500
    leapfrogs: int = 5


Method: TypeAlias = Callable[[Target, Budget], Estimate]


def log_weights(target: Target, draws: int, proposal: str = "guide") -> Tensor:
    """log p(x, z) - log q(z), z ~ q, which is the guide or the prior; their exponentials have mean p(x): (draws, M)."""
    q = target.q if proposal == "guide" else target.prior
    parts = []
    with torch.no_grad():
        for number in target.draws_at_once(draws):
            z = q.sample(Size((number,)))
            parts.append((target.log_joint(z, target.x) - q.log_prob(z)).double())
    return torch.cat(parts)


def naive(target: Target, budget: Budget) -> Estimate:
    """log mean_s p(x | z_s), z_s from the prior. Few draws land where p(x | z) is not nil: hence its variance."""
    return log_mean(log_weights(target, budget.draws, "prior"))


def importance(target: Target, budget: Budget) -> Estimate:
    """log mean_s p(x, z_s) / q(z_s | x), z_s from the guide."""
    return log_mean(log_weights(target, budget.draws))


def iwae(target: Target, budget: Budget, k: int) -> Estimate:
    """The bound of k draws, averaged over as many groups as the draws make, two at least; k = 1 is the ELBO."""
    return bound(log_weights(target, max(budget.draws, 2 * k)), k)


def ais(target: Target, budget: Budget, start: str = "prior") -> Estimate:
    """Annealed importance sampling from the prior, or from the guide."""
    first = target.prior if start == "prior" else target.q
    settings = {"chains": budget.chains, "temperatures": budget.temperatures, "leapfrogs": budget.leapfrogs}
    return log_mean(anneal(target.log_joint, first, target.x, **settings).log_weights)


METHODS: dict[str, Method] = {
    "naive": naive,
    "elbo": partial(iwae, k=1),
    "iwae_5": partial(iwae, k=5),
    "iwae_50": partial(iwae, k=50),
    "iwae_500": partial(iwae, k=500),
    "importance": importance,
    "ais": ais,
    "ais_guide": partial(ais, start="guide"),
}
USUAL = tuple(name for name in METHODS if name != "ais_guide")
