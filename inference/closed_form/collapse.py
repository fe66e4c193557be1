"""The singularity of maximum likelihood: components that collapse onto a point, line or plane are re-seeded or refused.

There the likelihood grows without bound (Bishop 2006, section 9.2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models.covariance import Covariance, structured
from ...models.moments import Moments
from ...models.sufficient import Sums
from .ascent import Restart
from .e_step import weighted_sums
from .row_blocks import RowBlocks

__all__ = ["Collapse"]

MAX_RESEEDS = 20  # of one start, before it is refused
MAX_ROWS_SHOWN = 3  # in a message


@dataclass(frozen=True, eq=False)
class Collapse:
    """The rule by which a component has collapsed, and what is done then.

    floor: the least variance in any direction, in units of the columns' variances. on_collapse: reseed or refuse.
    """

    covariance: Covariance
    blocks: RowBlocks
    floor: float
    on_collapse: str

    def __post_init__(self) -> None:
        if self.on_collapse not in ("reseed", "refuse"):
            raise InputError(f"on_collapse={self.on_collapse!r} is unknown: choose reseed or refuse")
        if not 0 < self.floor < 1:
            raise InputError(f"floor={self.floor!r} must lie between 0 and 1")

    def check(
        self,
        parameters: Moments,
        sums: Sums,
        rows_of: Callable[[int], Tensor],
        generator: np.random.Generator,
        notes: list[str],
    ) -> Moments:
        """The parameters themselves, unless a component of theirs has collapsed.

        sums: what the M-step made them of. rows_of: component -> the rows that it holds. Raises Restart at re-seeded
        parameters, adding to the notes, or InputError where that is not wanted or does not help.
        """
        lost = self._collapsed(sums, parameters.covariances)
        if not lost:
            return parameters
        tied = self.covariance == "tied"
        lost = [int(sums.counts.argmin())] if tied else lost
        what = "; ".join(_described(k, rows_of(k), tied) for k in lost)
        if self.on_collapse == "refuse" or len(notes) == MAX_RESEEDS:
            tried = f" after {MAX_RESEEDS} re-seedings" if notes else ""
            mend = "ask for fewer components or a simpler covariance, or use BayesianGMM"
            raise InputError(f"{what}{tried}, where the likelihood has no maximum: {mend}")
        notes.append(f"{what}: re-seeded")
        raise Restart(self._reseeded(parameters, lost, generator))

    def refuse_dependent(self) -> None:
        """Refuse columns, one of which is a linear function of others: every full covariance is then singular."""
        if self.blocks.units.squares:
            return
        rows, loc = self.blocks.rows, self.blocks.units.loc
        sums = weighted_sums(self.blocks, torch.ones(rows, 1, dtype=torch.float64, device=loc.device))
        if self._collapsed(sums, sums.scatters / rows):
            why = "N is no more than D" if rows <= len(loc) else "drop one"
            mend = f"{why}; or take covariance='diagonal' or 'spherical'"
            raise InputError(
                f"the columns of x depend on each other linearly, so a full covariance is singular: {mend}"
            )

    def _collapsed(self, sums: Sums, covariances: Tensor) -> list[int]:
        """The components that hold no rows, or have less than `floor` of the columns' variance in some direction."""
        scale, empty = self.blocks.units.scale, sums.counts < 1e-10
        standard = covariances / (scale * scale.unsqueeze(-1))
        odd = empty | ~standard.isfinite().all(-1).all(-1)
        safe = torch.where(odd[:, None, None], torch.zeros_like(standard), standard)
        flat = torch.linalg.eigvalsh(safe)[:, 0] <= self.floor
        return (empty | flat).nonzero().flatten().tolist()

    def _reseeded(self, parameters: Moments, lost: list[int], generator: np.random.Generator) -> Moments:
        """The lost components at random rows, as wide as one of K that share the data's volume."""
        weights, locs, covariances = (part.clone() for part in parameters)
        number, size = locs.shape
        volume = number ** (-2 / size)
        free = torch.diag_embed(self.blocks.units.scale.square() * volume).unsqueeze(0)
        wide = structured(self.covariance, free, weights.new_ones(1))[0]
        for k in lost:
            row = int(generator.integers(self.blocks.rows))
            locs[k] = self.blocks.data.values[row].reshape(size)
            covariances[k], weights[k] = wide, 1 / number
        covariances = wide.expand_as(covariances) if self.covariance == "tied" else covariances
        return Moments(weights / weights.sum(), locs, covariances)


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
