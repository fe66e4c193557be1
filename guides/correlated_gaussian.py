"""Guides for CorrelatedGaussian: the two coordinates of loc apart, and together."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ..display.objects import described
from ..models import CorrelatedGaussian
from ..models.gaussians.moments import units
from ..models.gaussians.units import CholeskyIn, RealVectorIn

__all__ = ["Full", "MeanField"]


@dataclass(frozen=True)
class MeanField:
    """q = Normal(loc_1 | m_1, s_1^2) Normal(loc_2 | m_2, s_2^2) (Bishop 2006, eqs. 10.12 to 10.15).

    Params: loc_loc (2,), loc_scale (2,).
    """

    _repr_html_ = described

    model: CorrelatedGaussian

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, 2)."""
        loc = pyro.param("loc_loc", lambda: x.mean(0), constraint=RealVectorIn(*units(x)))
        scale = pyro.param("loc_scale", lambda: units(x)[1] / len(x) ** 0.5, constraint=constraints.positive)
        pyro.sample("loc", dist.Normal(loc, scale).to_event(1))


@dataclass(frozen=True)
class Full:
    """q = Normal(loc | m, S S^T): the posterior's own family. Params: loc_loc (2,), loc_scale_tril (2, 2)."""

    _repr_html_ = described

    model: CorrelatedGaussian

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, 2)."""
        center, scale = units(x)
        loc = pyro.param("loc_loc", lambda: x.mean(0), constraint=RealVectorIn(center, scale))
        first = lambda: torch.diag(scale / len(x) ** 0.5)  # noqa: E731
        tril = pyro.param("loc_scale_tril", first, constraint=CholeskyIn(scale))
        pyro.sample("loc", dist.MultivariateNormal(loc, scale_tril=tril))
