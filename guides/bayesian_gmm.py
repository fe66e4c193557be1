"""Hand-written guides for BayesianGMM: conjugate families, with and without q(z)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ..display.objects import described
from ..models import BayesianGMM
from ..models.gaussians.covariance import inverse_tril, precision_trils, scale_trils
from ..models.gaussians.distributions import NormalPrecisionCholesky
from ..models.gaussians.moments import Moments, as_matrix, units
from ..models.gaussians.units import CholeskyIn, RealVectorIn
from .assignments import AmortizedAssignments, RowAssignments, SampledAssignments

__all__ = ["Amortized", "FullMeanField", "MeanField", "Sampled", "Structured"]


@dataclass(frozen=True)
class Structured:
    """q = Dirichlet(weights) prod_k Normal(loc_k | m_k, (beta_k precision_k)^-1) Wishart(precision_k) (Bishop 10.59).

    The spread of each mean is tied to its precision. Params: weights_concentration (K,), those of
    `_sample_precisions`, locs_loc (K, D), locs_precision (K,).
    """

    _repr_html_ = described

    model: BayesianGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        x = as_matrix(x)
        start = start_of(self.model, x)
        _sample_weights(self.model, x, start)
        structured_components(self.model, x, start)


@dataclass(frozen=True)
class MeanField:
    """q = Dirichlet(weights) prod_k Normal(loc_k | m_k, S_k) Wishart(precision_k): every factor independent.

    Params: weights_concentration (K,), the Wisharts' as `_sample_precisions` has them, locs_loc (K, D) and
    locs_scale_tril (K, D, D), S_k's Cholesky factors.
    """

    _repr_html_ = described

    model: BayesianGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        x = as_matrix(x)
        start = start_of(self.model, x)
        _sample_weights(self.model, x, start)
        mean_field_components(self.model, x, start)


@dataclass(frozen=True)
class FullMeanField:
    """`Structured` times an enumerated q(z_n) with parameters for each row: the family of CAVI (Bishop 10.42)."""

    _repr_html_ = described

    model: BayesianGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        Structured(self.model)(x)
        RowAssignments(self.model)(x)


@dataclass(frozen=True)
class Amortized:
    """`Structured` times an enumerated q(z_n | x_n) from a small network."""

    _repr_html_ = described

    model: BayesianGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        Structured(self.model)(x)
        AmortizedAssignments(self.model)(x)


@dataclass(frozen=True)
class Sampled:
    """`Structured` times the q(z_n | x_n) of `Amortized`, sampled: black-box VI by the score function."""

    _repr_html_ = described

    model: BayesianGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        Structured(self.model)(x)
        SampledAssignments(self.model)(x)


Start = Callable[[], Moments]


def start_of(model: BayesianGMM, x: Tensor) -> Start:
    """The k-means++ moments of x, pooled to the model's covariance structure; found only when first asked for."""
    return cache(lambda: model.clusters(x))


def structured_components(model: BayesianGMM, x: Tensor, start: Start) -> None:
    """prod_k Normal(loc_k | m_k, (beta_k precision_k)^-1) Wishart(precision_k), with the params of `Structured`."""
    plate = pyro.plate("components", model.components, dim=-1)
    trils = _sample_precisions(model, x, plate, start)
    counts = lambda: model.loc_precision + len(x) * start().weights  # noqa: E731
    precision = pyro.param("locs_precision", counts, constraint=constraints.positive)
    loc = pyro.param("locs_loc", lambda: start().locs, constraint=RealVectorIn(*units(x)))
    with plate:
        pyro.sample("locs", NormalPrecisionCholesky(loc, precision.sqrt()[:, None, None] * trils))


def mean_field_components(model: BayesianGMM, x: Tensor, start: Start) -> None:
    """prod_k Normal(loc_k | m_k, S_k) Wishart(precision_k), with the params of `MeanField`."""
    loc_units, scale_units = units(x)
    plate = pyro.plate("components", model.components, dim=-1)
    _sample_precisions(model, x, plate, start)
    spread = lambda: torch.linalg.cholesky(start().covariances / (len(x) * start().weights)[:, None, None])  # noqa: E731
    loc = pyro.param("locs_loc", lambda: start().locs, constraint=RealVectorIn(loc_units, scale_units))
    scale_tril = pyro.param("locs_scale_tril", spread, constraint=CholeskyIn(scale_units))
    with plate:
        pyro.sample("locs", dist.MultivariateNormal(loc, scale_tril=scale_tril))


def _sample_weights(model: BayesianGMM, x: Tensor, start: Start) -> None:
    counts = lambda: model.concentration + len(x) * start().weights  # noqa: E731
    concentration = pyro.param("weights_concentration", counts, constraint=constraints.positive)
    pyro.sample("weights", dist.Dirichlet(concentration))


def _sample_precisions(model: BayesianGMM, x: Tensor, plate: pyro.plate, start: Start) -> Tensor:
    """q of the precisions; their Cholesky factors (K, D, D).

    Params: precision_df (K,), () where tied, above D - 1; the Cholesky factors of the Wisharts' scales, laid out by
    `models.gaussians.covariance.scale_trils` under names that begin with precision_.
    """
    tied = model.covariance == "tied"

    def df() -> Tensor:
        counts = len(x) * start().weights
        return model.prior(x).df + (counts.sum() if tied else counts)

    freedom = pyro.param("precision_df", df, constraint=constraints.greater_than(x.shape[-1] - 1.0))
    first = lambda: inverse_tril(start().covariances) / df().sqrt()[..., None, None]  # noqa: E731
    factors = scale_trils(model.covariance, model.components, 1 / units(x)[1], first, prefix="precision_")
    return precision_trils(model.covariance, plate, freedom, factors[0] if tied else factors)
