"""q(z | x) of a row, as a trained guide tells it: the one place that knows which guides do."""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide, AutoNormal
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from ...errors import InputError
from ..density.row_density import RowDensity


def tells_q(guide: Any) -> bool:
    """Whether q(z | x) of a row can be had from a guide: by its `posterior(x, rows)`, or as it is an AutoNormal."""
    return isinstance(guide, AutoNormal) or hasattr(guide, "posterior")


def tells_new(guide: Any) -> bool:
    """Whether q(z | x) can be had of rows that the guide was not trained on, as its attribute `amortized` says."""
    return tells_q(guide) and getattr(guide, "amortized", False)


@dataclass(frozen=True)
class RowPosterior:
    """q(z | x) of a trained guide, z a row's vector as `density` has it. new: of rows that it was not trained on."""

    name: str
    guide: Any
    density: RowDensity
    new: bool = False

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        """q(z | x) of rows x (M, ...): batch (M,), event (L,). rows (M,): which training rows these are.

        Raises InputError where the guide has no q for rows that it was not trained on, or does not tell it.
        """
        if self.new and not tells_new(self.guide) and (tells_q(self.guide) or isinstance(self.guide, AutoGuide)):
            mend = "choose an encoder, or let it say amortized = True"
            raise InputError(f"guide {self.name} has a q for each training row and for no other: {mend}")
        if not tells_q(self.guide):
            mend = "give it a method posterior(x, rows), or choose an encoder, free or auto_normal"
            raise InputError(f"guide {self.name} does not tell its q(z | x): {mend}")
        if isinstance(self.guide, AutoNormal):
            return self._normal(self.guide, rows)
        return self.guide.posterior(x, None if self.new else rows)

    def _normal(self, guide: AutoNormal, rows: Tensor | None) -> Distribution:
        """An AutoNormal's, which has a normal for each entry in unconstrained space."""
        parts = []
        for place in self.density.places:
            both = [attrgetter(place.site.name)(each).movedim(place.axis, 0) for each in (guide.locs, guide.scales)]
            parts.append([value.reshape(len(value), -1) for value in both])
        loc, scale = (torch.cat(columns, -1) for columns in zip(*parts, strict=True))
        return Independent(Normal(loc[rows], scale[rows]), 1)
