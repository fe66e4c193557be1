"""Coordinate ascent: evaluate and update in turn until the objective settles, from several starts, the best kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import std

from ...errors import InputError, check_positive
from ..runtime.progress import progress_bar

__all__ = ["Ascent", "Objective", "Restart", "StoppingRule", "best_ascent", "check_responsibilities", "check_sizes"]

S = TypeVar("S")
E = TypeVar("E")
ROUNDING = 1e-10  # a relative decrease that rounding explains


class StoppingRule(NamedTuple):
    """After so many steps, or where the objective changes by less than tol times itself."""

    max_steps: int
    tol: float


class Restart(Exception):
    """Raised by an update that had to move the state by hand: the objective starts anew from there."""

    def __init__(self, state: object) -> None:
        self.state = state


@dataclass(frozen=True)
class Objective(Generic[S, E]):
    """evaluate: state -> (objective in nats, what the update needs). update: that -> the next state.

    notes: what an update has to say to the user.
    """

    evaluate: Callable[[S], tuple[float, E]]
    update: Callable[[E], S]
    notes: list[str] = field(default_factory=list)


class Updates(Protocol[S, E]):
    """The updates of one mixture on one data set, as its starts: each a first state and the objective from there."""

    def from_kmeans(self, seed: int, clusters: int) -> tuple[S, Objective[S, E]]:
        """A start at so many clusters of k-means++."""

    def from_responsibilities(self, seed: int, responsibilities: Tensor) -> tuple[S, Objective[S, E]]:
        """A start at responsibilities (N, K)."""


@dataclass(frozen=True)
class Ascent(Generic[S]):
    """Where a start ended. values: the objective of each step, nats. state: the one that has the last of them.

    steps: work done, those before a restart included. message: empty if it converged undisturbed. start_losses: minus
    the objective of every start, nats, infinite where refused; known of the best start alone.
    """

    state: S
    values: tuple[float, ...]
    steps: int
    message: str
    start_losses: np.ndarray = field(default_factory=lambda: np.zeros(0))


def ascend(first: S, objective: Objective[S, E], stop: StoppingRule, bar: std.tqdm) -> Ascent[S]:
    """Evaluate and update until the objective settles. A fall within rounding ends it, at the state before."""
    state, previous, step = first, first, 0
    values: list[float] = []

    def end(state: S, settled: bool) -> Ascent[S]:
        late = [] if settled or stop.tol == 0 else [f"not converged in {stop.max_steps} steps"]
        return Ascent(state, tuple(values), step, "; ".join([*objective.notes, *late]))

    while True:
        value, evidence = objective.evaluate(state)
        step += 1
        if not math.isfinite(value):
            raise InputError(
                f"the objective became {value} at step {step}: try another start, or standardise the columns"
            )
        if values and -ROUNDING * max(1.0, abs(value)) <= value - values[-1] < 0:
            return end(previous, True)
        values.append(value)
        bar.update()
        bar.set_postfix(elbo=f"{value:.2f}", refresh=False)
        if len(values) > 1 and abs(value - values[-2]) < stop.tol * max(1.0, abs(value)):
            return end(state, True)
        if step == stop.max_steps:
            return end(state, False)
        previous = state
        try:
            state = objective.update(evidence)
        except Restart as restart:
            state, values = restart.state, []  # type: ignore[assignment]


def best_ascent(
    updates: Updates[S, E],
    clusters: Sequence[int],
    responsibilities: Tensor | None,
    seed: int,
    stop: StoppingRule,
    name: str,
    progress: bool,
) -> Ascent[S]:
    """The best of several starts, each run to its end.

    clusters: of each start from k-means++. responsibilities: the one start in their place, where given. Raises
    InputError where every start is refused: the reason of the last.
    """
    if responsibilities is None:
        starts = [partial(updates.from_kmeans, seed + 1000 * number, k) for number, k in enumerate(clusters)]
    else:
        starts = [partial(updates.from_responsibilities, seed, responsibilities)]
    best: Ascent[S] | None = None
    losses, refusal = [], InputError(f"{name}: there is no start")
    with progress_bar(len(starts) * stop.max_steps, name, progress) as bar:
        for number, start in enumerate(starts):
            try:
                end = ascend(*start(), stop, bar)
            except InputError as error:
                refusal = error
                losses.append(math.inf)
                continue
            losses.append(-end.values[-1])
            best = end if best is None or end.values[-1] > best.values[-1] else best
            bar.update((number + 1) * stop.max_steps - bar.n)
    if best is None:
        raise refusal
    return replace(best, start_losses=np.array(losses))


def check_sizes(max_steps: int, tol: float, starts: int, draws: int = 1) -> None:
    """Refuse sizes that are not whole and positive, and a negative or missing tolerance."""
    check_positive(max_steps=max_steps, starts=starts, draws=draws)
    if not 0 <= tol < 1:
        raise InputError(f"tol={tol!r} must be 0 or more, and below 1")


def check_responsibilities(responsibilities: object, rows: int, components: int) -> Tensor | None:
    """Responsibilities that are given as a start, float64 (N, K); refused unless each row is a distribution."""
    if responsibilities is None:
        return None
    try:
        given = torch.as_tensor(np.asarray(responsibilities), dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise InputError("responsibilities are no numbers: give an array (N, K), each row summing to 1") from error
    if given.shape != (rows, components):
        shape = f"shape {tuple(given.shape)}, not ({rows}, {components})"
        raise InputError(f"responsibilities have {shape}: give a row for each row of x and a column for each component")
    odd = ~((given >= 0).all(1) & ((given.sum(1) - 1).abs() < 1e-6))
    if odd.any():
        row = int(odd.nonzero()[0])
        what = f"responsibilities, row {row}: {[round(v, 4) for v in given[row].tolist()]} is not a distribution"
        raise InputError(f"{what}; give numbers of 0 or more that sum to 1")
    return given
