"""Guides for UnivariateMixture: independent normals over the locations, with and without q(z)."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ..display.objects import described
from ..models import UnivariateMixture
from .assignments import AmortizedAssignments, RowAssignments

__all__ = ["Amortized", "FullMeanField", "MeanField"]


@dataclass(frozen=True)
class MeanField:
    """q = prod_k Normal(locs_k | m_k, s_k^2), z summed out. Params: locs_loc (K,), locs_scale (K,)."""

    _repr_html_ = described

    model: UnivariateMixture

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N,) or (N, 1)."""
        model = self.model
        spread = model.sd * (model.components / len(x)) ** 0.5
        loc = pyro.param("locs_loc", lambda: model.init(x)["locs"])
        scale = pyro.param("locs_scale", lambda: torch.full_like(loc, spread).detach(), constraint=constraints.positive)
        with pyro.plate("components", model.components, dim=-1):
            pyro.sample("locs", dist.Normal(loc, scale))


@dataclass(frozen=True)
class FullMeanField:
    """`MeanField` times an enumerated q(z_n) with parameters for each row: the family of CAVI (the paper's eq. 16)."""

    _repr_html_ = described

    model: UnivariateMixture

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N,) or (N, 1)."""
        MeanField(self.model)(x)
        RowAssignments(self.model)(x)


@dataclass(frozen=True)
class Amortized:
    """`MeanField` times an enumerated q(z_n | x_n) from a small network."""

    _repr_html_ = described

    model: UnivariateMixture

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N,) or (N, 1)."""
        MeanField(self.model)(x)
        AmortizedAssignments(self.model)(x)
