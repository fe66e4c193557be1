"""The E-step and the M-step of the Gaussian mixture, its starts, and what becomes of a collapsed component."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models import GMM
from ...models.covariance import structured
from ...models.sufficient import Components, Sums, Units
from .ascent import Objective, Restart
from .collapse import collapsed, described
from .mixture_fit import held_rows, squares_only
from .e_step import expectation, weighted_sums
from .row_blocks import Stream
from .threads import Threads

__all__ = ["EMSteps", "Parameters"]

RESEEDS = 20  # of one start, before it is refused


class Parameters(NamedTuple):
    """weights (K,), locs (K, D), covariances (K, D, D)."""

    weights: Tensor
    locs: Tensor
    covariances: Tensor

    @property
    def components(self) -> Components:
        """log weights_k + log Normal(x | locs_k, covariances_k)."""
        trils = torch.linalg.cholesky(self.covariances)
        log_dets = trils.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        size = self.locs.shape[-1]
        eye = torch.eye(size, dtype=trils.dtype, device=trils.device)
        whiteners = torch.linalg.solve_triangular(trils, eye.expand_as(trils), upper=False)
        return Components(self.weights.log() - log_dets - size / 2 * math.log(2 * math.pi), self.locs, whiteners)


class Evidence(NamedTuple):
    """What an M-step needs. rows_of: component -> the rows it holds, asked for only where it has collapsed."""

    sums: Sums
    rows_of: Callable[[int], Tensor]


Begun = tuple[Parameters, Objective[Parameters, Evidence]]


@dataclass(frozen=True, eq=False)
class EMSteps:
    """The E-step and the M-step of one model on one data set."""

    model: GMM
    stream: Stream
    crew: Threads
    floor: float
    on_collapse: str

    @property
    def units(self) -> Units:
        """Those of the data."""
        return Units(self.stream.loc, self.stream.scale, squares_only(self.model.covariance))

    def objective(self, seed: int) -> Objective[Parameters, Evidence]:
        """The log-likelihood, and its M-step with re-seeding."""
        generator, notes = np.random.default_rng(seed), list[str]()
        return Objective(self.evaluate, lambda evidence: self.update(evidence, generator, notes), notes)

    def evaluate(self, parameters: Parameters) -> tuple[float, Evidence]:
        """The log-likelihood, nats, and the moments under the responsibilities (eqs. 9.23 and 9.28)."""
        components = parameters.components
        log_total, sums = expectation(self.stream.blocks(), components, self.units, self.crew)
        return log_total.item(), Evidence(sums, lambda k: held_rows(self.stream, components, self.units, k))

    def maximize(self, sums: Sums) -> Parameters:
        """The parameters that those moments make most likely (eqs. 9.24 to 9.26)."""
        weights = sums.counts / sums.counts.sum()
        free = sums.scatters / sums.counts.clamp(min=torch.finfo(weights.dtype).tiny)[:, None, None]
        return Parameters(weights, sums.means, structured(self.model.covariance, free, weights))

    def update(self, evidence: Evidence, generator: np.random.Generator, notes: list[str]) -> Parameters:
        """The M-step; a collapsed component is re-seeded, or the start refused."""
        parameters = self.maximize(evidence.sums)
        lost = collapsed(evidence.sums, parameters.covariances, self.stream.scale, self.floor)
        if not lost:
            return parameters
        tied = self.model.covariance == "tied"
        lost = [int(evidence.sums.counts.argmin())] if tied else lost
        what = "; ".join(described(k, evidence.rows_of(k), tied) for k in lost)
        if self.on_collapse == "refuse" or len(notes) == RESEEDS:
            tried = f" after {RESEEDS} re-seedings" if notes else ""
            mend = "ask for fewer components or a simpler covariance, or use BayesianGMM"
            raise InputError(f"{what}{tried}, where the likelihood has no maximum: {mend}")
        notes.append(f"{what}: re-seeded")
        raise Restart(self.reseeded(parameters, lost, generator))

    def reseeded(self, parameters: Parameters, lost: list[int], generator: np.random.Generator) -> Parameters:
        """The lost components at random rows, as wide as one of K that share the data's volume."""
        weights, locs, covariances = (part.clone() for part in parameters)
        number, size = locs.shape
        wide = structured(self.model.covariance, self._wide(), weights.new_ones(1))[0]
        for k in lost:
            row = int(generator.integers(self.stream.rows))
            locs[k] = self.stream.data.values[row].reshape(size)
            covariances[k], weights[k] = wide, 1 / number
        covariances = wide.expand_as(covariances) if self.model.covariance == "tied" else covariances
        return Parameters(weights / weights.sum(), locs, covariances)

    def from_kmeans(self, seed: int) -> Begun:
        """A start at the moments of k-means++ clusters."""
        return Parameters(**self.model.init(self.stream.sample(seed), seed)), self.objective(seed)

    def from_responsibilities(self, seed: int, responsibilities: Tensor) -> Begun:
        """A start at the M-step from responsibilities (N, K)."""
        objective, sums = self.objective(seed), weighted_sums(self.stream.blocks, responsibilities)
        rows_of = lambda k: (responsibilities[:, k] > 0.5).nonzero().flatten()  # noqa: E731
        try:
            return objective.update(Evidence(sums, rows_of)), objective
        except Restart as restart:
            return restart.state, objective  # type: ignore[return-value]

    def refuse_dependent(self) -> None:
        """Refuse columns, one of which is a linear function of others: every full covariance is then singular."""
        if self.units.squares:
            return
        ones = torch.ones(self.stream.rows, 1, dtype=torch.float64, device=self.stream.loc.device)
        sums = weighted_sums(self.stream.blocks, ones)
        if collapsed(sums, sums.scatters / self.stream.rows, self.stream.scale, self.floor):
            why = "N is no more than D" if self.stream.rows <= len(self.stream.loc) else "drop one"
            mend = f"{why}; or take covariance='diagonal' or 'spherical'"
            raise InputError(
                f"the columns of x depend on each other linearly, so a full covariance is singular: {mend}"
            )

    def _wide(self) -> Tensor:
        volume = self.model.components ** (-2 / len(self.stream.scale))
        return torch.diag_embed(self.stream.scale.square() * volume).unsqueeze(0)
