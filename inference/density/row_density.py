"""The continuous latents of a row as one unconstrained vector: log p(y_n, z_n | theta), its prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pyro import poutine
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.transforms import Transform

from ...models.structure import Site
from ..compilation.batched import batched, repeated

if TYPE_CHECKING:
    from ..data.data import Data
    from .log_density import Density, Sites


class _Place(NamedTuple):
    """Where a site stands in the vector of a row: entries, and the axis of its value that rows run along.

    transform: from unconstrained space.
    """

    site: Site
    transform: Transform
    entries: slice
    shape: Size  # of a row's entries in unconstrained space
    axis: int


@dataclass(frozen=True)
class RowDensity:
    """log p(y_n, z_n | theta) of rows, z_n all continuous latents of row n in unconstrained space, (L,) a row.

    density: on these rows. shared: the sites that all rows have in common, at which z is looked at. What a trace of the
    model says is traced once for these rows and kept.
    """

    density: Density
    shared: Sites = field(default_factory=dict)

    @property
    def data(self) -> Data:
        """These rows."""
        return self.density.data

    def on(self, data: Data) -> RowDensity:
        """The same of other rows."""
        return RowDensity(self.density.on(data), self.shared)

    @cached_property
    def places(self) -> tuple[_Place, ...]:
        """Each local site, in the order of the vector."""
        start, places = 0, []
        for site in self.density.structure.local:
            transform = self.density.transforms[site.name]
            axis = self.axis(site)
            row = Size((*site.shape[:axis], *site.shape[axis + 1 :]))
            shape = transform.inverse_shape(row) if row else row
            places.append(_Place(site, transform, slice(start, start + shape.numel()), shape, axis))
            start += shape.numel()
        return tuple(places)

    def axis(self, site: Site) -> int:
        """The axis of a site's value that rows run along."""
        rows = self.density.structure.rows
        assert rows is not None
        return site.dims.index(rows.name)

    @property
    def latent(self) -> int:
        """L, the entries of z_n."""
        return self.places[-1].entries.stop

    def sites(self, z: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The local sites at z (M, L), and the log Jacobian of each row, (M,)."""
        sites, log_jacobian = {}, z.new_zeros(len(z))
        for place in self.places:
            free = z[:, place.entries].reshape(len(z), *place.shape)
            value = place.transform(free)
            change = place.transform.log_abs_det_jacobian(free, value)
            log_jacobian = log_jacobian + change.reshape(len(z), -1).sum(-1)
            sites[place.site.name] = value.movedim(0, place.axis)
        return sites, log_jacobian

    def vector(self, sites: Sites) -> Tensor:
        """z (M, L) of local sites."""
        parts = []
        for place in self.places:
            rows_first = sites[place.site.name].movedim(place.axis, 0)
            parts.append(place.transform.inv(rows_first).reshape(len(rows_first), -1))
        return torch.cat(parts, -1)

    def take(self, rows: Tensor | slice) -> RowDensity:
        """The same of some of the rows."""
        return self.on(self.data.take(rows))

    def log_joint(self, z: Tensor) -> Tensor:
        """log p(y_n, z_n | theta) with respect to the unconstrained z, nats: (..., M, L) -> (..., M).

        By the model's own log_joint(z, x) where it offers one, else by its trace.
        """
        return self._log_joints(z) if self.own_log_joint is None else self.own_log_joint(z)

    @property
    def own_log_joint(self) -> Callable[[Tensor], Tensor] | None:
        """The model's own for these rows, z (..., M, L) -> (..., M), where it has one of a single array."""
        own = getattr(self.density.model, "log_joint", None)
        return None if own is None or len(self.data.tensors) != 1 else lambda z: own(z, self.data.values)

    def traced_log_joint(self, z: Tensor) -> Tensor:
        """The same by the model's trace: (M, L) -> (M,)."""
        sites, log_jacobian = self.sites(z)
        return self.density.log_joint_rows({**self.shared, **sites}) + log_jacobian

    @cached_property
    def _log_joints(self) -> Callable[[Tensor], Tensor]:
        return batched(self.traced_log_joint, 2)

    @cached_property
    def prior(self) -> RowPrior:
        """p(z_n | theta): batch (M,), event (L,)."""
        return RowPrior(self)

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z_n | theta) with respect to the unconstrained z, nats: (M, L) -> (M,)."""
        sites, log_jacobian = self.sites(z)
        return self.density.log_prior_rows({**self.shared, **sites}) + log_jacobian

    def prior_draw(self) -> Tensor:
        """z drawn from p(z_n | theta): (M, L)."""
        trace = self.data.run(poutine.trace(self.density.given(self.shared)).get_trace)
        return self.vector({place.site.name: trace.nodes[place.site.name]["value"] for place in self.places})


class RowPrior(Distribution):
    """p(z_n | theta) of the rows of a RowDensity, as their model's trace has it: batch (M,), event (L,)."""

    def __init__(self, rows: RowDensity) -> None:
        super().__init__(Size((rows.data.rows or 0,)), Size((rows.latent,)), validate_args=False)
        self.rows, self._log_priors = rows, batched(rows.log_prior, 2)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """(*sample_shape, M, L)."""
        shape = Size(sample_shape)
        found = repeated(self.rows.prior_draw, shape.numel(), self.rows.density.chunk())
        return found.reshape(*shape, *found.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats: (..., M, L) -> (..., M)."""
        return self._log_priors(value)
