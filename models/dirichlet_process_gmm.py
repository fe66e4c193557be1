"""The Dirichlet process mixture of Gaussians, its stick broken off after T pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..errors import InputError
from .bayesian_gmm import BayesianGMM, Prior
from .gaussians.moments import Moments
from .trace import deterministic

__all__ = ["DirichletProcessGMM", "stick_weights"]


@dataclass(frozen=True)
class DirichletProcessGMM(BayesianGMM):
    """Truncated Dirichlet process mixture of Gaussians (Blei and Jordan 2006, section 3).

    sticks_t ~ Beta(1, alpha) for t < T,   weights_t = sticks_t prod_{s < t} (1 - sticks_s),   sticks_T = 1
    precision_t ~ Wishart(df, scale^-1),   loc_t | precision_t ~ Normal(loc, (loc_precision precision_t)^-1)
    z_n ~ Categorical(weights),            x_n | z_n = t ~ Normal(loc_t, precision_t^-1)

    Components are not exchangeable: earlier ones are expected to be larger, so their labels stay as drawn. How many of
    them hold rows is a matter of the data: `Fit.occupied` tells its posterior.

    x: (N, D). Sites: sticks (T - 1,), and where alpha is random concentration (); locs, the precisions, z and x as
    `BayesianGMM` has them; deterministic weights (T,) and covariances (T, D, D).

    Parameters
    ----------
    components : T, 2 or more. A few more than the data can fill leave nothing out.
    covariance, batch_size : as `BayesianGMM` has them.
    concentration : alpha. The larger, the more components: sum_{n < N} alpha / (alpha + n) hold N rows a priori.
    loc, loc_precision, df, scale :
        As `BayesianGMM` has them, but scale is by default shrunk by (1 + alpha)^(-2/D), whatever T: 1 / (1 + alpha)
        is the chance that two rows share a component.
    concentration_prior : shape and rate of a Gamma prior on alpha (Escobar and West 1995); None fixes it.
    """

    concentration_prior: tuple[float, float] | None = None

    exchangeable: ClassVar[tuple[str, ...]] = ()  # for the sticks have an order

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components < 2:
            mend = "give 2 or more, or take BayesianGMM(1)"
            raise InputError(f"components={self.components} leaves no stick to break: {mend}")
        given = self.concentration_prior
        if given is not None and not (isinstance(given, tuple) and len(given) == 2 and min(given) > 0):
            what = f"concentration_prior={given!r}"
            raise InputError(f"{what} must be a tuple of two positive numbers, the shape and rate of a Gamma")

    @property
    def mean_concentration(self) -> float:
        """alpha, or its prior mean."""
        if self.concentration_prior is None:
            return self.concentration
        shape, rate = self.concentration_prior
        return shape / rate

    @property
    def prior_components(self) -> float:
        """1 / E[sum_t weights_t^2]: so many components of one size would be shared by two rows as often."""
        return 1 + self.mean_concentration

    def sample_weights(self, prior: Prior) -> Tensor:
        """Sample the sticks, and alpha where it is random; the weights, (T,)."""
        alpha = prior.concentration[0]
        if self.concentration_prior is not None:
            shape, rate = (torch.as_tensor(value).to(alpha) for value in self.concentration_prior)
            alpha = pyro.sample("concentration", dist.Gamma(shape, rate))
        beta = dist.Beta(torch.ones_like(alpha), alpha).expand((self.components - 1,)).to_event(1)
        sticks = pyro.sample("sticks", beta, infer={"event_dims": ["breaks"]})
        return deterministic("weights", stick_weights(sticks), ("components",))

    def clusters(self, x: Tensor, seed: int | None = None) -> Moments:
        """The moments of k-means++ clusters of x, the largest first."""
        moments = super().clusters(x, seed)
        order = moments.weights.argsort(descending=True, stable=True)
        return Moments(*(part[order] for part in moments))

    def init_weights(self, weights: Tensor) -> dict[str, Tensor]:
        """The sticks of these weights (T,), and alpha at its prior mean where it is random."""
        left = weights.flip(0).cumsum(0).flip(0)
        start = {"sticks": weights[:-1] / left[:-1]}
        if self.concentration_prior is not None:
            start["concentration"] = weights.new_tensor(self.mean_concentration)
        return start


def stick_weights(sticks: Tensor) -> Tensor:
    """weights_t = sticks_t prod_{s < t} (1 - sticks_s), the last taking what is left: (..., T - 1) -> (..., T)."""
    number = sticks.shape[-1]
    before = torch.ones(number, number + 1, dtype=sticks.dtype, device=sticks.device).triu(1)  # sticks s < t
    left = (torch.log1p(-sticks) @ before).exp()
    return torch.cat([sticks, torch.ones_like(sticks[..., :1])], -1) * left
