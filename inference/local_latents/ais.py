"""Annealed importance sampling: HMC carries draws from a simple start to the posterior, row by row.

The geometric path (Neal 2001) is log f_b(z) = (1 - b) log q_0(z) + b log p(x, z). With z_t drawn by a kernel that
leaves f_{b_t} as it is, w = exp(sum_t (b_t - b_{t-1}) (log p(x, z_{t-1}) - log q_0(z_{t-1}))) has mean p(x), however
badly the kernel mixes. Step sizes are adapted in a run of their own and then frozen: adapting them to the draws they
move would spoil the mean. Temperatures are few to begin with, and more for the rows whose error asks for more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from ..compilation.compiled import compiled
from ..runtime.isolation import one_thread_if_small

LogJoint: TypeAlias = Callable[[Tensor], Tensor]  # log p(x, z) of rows, z (..., M, L) -> (..., M)

FEWEST = 16  # temperatures of the first run
STEEPNESS = 4.0  # of the schedule (Wu et al. 2017): small steps at both ends
ACCEPT, GAIN = 0.8, 0.5  # the acceptance aimed at, and how fast log step sizes follow
PILOT_CHAINS, PILOT_TEMPERATURES = 8, 16
PILOT_TRANSITIONS, SETTLING = 4, 16  # at each temperature, and before the first
NO_SPREAD = 1e-6  # nats, for a start that is the posterior
UNITS = 64  # of a network's layer, about: numbers at once, for a point
JITTER = 0.2  # of the step size, against orbits that close


@dataclass(frozen=True)
class Budget:
    """What an estimator may spend on a row: draws of importance sampling; chains, temperatures, leapfrogs of AIS.

    Of the temperatures AIS takes no more than the standard error of a row asks for: `error`, nats; 0 takes them all.
    """

    draws: int = 5000
    chains: int = 16
    temperatures: int = 500
    leapfrogs: int = 3
    error: float = 0.1


class Annealed(NamedTuple):
    """log_weights: (chains, M), float64. z: where the chains ended, draws of the posterior by these weights."""

    log_weights: Tensor
    z: Tensor


class Point(NamedTuple):
    """z (C, M, L), the two log densities (C, M) there, and their gradients (C, M, L)."""

    z: Tensor
    log_start: Tensor
    log_joint: Tensor
    grad_start: Tensor
    grad_joint: Tensor

    def log_density(self, beta: float) -> Tensor:
        """log f_beta: (C, M)."""
        return (1 - beta) * self.log_start + beta * self.log_joint

    def gradient(self, beta: float) -> Tensor:
        """Of log f_beta with respect to z: (C, M, L)."""
        return (1 - beta) * self.grad_start + beta * self.grad_joint


@dataclass(frozen=True)
class Path:
    """From a start to p(x, z), `leapfrogs` steps a transition.

    densities: the two log densities and their gradients, as `densities_at` has them. scale: the rough size of each
    latent, (M, L), by which step sizes are multiplied.
    """

    densities: Callable[[Tensor], tuple[Tensor, ...]]
    scale: Tensor
    leapfrogs: int

    def at(self, z: Tensor) -> Point:
        """Densities and gradients at z (C, M, L)."""
        return Point(z, *self.densities(z))

    def moved(self, point: Point, beta: float, step: Tensor) -> tuple[Point, Tensor]:
        """One HMC transition at beta, step (M,): the next point, and the acceptance probability (C, M)."""
        noise = torch.rand_like(point.log_start)
        size = (step * (1 + JITTER * (2 * noise - 1))).unsqueeze(-1) * self.scale
        momentum = torch.randn_like(point.z)
        proposal, end = self._leapfrog(point, momentum, beta, size)
        gain = proposal.log_density(beta) - point.log_density(beta)
        gain = gain + 0.5 * (momentum.square() - end.square()).sum(-1)
        accept = gain.nan_to_num(nan=-torch.inf).clamp(max=0).exp()
        taken = torch.rand_like(accept) < accept
        pairs = zip(proposal, point, strict=True)
        kept = (torch.where(taken if a.dim() == 2 else taken.unsqueeze(-1), a, b) for a, b in pairs)
        return Point(*kept), accept

    def _leapfrog(self, point: Point, momentum: Tensor, beta: float, size: Tensor) -> tuple[Point, Tensor]:
        momentum = momentum + 0.5 * size * point.gradient(beta)
        for left in reversed(range(self.leapfrogs)):
            point = self.at(point.z + size * momentum)
            momentum = momentum + (size if left else 0.5 * size) * point.gradient(beta)
        return point, momentum


def schedule(temperatures: int) -> list[float]:
    """0 = b_0 < ... < b_T = 1, a sigmoid (Wu et al. 2017, section 5)."""
    sigmoid = torch.linspace(-STEEPNESS, STEEPNESS, temperatures + 1, dtype=torch.float64).sigmoid()
    return ((sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])).tolist()


class Pilot(NamedTuple):
    """What chains that are then forgotten have found at some temperatures.

    betas: (T + 1,), from 0 to 1. steps: the step size at each but the first, (T, M). length: the integral from 0 to
    each of the standard deviation of log p(x, z) - log q_0(z), its root mean square over rows: (T + 1,).
    """

    betas: np.ndarray
    steps: Tensor
    length: np.ndarray

    def schedule(self, temperatures: int) -> list[float]:
        """So many temperatures at equal lengths, where the variance of log weights is least (Gelman and Meng 1998)."""
        return np.interp(np.linspace(0, self.length[-1], temperatures + 1), self.length, self.betas).tolist()

    def step(self, beta: float) -> Tensor:
        """The step size at a temperature: (M,)."""
        return self.steps[int(np.searchsorted(self.betas[1:-1], beta))]


def pilot(log_joint: LogJoint, start: Distribution, budget: Budget) -> Pilot:
    """A run through few temperatures, several transitions at each: step sizes of each row, and where to go slow."""
    path, z = _path(log_joint, start, budget, PILOT_CHAINS)
    point, betas = path.at(z), schedule(PILOT_TEMPERATURES)
    step, steps, spreads = path.scale.new_full((len(path.scale),), 0.5), [], [_spread([point])]
    for beta in betas[1:2] * (SETTLING // PILOT_TRANSITIONS) + betas[1:]:
        points = []
        for _ in range(PILOT_TRANSITIONS):
            point, accept = path.moved(point, beta, step)
            step = step * (GAIN * (accept.mean(0) - ACCEPT)).exp()
            points.append(point)
        steps.append(step)
        spreads.append(_spread(points[len(points) // 2 :]))
    spread = np.array([spreads[0], *spreads[-PILOT_TEMPERATURES:]])
    length = np.concatenate([[0.0], np.cumsum(np.diff(betas) * (spread[1:] + spread[:-1]) / 2)])
    return Pilot(np.array(betas), torch.stack(steps[-PILOT_TEMPERATURES:]), length)


def _spread(points: Sequence[Point]) -> float:
    """The standard deviation of log p(x, z) - log q_0(z) over chains, its root mean square over rows."""
    differences = torch.cat([point.log_joint - point.log_start for point in points])
    return float(differences.var(0).nan_to_num(0.0, posinf=0.0).mean().sqrt()) + NO_SPREAD


def anneal(log_joint: LogJoint, start: Distribution, budget: Budget, found: Pilot, temperatures: int) -> Annealed:
    """Unbiased weights for p(x) of each row by annealed importance sampling (Neal 2001; Wu et al. 2017).

    log_joint: log p(x, z) of rows, z (..., M, L) -> (..., M). start: batch (M,), event (L,); the prior, or a guide.
    found: by `pilot` from that start.
    """
    with one_thread_if_small(UNITS * budget.chains * start.batch_shape.numel()):
        return _annealed(log_joint, start, budget, found.schedule(temperatures), found.step)


def _annealed(
    log_joint: LogJoint, start: Distribution, budget: Budget, betas: list[float], step: Callable[[float], Tensor]
) -> Annealed:
    path, z = _path(log_joint, start, budget, budget.chains)
    point = path.at(z)
    log_weights = torch.zeros_like(point.log_joint, dtype=torch.float64)
    for before, beta in pairwise(betas):
        log_weights += (beta - before) * (point.log_joint - point.log_start).double()
        point, _ = path.moved(point, beta, step(beta))
    return Annealed(log_weights, point.z)


def _path(log_joint: LogJoint, start: Distribution, budget: Budget, chains: int) -> tuple[Path, Tensor]:
    """The path from a start, and draws of it to begin at: (chains, M, L)."""
    scale, z = start.sample(Size((64,))).std(0), start.sample(Size((chains,)))
    return Path(densities_at(z, log_joint, start), scale, budget.leapfrogs), z


def densities_at(z: Tensor, log_joint: LogJoint, start: Distribution) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """log q_0 and log p(x, z), then their gradients, as a function that is fast for points of the shape of z."""

    def eager(z: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            values = start.log_prob(z), log_joint(z)
            gradients = [torch.autograd.grad(value.sum(), z)[0] for value in values]
        return *(value.detach() for value in values), *gradients

    eager(z)  # what a trace of the model says is known from here on
    return compiled(eager, z, 0.5 * z + 0.1)[0]
