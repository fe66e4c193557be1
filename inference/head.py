"""The structure of a model on many rows, read off a few of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from torch import Size

from ..models.structure import Site, Structure, read_structure
from .data import Data
from .density import Density

__all__ = ["HeadDensity"]


@dataclass(frozen=True)
class HeadDensity(Density):
    """A density on the first rows of the data that knows how many there are: what `fit_of` needs to name the dims.

    A model in Pyro gathers a component's parameters for each row, D^2 numbers; on millions of rows that is not for
    reading the names of its sites.
    """

    rows: int = 0
    whole: Data | None = None

    @cached_property
    def structure(self) -> Structure:
        """The sites of the model, as they would be on all rows."""
        seen = self.data.run(partial(read_structure, self.model))
        plates = dict(seen.plates)
        plates["data"] = plates["data"]._replace(size=self.rows, full_size=self.rows)
        return replace(
            seen, sites=tuple(_grown(site, self.rows) for site in seen.sites), plates=plates, rows=plates["data"]
        )

    def observed(self) -> dict[str, np.ndarray]:
        """All rows."""
        return {} if self.whole is None else {self.structure.observed[0].name: self.whole.values.cpu().numpy()}


def _grown(site: Site, rows: int) -> Site:
    plates = tuple(p._replace(size=rows, full_size=rows) if p.name == "data" else p for p in site.plates)
    shape = Size(rows if dim == "data" else size for dim, size in zip(site.dims, site.shape, strict=True))
    return replace(site, shape=shape, plates=plates)
