"""Independent normals over the locations of a UnivariateMixture: the family of prior, posterior and q alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ...models import UnivariateMixture
from ...models.sufficient import Components, Sums

__all__ = ["UnivariateFamily", "univariate_prior"]


@dataclass(frozen=True, eq=False)
class UnivariateFamily:
    """prod_k Normal(locs_k | loc_k, variance_k), and the known standard deviation of a row. loc, variance: (K,)."""

    sd: float
    loc: Tensor
    variance: Tensor

    def updated(self, sums: Sums) -> UnivariateFamily:
        """m_k and s_k^2, this being the prior (Blei et al. 2017, eq. 34)."""
        precision = 1 / self.variance + sums.counts / self.sd**2
        weighted = self.loc / self.variance + sums.counts * sums.means[:, 0] / self.sd**2
        return UnivariateFamily(self.sd, weighted / precision, 1 / precision)

    def expected_components(self) -> Components:
        """E[log Normal(x | locs_k, sd^2)] - log K as a function of x (eq. 26, its constants kept)."""
        return self._components(self.loc, self.variance)

    def kl(self, prior: UnivariateFamily) -> Tensor:
        """KL(this || prior) in nats: ()."""
        return kl_divergence(self._normal, prior._normal).sum()

    def sample(self, draws: int) -> dict[str, Tensor]:
        """Exact draws of locs: (S, K)."""
        return {"locs": self._normal.sample((draws,))}

    def log_prob(self, sites: dict[str, Tensor]) -> Tensor:
        """The log density of each draw: (S,)."""
        return self._normal.log_prob(sites["locs"]).sum(-1)

    def drawn_components(self, sites: dict[str, Tensor]) -> Components:
        """log Normal(x | locs_k, sd^2) - log K of each draw: (S, K), (S, K, 1), (S, K, 1, 1)."""
        return self._components(sites["locs"], torch.zeros_like(sites["locs"]))

    def params(self) -> dict[str, Tensor]:
        """This as the trained parameters of the guide `mean_field`."""
        return {"locs_loc": self.loc, "locs_scale": self.variance.sqrt()}

    @property
    def _normal(self) -> Normal:
        return Normal(self.loc, self.variance.sqrt())

    def _components(self, locs: Tensor, variances: Tensor) -> Components:
        constant = math.log(2 * math.pi * self.sd**2) / 2 + math.log(locs.shape[-1])
        whiteners = torch.full_like(locs, 1 / self.sd)[..., None, None]
        return Components(-variances / (2 * self.sd**2) - constant, locs.unsqueeze(-1), whiteners)


def univariate_prior(model: UnivariateMixture, like: Tensor) -> UnivariateFamily:
    """A model's prior as a member of the family."""
    zeros = like.new_zeros(model.components)
    return UnivariateFamily(model.sd, zeros, zeros + model.sigma**2)
