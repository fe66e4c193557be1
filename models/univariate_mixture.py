"""The mixture of Gaussians with one known variance, on which variational inference is usually taught."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pyro
import pyro.distributions as dist
from torch import Tensor

from ..display.objects import described
from ..errors import InputError
from .gaussians.covariance import Covariance, check_mixture
from .gaussians.moments import Moments, as_matrix, check_table, pooled_moments, rows_of

__all__ = ["UnivariateMixture"]


@dataclass(frozen=True)
class UnivariateMixture:
    """Mixture of unit-variance Gaussians (Blei, Kucukelbir and McAuliffe 2017, eqs. 5 to 7).

    locs_k ~ Normal(0, sigma^2),   z_n ~ Categorical(1/K, ..., 1/K),   x_n | z_n = k ~ Normal(locs_k, sd^2)

    x: (N,) or (N, 1). Sites: locs (K,), z (N,), x (N,).

    Parameters
    ----------
    components : K.
    sigma : the prior standard deviation of the locations.
    sd : the standard deviation within a component.
    batch_size : rows a minibatch; None takes all of them.
    """

    _repr_html_ = described

    components: int
    sigma: float = 5.0
    sd: float = 1.0
    batch_size: int | None = None

    covariance: ClassVar[Covariance] = "tied"

    def __post_init__(self) -> None:
        check_mixture(self.components, self.covariance, self.batch_size)
        for name in ("sigma", "sd"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)} must be positive")

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (N,) or (N, 1)."""
        x = _one_column(x)
        with pyro.plate("components", self.components, dim=-1):
            locs = pyro.sample("locs", dist.Normal(x.new_zeros(()), self.sigma))
        with pyro.plate("data", len(x), subsample_size=self.batch_size, dim=-1) as rows:
            z = pyro.sample("z", dist.Categorical(x.new_ones(self.components)))
            pyro.sample("x", dist.Normal(locs[z], self.sd), obs=rows_of(x, rows)[:, 0])

    def prepare(self, values: Tensor, columns: tuple[str, ...]) -> Tensor:
        """The rows, (N,) or (N, 1), if they are enough and not all the same."""
        _one_column(check_table(values, columns, self.components))
        return values

    def init(self, x: Tensor, seed: int | None = None) -> dict[str, Tensor]:
        """Locations from k-means++ on x; seed None takes the seed of torch's generator."""
        return {"locs": self.clusters(x, seed).locs[:, 0]}

    def clusters(self, x: Tensor, seed: int | None = None) -> Moments:
        """The moments of k-means++ clusters of x; seed None takes the seed of torch's generator."""
        return pooled_moments(x, self.components, self.covariance, seed)


def _one_column(x: Tensor) -> Tensor:
    """x as (N, 1); more columns are refused."""
    x = as_matrix(x)
    if x.shape[1] != 1:
        raise InputError(f"UnivariateMixture is a model of one column, and x has {x.shape[1]}: choose one of them")
    return x
