"""The Bayesian Gaussian mixture: Dirichlet weights, a Normal-Wishart a component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..display.objects import described
from ..errors import InputError
from .gaussians.covariance import Covariance, check_mixture, inverse_tril, precision_trils
from .gaussians.distributions import GaussianMixture, NormalPrecisionCholesky
from .gaussians.moments import Moments, as_matrix, check_table, pooled_moments, rows_of, units
from .trace import deterministic

__all__ = ["BayesianGMM", "CollapsedGMM", "Prior"]


class Prior(NamedTuple):
    """Hyperparameters in full. concentration (K,), loc (D,), loc_precision (), df (), scale (D, D) = W^-1."""

    concentration: Tensor
    loc: Tensor
    loc_precision: Tensor
    df: Tensor
    scale: Tensor


@dataclass(frozen=True)
class BayesianGMM:
    """Bayesian Gaussian mixture (Bishop 2006, eqs. 10.37 to 10.40).

    weights ~ Dirichlet(concentration, ..., concentration)
    precision_k ~ Wishart(df, scale^-1),   loc_k | precision_k ~ Normal(loc, (loc_precision precision_k)^-1)
    z_n ~ Categorical(weights),            x_n | z_n = k ~ Normal(loc_k, precision_k^-1)

    x: (N, D). Sites: weights (K,), locs (K, D), the precisions as `gaussians.covariance.precision_trils` lays them out,
    z (N,), x (N, D); deterministic covariances (K, D, D).

    Parameters
    ----------
    components : K.
    covariance : full, diagonal, tied or spherical.
    batch_size : rows a minibatch; None takes all of them.
    concentration, loc, loc_precision, df, scale :
        The prior. The default is weak and read from the data: loc its mean, df = D + 2, and scale the diagonal of its
        variances shrunk by K^(-2/D), the volume one of K components takes. scale is W^-1 of Bishop: (D, D), (D,) or a
        number. loc: (D,) or a number.
    """

    _repr_html_ = described

    components: int
    covariance: Covariance = "full"
    batch_size: int | None = None
    concentration: float = 1.0
    loc: Tensor | float | None = None
    loc_precision: float = 0.05
    df: float | None = None
    scale: Tensor | float | None = None

    def __post_init__(self) -> None:
        check_mixture(self.components, self.covariance, self.batch_size)
        for name in ("concentration", "loc_precision"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)} must be positive")

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (N, D) or (N,)."""
        x = as_matrix(x)
        weights, locs, trils = self.parameters(x)
        with pyro.plate("data", len(x), subsample_size=self.batch_size, dim=-1) as rows:
            z = pyro.sample("z", dist.Categorical(weights))
            pyro.sample(
                "x",
                NormalPrecisionCholesky(locs[z], trils[z]),
                obs=rows_of(x, rows),
                infer={"event_dims": ["features"]},
            )

    def parameters(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample all but the rows: weights (K,), locs (K, D), Cholesky factors of the precisions (K, D, D)."""
        prior = self.prior(x)
        loc, scale = units(x)
        weights = self.sample_weights(prior)
        plate = pyro.plate("components", self.components, dim=-1)
        trils = precision_trils(self.covariance, plate, prior.df, inverse_tril(prior.scale), 1 / scale)
        with plate:
            normal = NormalPrecisionCholesky(prior.loc, prior.loc_precision.sqrt() * trils, units=(loc, scale))
            locs = pyro.sample("locs", normal, infer={"event_dims": ["features"]})
            deterministic("covariances", torch.cholesky_inverse(trils), ("features", "features_bis"))
        return weights, locs, trils

    def sample_weights(self, prior: Prior) -> Tensor:
        """Sample the weights, (K,)."""
        return pyro.sample("weights", dist.Dirichlet(prior.concentration), infer={"event_dims": ["components"]})

    def collapsed(self) -> CollapsedGMM:
        """The same program with z summed out by hand."""
        return CollapsedGMM(self)

    @property
    def prior_components(self) -> float:
        """How many components share the data's volume a priori."""
        return self.components

    def prior(self, x: Tensor) -> Prior:
        """The hyperparameters, those left open read from x (N, D)."""
        size = x.shape[-1]
        full = lambda value, shape: torch.as_tensor(value, dtype=x.dtype, device=x.device).expand(shape)  # noqa: E731
        df = size + 2.0 if self.df is None else self.df
        if df <= size - 1:
            raise InputError(f"df={df} must be above D - 1 = {size - 1}")
        loc = x.mean(0) if self.loc is None else full(self.loc, (size,))
        volume = self.prior_components ** (-2 / size)
        scale = units(x)[1].square() * volume if self.scale is None else torch.as_tensor(self.scale).to(x)
        return Prior(
            concentration=full(self.concentration, (self.components,)),
            loc=loc,
            loc_precision=full(self.loc_precision, ()),
            df=full(df, ()),
            scale=torch.diag_embed(scale.expand(size)) if scale.dim() < 2 else scale,
        )

    def prepare(self, values: Tensor, columns: tuple[str, ...]) -> Tensor:
        """The rows, (N, D) or (N,), if they are enough and no column is constant."""
        return check_table(values, columns, self.components)

    def clusters(self, x: Tensor, seed: int | None = None) -> Moments:
        """The moments of k-means++ clusters of x; seed None takes the seed of torch's generator."""
        return pooled_moments(x, self.components, self.covariance, seed)

    def init_weights(self, weights: Tensor) -> dict[str, Tensor]:
        """Values for the sites that the weights (K,) are made of."""
        return {"weights": weights}

    def init(self, x: Tensor, seed: int | None = None) -> dict[str, Tensor]:
        """Values for the latent sites from k-means++ on x; seed None takes the seed of torch's generator."""
        moments = self.clusters(x, seed)
        start = self.init_weights(moments.weights) | {"locs": moments.locs}
        trils = inverse_tril(moments.covariances)
        match self.covariance:
            case "full":
                return start | {"precision_trils": trils}
            case "tied":
                return start | {"precision_tril": trils[0]}
            case "diagonal":
                return start | {"precisions": trils.diagonal(dim1=-2, dim2=-1).square()}
            case "spherical":
                return start | {"precisions": trils[:, 0, 0].square()}


@dataclass(frozen=True)
class CollapsedGMM:
    """`BayesianGMM` with z summed out: x_n ~ GaussianMixture(weights, locs, precisions)."""

    model: BayesianGMM

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (N, D) or (N,)."""
        x = as_matrix(x)
        weights, locs, trils = self.model.parameters(x)
        with pyro.plate("data", len(x), subsample_size=self.model.batch_size, dim=-1) as rows:
            mixture = GaussianMixture(weights, locs, trils, units(x))
            pyro.sample("x", mixture, obs=rows_of(x, rows), infer={"event_dims": ["features"]})
