"""The structure of a model on many rows, read off a few of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from torch import Size

from ...models.structure import Site, Structure, read_structure
from ..density import Density

__all__ = ["HeadDensity"]


@dataclass(frozen=True)
class HeadDensity(Density):
    """A density on the first rows of the data that knows how many there are: what `fit_of` needs to name the dims.

    A model in Pyro gathers a component's parameters for each row, D^2 numbers; on millions of rows that is not for
    reading the names of its sites.
    """

    rows: int = 0

    @cached_property
    def structure(self) -> Structure:
        """The sites of the model, as they would be on all rows."""
        seen = read_structure(self.model, self.x)
        plates = dict(seen.plates)
        plates["data"] = plates["data"]._replace(size=self.rows, full_size=self.rows)
        return Structure(tuple(_grown(site, self.rows) for site in seen.sites), plates)


def _grown(site: Site, rows: int) -> Site:
    plates = tuple(p._replace(size=rows, full_size=rows) if p.name == "data" else p for p in site.plates)
    shape = Size(rows if dim == "data" else size for dim, size in zip(site.dims, site.shape, strict=True))
    return replace(site, shape=shape, plates=plates)
