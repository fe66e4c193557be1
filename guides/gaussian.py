"""Hand-written Gaussians over a model's whole unconstrained space: diagonal, full, and low rank plus diagonal."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import biject_to

from ..display.objects import described
from ..models.structure import Model, Site
from ..models.trace import read_structure

__all__ = ["GaussianGuide", "diagonal", "full", "low_rank"]

Start = Callable[[], Tensor]
SCALE = 0.1  # of the start, in units of the bijections


@dataclass
class GaussianGuide:
    """theta = T(u), u ~ Normal in R^dim: T stacks the bijections of the continuous sites (Kucukelbir et al. 2017).

    family: () -> start u (dim,) -> distribution of u, its parameters `pyro.param`. Sites: the model's own continuous
    ones, and the auxiliary `unconstrained` (dim,).
    """

    _repr_html_ = described

    model: Model
    family: Callable[[Start], dist.TorchDistribution]
    sites: tuple[Site, ...] = field(default=(), init=False, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Run the guide on the data."""
        if not self.sites:
            self.sites = read_structure(self.model, *args, **kwargs).latent
        start = partial(self._start, *args, **kwargs)
        u = pyro.sample("unconstrained", self.family(start), infer={"is_auxiliary": True})
        needed = {plate.name: plate for site in self.sites for plate in site.plates}
        plates = {name: pyro.plate(name, plate.full_size, dim=plate.dim) for name, plate in needed.items()}
        place = 0
        for site in self.sites:
            transform = biject_to(site.support)
            shape = transform.inverse_shape(site.shape)
            value = u[place : place + shape.numel()].reshape(shape)
            place += shape.numel()
            with ExitStack() as stack:
                for plate in site.plates:
                    stack.enter_context(plates[plate.name])
                pyro.sample(site.name, _pushed(value, transform, transform.codomain.event_dim))

    def _start(self, *args: Any, **kwargs: Any) -> Tensor:
        """The model's own start where it has one, the origin elsewhere: (dim,)."""
        init = getattr(self.model, "init", None)
        values = init(*args, **kwargs) if init else {}
        parts = []
        for site in self.sites:
            transform = biject_to(site.support)
            zeros = torch.zeros(transform.inverse_shape(site.shape))
            parts.append(transform.inv(values[site.name]) if site.name in values else zeros)
        return torch.cat([part.reshape(-1) for part in parts])


def _pushed(u: Tensor, transform: dist.transforms.Transform, event_dim: int) -> dist.Delta:
    """The point T(u), bearing the log density that T adds: -log |dT/du|."""
    value = transform(u)
    jacobian = transform.log_abs_det_jacobian(u, value)
    return dist.Delta(value, -sum_rightmost(jacobian, jacobian.dim() - value.dim() + event_dim), event_dim=event_dim)


def diagonal(start: Start) -> dist.TorchDistribution:
    """Normal(loc, diag(scale^2)): params loc, scale (dim,)."""
    loc, scale = _loc_and_scale(start)
    return dist.Normal(loc, scale).to_event(1)


def full(start: Start) -> dist.TorchDistribution:
    """Normal(loc, S S^T), S = diag(scale) scale_tril: params loc, scale (dim,) and unit_tril (dim, dim)."""
    loc, scale = _loc_and_scale(start)
    eye = torch.eye(len(loc), dtype=loc.dtype, device=loc.device)
    tril = pyro.param("unit_tril", eye, constraint=constraints.unit_lower_cholesky)
    return dist.MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * tril)


def low_rank(start: Start, rank: int | None = None) -> dist.TorchDistribution:
    """Normal(loc, F F^T + diag(scale^2)): params loc, scale (dim,), factor (dim, rank); rank sqrt(dim) by default."""
    loc, scale = _loc_and_scale(start)
    size = len(loc)

    def noise() -> Tensor:
        shape = (size, rank or round(size**0.5))
        return SCALE * torch.randn(shape, dtype=loc.dtype, device=loc.device) / size

    return dist.LowRankMultivariateNormal(loc, pyro.param("factor", noise), scale.square())


def _loc_and_scale(start: Start) -> tuple[Tensor, Tensor]:
    loc = pyro.param("loc", start)
    return loc, pyro.param("scale", lambda: torch.full_like(loc, SCALE), constraint=constraints.positive)
