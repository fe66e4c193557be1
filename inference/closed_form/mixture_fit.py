"""From the end of an ascent to a Fit, without running the model on all rows."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from ...models.gaussians.sufficient import Components
from ...models.structure import Site, Structure, read_structure
from ..data.data import Data
from ..density.log_density import Density
from ..fit.fit import Fit
from ..fit.idata import LARGEST, fit_of
from .ascent import Ascent
from .e_step import log_sums
from .row_blocks import Mixture, RowBlocks

Draws = dict[str, Tensor]
HEAD_ROWS = 64  # that the model's structure is read off


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
        """All rows, as they were given."""
        return {self.structure.observed[0].name: self.whole.values.cpu().numpy()}


def mixture_fit(
    name: str, estimator: str, model: Mixture, blocks: RowBlocks, ascent: Ascent[Any], draws: Draws, **rest: Any
) -> Fit:
    """A Fit from S draws, name -> (S, ...), at the end of an ascent; to be called within `isolated`.

    rest: further fields of Fit, and likelihood, of each draw and row, (S, N), nats, or None.
    """
    whole = blocks.data
    head = whole.take(slice(max(HEAD_ROWS, 2 * model.components))).map(Tensor.double)
    density = HeadDensity(model, head, rest.get("params", {}), whole)
    chain = {key: value.unsqueeze(0) for key, value in draws.items()}
    rest |= {"start_losses": ascent.start_losses, "steps": ascent.steps, "message": ascent.message}
    return replace(fit_of(name, estimator, density, chain, losses=-np.array(ascent.values), **rest), data=whole)


def row_likelihood(blocks: RowBlocks, components: Components, draws: int) -> np.ndarray | None:
    """log p(x_n | theta_s), (S, N), nats; None for a mapped file, or where there would be too many."""
    if blocks.mapped is not None or draws * blocks.rows > LARGEST:
        return None
    return torch.cat(list(log_sums(blocks, components, blocks.units, draws)), -1).cpu().numpy()
