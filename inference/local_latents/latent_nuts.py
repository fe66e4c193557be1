"""NUTS over the latent variables of chosen rows, the params as they are: what the guides are held to."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
from pyro import poutine
from torch import Tensor

from ..data.data import Data
from ..density.log_density import Density
from ..density.row_density import RowDensity
from ..fit.convergence import ESS_PER_CHAIN, RHAT
from ..mcmc.chains import Plan, run_chains
from ..runtime.arviz import ess, rhat


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
        return rhat(self.z).max(-1)

    @property
    def ess_bulk(self) -> np.ndarray:
        """The least bulk ESS of a row: (M,)."""
        return ess(self.z).min(-1)

    @property
    def converged(self) -> np.ndarray:
        """Whether a row's chains are sound by the thresholds that any reference must meet: (M,)."""
        return (self.rhat <= RHAT) & (self.ess_bulk >= ESS_PER_CHAIN * len(self.z)) & (self.divergences == 0)


@dataclass(frozen=True)
class LatentProgram:
    """z_n ~ Normal(0, I), and a factor that makes the joint density that of the rows, whatever their own prior is."""

    density: RowDensity

    def __call__(self, like: Tensor) -> None:
        """like: (M,), in the dtype of the data."""
        prior = dist.Normal(like.new_zeros(self.density.latent), like.new_ones(())).to_event(1)
        rows = pyro.plate("data", len(like))
        with rows:
            z = pyro.sample("z", prior)
        with poutine.block():  # the sites of the model itself
            log_joint = self.density.log_joint(z)
        with rows:
            pyro.factor("x", log_joint - prior.log_prob(z))

    @property
    def data(self) -> Data:
        """What it is called with."""
        data = self.density.data
        rows = data.rows or 0
        return Data((data.like.new_zeros(rows),), rows=rows, mixed=data.mixed)


def latent_nuts(
    density: RowDensity,
    *,
    warmup: int = 300,
    draws: int = 500,
    chains: int = 4,
    seed: int = 0,
    jobs: int | None = None,
    rows_at_once: int = 4,
    progress: bool = True,
) -> LatentDraws:
    """Draw z_n from p(z_n | x_n) by NUTS for each row, a few rows in a run.

    Rows are independent, so that rows in one run cost little more than one until their joint dimension shortens the
    steps. float64 rows and decoders are best.
    """
    number = density.data.rows or 0
    parts, divergences = [], []
    for start in range(0, number, rows_at_once):
        end = min(start + rows_at_once, number)
        program = LatentProgram(density.take(slice(start, end)))
        at = seed + start // rows_at_once * chains
        plan = Plan(Density(program, program.data), "nutpie", warmup, draws, at)
        name = f"nuts, rows {start + 1} to {end} of {number}"
        flat, stats, message, _ = run_chains(plan, chains, jobs, name, progress)
        parts.append(flat.reshape(*flat.shape[:2], end - start, density.latent))
        divergences += [stats["diverging"].sum()] * (end - start)
        if message:
            raise KeyboardInterrupt(message)
    return LatentDraws(np.concatenate(parts, 2), np.array(divergences))
