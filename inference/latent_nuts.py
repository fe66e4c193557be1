"""NUTS over the latent variables of chosen rows, given a frozen decoder: the yardstick of the guides."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
from torch import Tensor

from .chains import Plan, run_chains
from .convergence import ESS_PER_CHAIN, RHAT
from .data import Data
from .target import LogJoint, log_joint_of

__all__ = ["LatentDraws", "latent_nuts"]

AT_ONCE = 4  # rows in one run


class LatentDraws(NamedTuple):
    """z: (chains, draws, M, L). divergences: in the run that had the row, (M,)."""

    z: np.ndarray
    divergences: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Of the posterior: (M, L)."""
        return self.z.mean((0, 1))

    @property
    def sd(self) -> np.ndarray:
        """Of the posterior: (M, L)."""
        return self.z.std((0, 1))

    @property
    def rhat(self) -> np.ndarray:
        """The worst R-hat of a row: (M,)."""
        return az.rhat(az.convert_to_dataset({"z": self.z}))["z"].values.max(-1)

    @property
    def ess_bulk(self) -> np.ndarray:
        """The least bulk ESS of a row: (M,)."""
        return az.ess(az.convert_to_dataset({"z": self.z}), method="bulk")["z"].values.min(-1)

    @property
    def converged(self) -> np.ndarray:
        """Whether a row's chains are sound by the marks that any reference is held to: (M,)."""
        return (self.rhat <= RHAT) & (self.ess_bulk >= ESS_PER_CHAIN * len(self.z)) & (self.divergences == 0)


@dataclass(frozen=True)
class LatentProgram:
    """z_n ~ Normal(0, I), and a factor that makes the joint density log_joint(z, x), whatever its own prior is."""

    log_joint: LogJoint
    latent: int

    def __call__(self, x: Tensor) -> None:
        """x: (M, ...)."""
        prior = dist.Normal(x.new_zeros(self.latent), x.new_ones(())).to_event(1)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.factor("x", self.log_joint(z, x) - prior.log_prob(z))


def latent_nuts(
    model: Any,
    x: Tensor,
    latent: int,
    *,
    warmup: int = 300,
    draws: int = 500,
    chains: int = 4,
    seed: int = 0,
    jobs: int | None = None,
    rows_at_once: int = AT_ONCE,
    progress: bool = True,
) -> LatentDraws:
    """Draw z_n from p(z_n | x_n) by NUTS for each row of x (M, ...), a few rows in a run.

    model: has log_joint(z, x), or is that function. latent: the length of z. Rows are independent, so that rows in one
    run cost little more than one until their joint dimension shortens the steps. float64 rows and decoders are best.
    """
    program = LatentProgram(log_joint_of(model), latent)
    parts, divergences = [], []
    for number, rows in enumerate(x.split(rows_at_once)):
        plan = Plan(program, Data((rows,), rows=len(rows)), "nutpie", warmup, draws, seed + number * chains, 0.8)
        name = f"nuts, rows {number * rows_at_once + 1} to {number * rows_at_once + len(rows)} of {len(x)}"
        flat, stats, message, _ = run_chains(plan, chains, jobs or min(chains, os.cpu_count() or 1), name, progress)
        parts.append(flat.reshape(*flat.shape[:2], len(rows), latent))
        divergences += [stats["diverging"].sum()] * len(rows)
        if message:
            raise KeyboardInterrupt(message)
    return LatentDraws(np.concatenate(parts, 2), np.array(divergences))
