"""Coordinate ascent on a mixture: evaluate and update in turn until the objective settles; the best becomes a Fit.

The model itself is never run on all rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from numbers import Real
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import constraints
from tqdm import std

from ...errors import InputError, check_jobs, check_memory, check_name, check_positive, check_seed
from ...models.gaussians.moments import as_matrix
from ...models.gaussians.sufficient import Components
from ...models.structure import Site, Structure
from ...models.trace import read_structure
from ..data.data import Data
from ..density.log_density import Density
from ..fit.fit import Fit
from ..fit.idata import LARGEST, fit_of
from ..runtime.isolation import isolated
from ..runtime.progress import progress_bar
from .e_step import terms, worker_pool
from .row_blocks import Mixture, RowBlocks

S = TypeVar("S")
E = TypeVar("E")
ROUNDING = 1e-10  # a relative decrease that rounding explains
HEAD_ROWS = 64  # that the model's structure is read off


@dataclass(frozen=True)
class Options:
    """How a mixture is fitted: the arguments of `em` and `cavi` by their own names.

    estimator: which of the two. began: the clock at its start.
    Raises InputError where sizes are not whole and positive, or the tolerance is negative or missing.
    """

    estimator: str
    name: str
    responsibilities: object
    max_steps: int
    tol: float
    starts: int
    seed: int
    progress: bool
    draws: int = 1
    jobs: int | None = None
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        check_positive(max_steps=self.max_steps, starts=self.starts, draws=self.draws)
        check_jobs(self.jobs)
        check_name(self.name)
        object.__setattr__(self, "seed", check_seed(self.seed))  # as Python's own, for what is particular about it
        tol: object = self.tol
        if not (isinstance(tol, Real) and 0 <= float(tol) < 1):
            raise InputError(f"tol={self.tol!r} must be 0 or more, and below 1")


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

    def result(self, end: Ascent[S], draws: int) -> dict[str, Any]:
        """Fields of the Fit that ends there: draws, name -> (1, S, ...), params, likelihood, what the draws weigh."""


@dataclass(frozen=True)
class Ascent(Generic[S]):
    """Where a start ended. values: the objective of each step, nats. state: the one that has the last of them.

    steps: work done, those before the objective began anew included. message: empty if it converged undisturbed.
    """

    state: S
    values: tuple[float, ...]
    steps: int
    message: str


def mixture_fit(
    model: Mixture, blocks: RowBlocks, kind: Callable[..., Updates[Any, Any]], clusters: Sequence[int], options: Options
) -> Fit:
    """The Fit at the end of the best ascent.

    kind: (model, blocks, pool, seed) -> the updates of a start. clusters: of each start from k-means++.
    Raises InputError where every start is refused: the reason of the last.
    """
    model, whole = replace(model, batch_size=None), blocks.data
    columns = len(whole.columns)
    check_memory(model.components * columns * (columns + 1), draws=options.draws)
    starts: Sequence[int | Tensor] = clusters
    if options.responsibilities is not None:
        starts = [_check_responsibilities(options.responsibilities, blocks.rows, model.components)]
    with (
        worker_pool(as_matrix(whole.values), options.jobs) as pool,
        isolated(options.seed, torch.float64),
    ):
        updates_of = partial(kind, model, blocks, pool)
        best, losses = _best_ascent(updates_of, starts, options)
        rest = updates_of(options.seed).result(best, options.draws)
        rest |= {"start_losses": losses, "steps": best.steps, "message": best.message}
        head = whole.take(slice(max(HEAD_ROWS, 2 * model.components))).map(Tensor.double)
        density = HeadDensity(model, head, rest["params"], whole)
        fit = fit_of(options.name, options.estimator, density, losses=-np.array(best.values), **rest)
    return replace(fit, data=whole, seconds=time.perf_counter() - options.began)


def _best_ascent(
    updates_of: Callable[[int], Updates[S, E]], starts: Sequence[int | Tensor], options: Options
) -> tuple[Ascent[S], np.ndarray]:
    """The best of several starts, each run to its end; and minus the objective of every one, infinite where refused.

    updates_of: seed -> the updates of a start. starts: from so many clusters, or from responsibilities (N, K).
    """
    max_steps, losses = options.max_steps, np.full(len(starts), math.inf)
    ends: list[Ascent[S]] = []
    with progress_bar(len(starts) * max_steps, options.name, options.progress) as bar:
        for number, at in enumerate(starts):
            updates = updates_of(options.seed + 1000 * number)
            try:
                first = updates.from_responsibilities(at) if isinstance(at, Tensor) else updates.from_kmeans(at)
                ends.append(ascend(first, updates, max_steps, options.tol, bar))
                losses[number] = -ends[-1].values[-1]
            except InputError as error:
                refusal = error
            bar.update((number + 1) * max_steps - bar.n)
    if not ends:
        raise refusal
    return max(ends, key=lambda end: end.values[-1]), losses


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


@dataclass(frozen=True)
class HeadDensity(Density):
    """A density on the first rows of the data that names the sites of all: what `fit_of` needs.

    A model in Pyro gathers a component's parameters for each row, D^2 numbers; on millions of rows that is not for
    reading the names of its sites. data: the first rows. whole: all of them.
    """

    whole: Data = field(default_factory=Data)

    @cached_property
    def structure(self) -> Structure:
        """The sites of the model, as they would be on all rows."""
        seen, rows = read_structure(self.model, *self.data.args, **self.data.kwargs), self.whole.rows or 0
        plates = seen.plates | {"data": seen.plates["data"]._replace(size=rows, full_size=rows)}

        def grown(site: Site) -> Site:
            shape = Size(rows if dim == "data" else size for dim, size in zip(site.dims, site.shape, strict=True))
            return replace(site, shape=shape, plates=tuple(plates[plate.name] for plate in site.plates))

        return replace(seen, sites=tuple(map(grown, seen.sites)), plates=plates, rows=plates["data"])

    def observed(self) -> dict[str, np.ndarray]:
        """All rows, as they were given; nothing of rows in a file."""
        if self.whole.mapped is not None:
            return {}
        return {self.structure.observed[0].name: self.whole.values.cpu().numpy()}


def row_likelihood(blocks: RowBlocks, components: Components, draws: int) -> np.ndarray | None:
    """log p(x_n | theta_s), (S, N), nats; None for a mapped file, or where there would be too many."""
    if blocks.data.mapped is not None or draws * blocks.rows > LARGEST:
        return None
    each = [chunk.unflatten(0, (draws, -1)).logsumexp(1) for chunk in terms(blocks, components, blocks.units)]
    return torch.cat(each, -1).cpu().numpy()


def _check_responsibilities(responsibilities: object, rows: int, components: int) -> Tensor:
    """Responsibilities that are given as a start, float64 (N, K); refused unless each row is a distribution."""
    try:
        given = torch.as_tensor(np.asarray(responsibilities), dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise InputError("responsibilities are no numbers: give an array (N, K), each row summing to 1") from error
    if given.shape != (rows, components):
        shape = f"shape {tuple(given.shape)}, not ({rows}, {components})"
        raise InputError(f"responsibilities have {shape}: give a row for each row of x and a column for each component")
    odd = ~constraints.simplex.check(given)
    if odd.any():
        row = int(odd.nonzero()[0])
        what = f"responsibilities, row {row}: {[round(v, 4) for v in given[row].tolist()]} is not a distribution"
        raise InputError(f"{what}; give numbers of 0 or more that sum to 1")
    return given
