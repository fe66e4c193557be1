"""The Gaussian mixture with free parameters: maximum likelihood."""

from dataclasses import dataclass
from functools import cache

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ..display.objects import described
from .gaussians.covariance import Covariance, check_mixture, scale_trils
from .gaussians.moments import Moments, as_matrix, check_table, pooled_moments, rows_of, units
from .gaussians.units import RealVectorIn
from .trace import deterministic

__all__ = ["GMM"]


@dataclass(frozen=True)
class GMM:
    """Gaussian mixture with free parameters (Bishop 2006, eq. 9.7).

    p(x_n) = sum_k weights_k Normal(x_n | locs_k, scale_trils_k scale_trils_k^T)

    x: (N, D). Params: weights (K,), locs (K, D), scale_trils (K, D, D); where the covariance is tied scale_tril (D, D),
    where diagonal scales (K, D), where spherical scales (K,). Sites: z (N,), x (N, D); deterministic covariances
    (K, D, D).

    Parameters
    ----------
    components : K.
    covariance : full, diagonal, tied or spherical.
    batch_size : rows a minibatch; None takes all of them.
    """

    _repr_html_ = described

    components: int
    covariance: Covariance = "full"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_mixture(self.components, self.covariance, self.batch_size)

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (N, D) or (N,)."""
        x = as_matrix(x)
        loc, scale = units(x)
        start = cache(lambda: self.init(x))
        weights = pyro.param("weights", lambda: start()["weights"], constraint=constraints.simplex)
        locs = pyro.param("locs", lambda: start()["locs"], constraint=RealVectorIn(loc, scale))
        first = lambda: torch.linalg.cholesky(start()["covariances"])  # noqa: E731
        trils = scale_trils(self.covariance, self.components, scale, first)
        with pyro.plate("components", self.components, dim=-1):
            deterministic("covariances", trils @ trils.mT, ("features", "features_bis"))
        with pyro.plate("data", len(x), subsample_size=self.batch_size, dim=-1) as rows:
            z = pyro.sample("z", dist.Categorical(weights))
            normal = dist.MultivariateNormal(locs[z], scale_tril=trils[z])
            pyro.sample("x", normal, obs=rows_of(x, rows), infer={"event_dims": ["features"]})

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Names for the dims of the params, which Pyro has no place for."""
        features = ("features",) if self.covariance == "diagonal" else ()
        return {
            "weights": ("components",),
            "locs": ("components", "features"),
            "scale_trils": ("components", "features", "features_bis"),
            "scale_tril": ("features", "features_bis"),
            "scales": ("components", *features),
        }

    def prepare(self, values: Tensor, columns: tuple[str, ...]) -> Tensor:
        """The rows, (N, D) or (N,), if they are enough and no column is constant."""
        return check_table(values, columns, self.components)

    def init(self, x: Tensor, seed: int | None = None) -> dict[str, Tensor]:
        """Weights, locs and covariances from k-means++ on x; seed None takes the seed of torch's generator."""
        return self.clusters(x, seed)._asdict()

    def clusters(self, x: Tensor, seed: int | None = None) -> Moments:
        """The moments of k-means++ clusters of x; seed None takes the seed of torch's generator."""
        return pooled_moments(x, self.components, self.covariance, seed)
