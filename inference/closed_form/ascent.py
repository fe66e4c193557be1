"""Coordinate ascent: evaluate and update in turn until the objective settles, from several starts, the best kept."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import std

from ...errors import InputError, check_positive
from ..runtime.progress import progress_bar

S = TypeVar("S")
E = TypeVar("E")
ROUNDING = 1e-10  # a relative decrease that rounding explains


class Updates(Protocol[S, E]):
    """One start of a mixture on one data set: its first state, and the steps from there."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user is told. An update that adds a note has moved the state, and the objective begins anew."""

    def from_kmeans(self, clusters: int) -> S:
        """The first state at so many clusters of k-means++."""

    def from_responsibilities(self, responsibilities: Tensor) -> S:
        """The first state at responsibilities (N, K)."""

    def evaluate(self, state: S) -> tuple[float, E]:
        """The objective in nats, and what the update needs."""

    def update(self, evidence: E) -> S:
        """The next state."""


@dataclass(frozen=True)
class Ascent(Generic[S]):
    """Where a start ended. values: the objective of each step, nats. state: the one that has the last of them.

    steps: work done, those before the objective began anew included. message: empty if it converged undisturbed.
    start_losses: minus the objective of every start, nats, infinite where refused; known of the best start alone.
    """

    state: S
    values: tuple[float, ...]
    steps: int
    message: str
    start_losses: np.ndarray = field(default_factory=lambda: np.zeros(0))


def ascend(first: S, updates: Updates[S, E], max_steps: int, tol: float, bar: std.tqdm) -> Ascent[S]:
    """Evaluate and update until the objective settles. A fall within rounding ends it, at the state before."""
    state = previous = first
    values: list[float] = []
    late: list[str] = []
    for step in range(1, max_steps + 1):
        value, evidence = updates.evaluate(state)
        if not math.isfinite(value):
            mend = "try another start, or standardise the columns"
            raise InputError(f"the objective became {value} at step {step}: {mend}")
        change, size = value - values[-1] if values else math.inf, max(1.0, abs(value))
        if -ROUNDING * size <= change < 0:
            state = previous
            break
        values.append(value)
        bar.update()
        bar.set_postfix(elbo=f"{value:.2f}", refresh=False)
        if abs(change) < tol * size:
            break
        if step < max_steps:
            notes = len(updates.notes)
            previous, state = state, updates.update(evidence)
            if len(updates.notes) > notes:
                values.clear()
    else:
        late = [f"not converged in {max_steps} steps"] if tol else []
    return Ascent(state, tuple(values), step, "; ".join([*updates.notes, *late]))


def best_ascent(
    updates_of: Callable[[int], Updates[S, E]],
    clusters: Sequence[int],
    given: Tensor | None,
    seed: int,
    max_steps: int,
    tol: float,
    name: str,
    progress: bool,
) -> Ascent[S]:
    """The best of several starts, each run to its end: after max_steps, or a change below tol times the objective.

    updates_of: seed -> the updates of a start. clusters: of each start from k-means++. given: responsibilities (N, K)
    of the one start in their place. Raises InputError where every start is refused: the reason of the last.
    """
    clusters = clusters if given is None else clusters[:1]
    ends: list[Ascent[S]] = []
    losses: list[float] = []
    refusals: list[InputError] = []
    with progress_bar(len(clusters) * max_steps, name, progress) as bar:
        for number, k in enumerate(clusters):
            updates = updates_of(seed + 1000 * number)
            try:
                first = updates.from_kmeans(k) if given is None else updates.from_responsibilities(given)
                ends.append(ascend(first, updates, max_steps, tol, bar))
                losses.append(-ends[-1].values[-1])
            except InputError as error:
                refusals.append(error)
                losses.append(math.inf)
            bar.update((number + 1) * max_steps - bar.n)
    if not ends:
        raise refusals[-1]
    return replace(max(ends, key=lambda end: end.values[-1]), start_losses=np.array(losses))


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
