"""Expectation maximization for the Gaussian mixture, in closed form."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models import GMM
from ...models.gaussians.covariance import laid_out, structured
from ...models.gaussians.moments import Moments
from ...models.gaussians.sufficient import Sums
from ...models.structure import model_name
from ..data.as_data import DataLike
from ..fit.fit import Fit
from .ascent import Ascent, Options, mixture_fit, row_likelihood
from .e_step import WorkerPool, e_step, normal_components, terms, weighted_sums
from .row_blocks import RowBlocks, as_row_blocks

MAX_RESEEDS = 20  # of one start, before it is refused
MAX_ROWS_SHOWN = 3  # in a message


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
    jobs: int | None = None,
    progress: bool = True,
    name: str = "em",
) -> Fit:
    """Maximum likelihood by expectation maximization (Bishop 2006, section 9.2).

    Parameters
    ----------
    model : a GMM. Minibatches are switched off.
    x : DataFrame, Series, array, tensor, path or data set name: (N, D) or (N,). Rows in a file, a NumPy memmap say,
        are read in blocks, in bounded memory; their Fit then holds no log-likelihood by row.
    responsibilities : (N, K), each row summing to 1: the one start, in place of k-means++.
    max_steps, tol : a start ends after so many steps, or where the log-likelihood changes by less than tol times
        itself.
    starts : from k-means++, each run to its end; `start_losses` keeps them all.
    seed : the same seed gives the same numbers.
    floor : the least variance of a component in any direction, in units of the columns' variances. A component that
        reaches it has collapsed onto a point, line or plane, where the likelihood has no maximum.
    on_collapse : reseed puts a collapsed component at a random row, and `losses` begins anew; refuse gives that start
        up.
    jobs : processes that share the blocks of a file, with the numbers of one; -1 is one a core. None is 1, or what
        `joblib.parallel_config` around the call says.
    progress : show a bar with the log-likelihood; a line every ten seconds where there is no terminal or notebook.
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

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import GMM
    >>> fit = pyrometer.em(GMM(components=2), "faithful", progress=False)
    >>> round(-float(fit.losses[-1]), 1)  # the log-likelihood, nats
    -1130.3
    """
    options = Options("EM", name, responsibilities, max_steps, tol, starts, seed, progress, jobs=jobs)
    check_em(model)
    blocks = as_row_blocks(x, model)
    if on_collapse not in ("reseed", "refuse"):
        raise InputError(f"on_collapse={on_collapse!r} is unknown: choose reseed or refuse")
    if not 0 < floor < 1:
        raise InputError(f"floor={floor!r} must lie between 0 and 1")
    _refuse_dependent(blocks, floor)
    kind = partial(EMUpdates, floor=floor, max_reseeds=MAX_RESEEDS if on_collapse == "reseed" else 0)
    return mixture_fit(model, blocks, kind, [model.components] * starts, options)


def check_em(model: object) -> None:
    """Raise InputError for a model that `em` does not fit."""
    if not isinstance(model, GMM):
        raise InputError(f"em fits a GMM, not {model_name(model)}: use cavi, svi or nuts")


class Evidence(NamedTuple):
    """What an M-step needs. rows_of: component -> the rows it holds, asked for only where it has collapsed."""

    sums: Sums
    rows_of: Callable[[int], Tensor]


@dataclass(frozen=True, eq=False)
class EMUpdates:
    """The E-step and the M-step of one start. The state: weights, locs and covariances.

    max_reseeds: of collapsed components, before the start is refused. notes: one for each re-seeding.
    """

    model: GMM
    blocks: RowBlocks
    pool: WorkerPool
    seed: int
    floor: float
    max_reseeds: int
    notes: list[str] = field(default_factory=list)

    def from_kmeans(self, clusters: int) -> Moments:
        """The moments of K k-means++ clusters."""
        return Moments(**self.model.init(self.blocks.sample(self.seed), self.seed))

    def from_responsibilities(self, responsibilities: Tensor) -> Moments:
        """The M-step from responsibilities (N, K)."""
        sums = weighted_sums(self.blocks, responsibilities)
        return self.update(Evidence(sums, lambda k: (responsibilities[:, k] > 0.5).nonzero().flatten()))

    def evaluate(self, parameters: Moments) -> tuple[float, Evidence]:
        """The log-likelihood, nats, and the moments under the responsibilities (eqs. 9.23 and 9.28)."""
        components = normal_components(*parameters)
        log_total, sums = e_step(self.blocks, components, self.blocks.units, self.pool)

        def rows_of(k: int) -> Tensor:
            held = [chunk.softmax(0)[k] > 0.5 for chunk in terms(self.blocks, components, self.blocks.units)]
            return torch.cat(held).nonzero().flatten()

        return log_total.item(), Evidence(sums, rows_of)

    def update(self, evidence: Evidence) -> Moments:
        """The most likely parameters (eqs. 9.24 to 9.26), collapsed components re-seeded.

        Raises InputError where that is not wanted or does not help.
        """
        sums, tied = evidence.sums, self.model.covariance == "tied"
        weights = sums.counts / sums.counts.sum()
        free = sums.scatters / sums.counts.clamp(min=torch.finfo(weights.dtype).tiny)[:, None, None]
        parameters = Moments(weights, sums.means, structured(self.model.covariance, free, weights))
        lost = _collapsed(sums.counts, parameters.covariances, self.blocks.units.scale, self.floor)
        if not lost:
            return parameters
        lost = [int(sums.counts.argmin())] if tied else lost
        what = "; ".join(_described(k, evidence.rows_of(k), tied) for k in lost)
        if len(self.notes) == self.max_reseeds:
            tried = f" after {MAX_RESEEDS} re-seedings" if self.notes else ""
            mend = "ask for fewer components or a simpler covariance, or use BayesianGMM"
            raise InputError(f"{what}{tried}, where the likelihood has no maximum: {mend}")
        self.notes.append(f"{what}: re-seeded")
        return self._reseeded(parameters, lost)

    def result(self, end: Ascent[Moments], draws: int) -> dict[str, Any]:
        """A point. The bound is exact: two equal draws, so that their spread is zero."""
        weights, locs, covariances = end.state
        trils = laid_out(self.model.covariance, torch.linalg.cholesky(covariances))
        params = {"weights": weights, "locs": locs, **trils}
        return {
            "draws": {name: value[None, None] for name, value in params.items()},
            "params": params,
            "elbo_draws": np.repeat(end.values[-1], 2),
            "likelihood": row_likelihood(self.blocks, normal_components(*end.state), draws),
        }

    @cached_property
    def _generator(self) -> torch.Generator:
        """Of this start alone, so that it does not depend on those before it."""
        return torch.Generator().manual_seed(self.seed)

    def _reseeded(self, parameters: Moments, lost: list[int]) -> Moments:
        """The lost components at random rows, as wide as one of K that share the data's volume."""
        weights, locs, covariances = (part.clone() for part in parameters)
        number, size = locs.shape
        volume = number ** (-2 / size)
        free = torch.diag_embed(self.blocks.units.scale.square() * volume).unsqueeze(0)
        wide = structured(self.model.covariance, free, weights.new_ones(1))[0]
        for k in lost:
            row = int(torch.randint(self.blocks.rows, (), generator=self._generator))
            locs[k] = self.blocks.data.values[row].reshape(size)
            covariances[k], weights[k] = wide, 1 / number
        covariances = wide.expand_as(covariances) if self.model.covariance == "tied" else covariances
        return Moments(weights / weights.sum(), locs, covariances)


