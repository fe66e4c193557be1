"""Expectation maximization for the Gaussian mixture, in closed form."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models import GMM
from ...models.covariance import laid_out, structured
from ...models.moments import Moments
from ...models.structure import model_name
from ...models.sufficient import Components, Sums
from ..data.door import DataLike
from ..fit.fit import Fit
from ..runtime.isolation import isolated
from .ascent import Objective, Restart, StoppingRule, best_ascent, check_responsibilities, check_sizes
from .collapse import Collapse
from .e_step import WorkerPool, e_step, normal_components, terms, weighted_sums, worker_pool
from .mixture_fit import mixture_fit, row_likelihood
from .row_blocks import RowBlocks, as_row_blocks

__all__ = ["em"]


def em(
    model: GMM,
    x: DataLike,
    *,
    responsibilities: object = None,
    max_steps: int = 1000,
    tol: float = 1e-9,
    starts: int = 5,
    seed: int = 0,
    floor: float = 1e-8,
    on_collapse: Literal["reseed", "refuse"] = "reseed",
    progress: bool = True,
    name: str = "em",
) -> Fit:
    """Maximum likelihood by expectation maximization (Bishop 2006, section 9.2).

    Parameters
    ----------
    model : a GMM. Minibatches are switched off.
    x : DataFrame, Series, array, tensor, path or data set name: (N, D) or (N,). A NumPy memmap is read in blocks, in
        bounded memory; its Fit then holds no log-likelihood by row.
    responsibilities : (N, K), each row summing to 1: the one start, in place of k-means++.
    max_steps, tol : a start ends after so many steps, or where the log-likelihood changes by less than tol times
        itself.
    starts : from k-means++, each run to its end; `start_losses` keeps them all.
    seed : the same seed gives the same numbers.
    floor : the least variance of a component in any direction, in units of the columns' variances. A component that
        reaches it has collapsed onto a point, line or plane, where the likelihood has no maximum.
    on_collapse : reseed puts a collapsed component at a random row, and `losses` begins anew; refuse gives that start
        up.
    progress : show a bar with the log-likelihood; it is silent where there is no terminal or notebook.
    name : what the Fit is called in tables.

    Returns
    -------
    Fit
        A point estimate: one draw. losses: minus the log-likelihood of each step, nats, never rising; the last is that
        of the parameters returned. message: which components were re-seeded, and whether it did not converge.

    Raises
    ------
    InputError
        Another model, bad data or options, columns that depend on each other linearly, or a collapse that no start
        escaped.
    """
    began = time.perf_counter()
    check_sizes(max_steps, tol, starts)
    if not isinstance(model, GMM):
        raise InputError(f"em fits a GMM, not {model_name(model)}: use cavi, svi or nuts")
    blocks, model = as_row_blocks(x, model), replace(model, batch_size=None)
    collapse = Collapse(model.covariance, blocks, floor, on_collapse)
    given = check_responsibilities(responsibilities, blocks.rows, model.components)
    with worker_pool() as pool, isolated(seed, torch.float64):
        collapse.refuse_dependent()
        updates, clusters = EMUpdates(model, blocks, pool, collapse), [model.components] * starts
        best = best_ascent(updates, clusters, given, seed, StoppingRule(max_steps, tol), name, progress)
        params = _named(model, best.state)
        draws = {key: value.unsqueeze(0) for key, value in params.items()}
        likelihood = row_likelihood(blocks, normal_components(*best.state), draws=1)
        elbo = np.repeat(best.values[-1], 2)  # exact: two equal draws, so that their spread is zero
        return mixture_fit(name, "EM", model, blocks, best, draws, likelihood, began, params=params, elbo_draws=elbo)


class Evidence(NamedTuple):
    """What an M-step needs. rows_of: component -> the rows it holds, asked for only where it has collapsed."""

    sums: Sums
    rows_of: Callable[[int], Tensor]


Start = tuple[Moments, Objective[Moments, Evidence]]


@dataclass(frozen=True, eq=False)
class EMUpdates:
    """The E-step and the M-step of one model on one data set. The state: weights, locs and covariances."""

    model: GMM
    blocks: RowBlocks
    pool: WorkerPool
    collapse: Collapse

    def e_step(self, parameters: Moments) -> tuple[float, Evidence]:
        """The log-likelihood, nats, and the moments under the responsibilities (eqs. 9.23 and 9.28)."""
        components = normal_components(*parameters)
        log_total, sums = e_step(self.blocks, components, self.blocks.units, self.pool)
        return log_total.item(), Evidence(sums, lambda k: self._held_rows(components, k))

    def m_step(self, sums: Sums) -> Moments:
        """The parameters that those moments make most likely (eqs. 9.24 to 9.26)."""
        weights = sums.counts / sums.counts.sum()
        free = sums.scatters / sums.counts.clamp(min=torch.finfo(weights.dtype).tiny)[:, None, None]
        return Moments(weights, sums.means, structured(self.model.covariance, free, weights))

    def objective(self, seed: int) -> Objective[Moments, Evidence]:
        """The log-likelihood, and its M-step with re-seeding."""
        generator, notes = np.random.default_rng(seed), list[str]()

        def update(evidence: Evidence) -> Moments:
            return self.collapse.check(self.m_step(evidence.sums), *evidence, generator, notes)

        return Objective(self.e_step, update, notes)

    def from_kmeans(self, seed: int, clusters: int) -> Start:
        """A start at the moments of K k-means++ clusters."""
        return Moments(**self.model.init(self.blocks.sample(seed), seed)), self.objective(seed)

    def from_responsibilities(self, seed: int, responsibilities: Tensor) -> Start:
        """A start at the M-step from responsibilities (N, K)."""
        objective, sums = self.objective(seed), weighted_sums(self.blocks, responsibilities)
        rows_of = lambda k: (responsibilities[:, k] > 0.5).nonzero().flatten()  # noqa: E731
        try:
            return objective.update(Evidence(sums, rows_of)), objective
        except Restart as restart:
            return restart.state, objective  # type: ignore[return-value]

    def _held_rows(self, components: Components, k: int) -> Tensor:
        """The rows of which component k has more than half: (M,)."""
        held = [chunk.softmax(0)[k] > 0.5 for chunk in terms(self.blocks, components, self.blocks.units)]
        return torch.cat(held).nonzero().flatten()


def _named(model: GMM, parameters: Moments) -> dict[str, Tensor]:
    """The parameters under the names of the model's params."""
    factors = laid_out(model.covariance, torch.linalg.cholesky(parameters.covariances))
    return {"weights": parameters.weights, "locs": parameters.locs, **factors}