def _collapsed(counts: Tensor, covariances: Tensor, scale: Tensor, floor: float) -> list[int]:
    """The components that hold no rows, or have less than `floor` of the columns' variance in some direction.

    There the likelihood grows without bound (Bishop 2006, section 9.2.1). counts: (K,). scale: of the columns, (D,).
    """
    standard = covariances / (scale * scale.unsqueeze(-1))
    odd = (counts < 1e-10) | ~standard.isfinite().all(-1).all(-1)
    flat = torch.linalg.eigvalsh(standard.where(~odd[:, None, None], 0.0))[:, 0] <= floor
    return flat.nonzero().flatten().tolist()


def _refuse_dependent(blocks: RowBlocks, floor: float) -> None:
    """Refuse columns, one of which is a linear function of others: every full covariance is then singular."""
    if blocks.units.squares:
        return
    rows, loc = blocks.rows, blocks.units.loc
    sums = weighted_sums(blocks, loc.new_ones(1, 1).expand(rows, 1))
    if _collapsed(sums.counts, sums.scatters / rows, blocks.units.scale, floor):
        why = "N is no more than D" if rows <= len(loc) else "drop one"
        what = "the columns of x depend on each other linearly, so a full covariance is singular"
        raise InputError(f"{what}: {why}; or take covariance='diagonal' or 'spherical'")


def _described(component: int, rows: Tensor, tied: bool) -> str:
    """component 2 collapsed onto rows 3, 4, 5 and 2 more. rows: those it holds."""
    if len(rows) == 0:
        return f"component {component} lost its last row"
    shown = ", ".join(str(row) for row in rows[:MAX_ROWS_SHOWN].tolist())
    more = f" and {len(rows) - MAX_ROWS_SHOWN} more" if len(rows) > MAX_ROWS_SHOWN else ""
    where = f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
    if tied:
        return f"the shared covariance collapsed, component {component} on {where}"
    return f"component {component} collapsed onto {where}"
