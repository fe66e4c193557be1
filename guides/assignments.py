"""q(z): which component each row came from, by a parameter a row or by a network."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..display.objects import described
from ..models import GMM, BayesianGMM, UnivariateMixture
from ..models.gaussians.distributions import quadratic_features
from ..models.gaussians.moments import ROWS, as_matrix, rows_of, units

__all__ = ["AmortizedAssignments", "RowAssignments", "SampledAssignments"]

Mixture = GMM | BayesianGMM | UnivariateMixture


@dataclass(frozen=True)
class RowAssignments:
    """q(z_n) = Categorical(responsibilities_n), enumerated; a parameter for each row, (N, K)."""

    _repr_html_ = described

    model: Mixture

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        x = as_matrix(x)
        logits = pyro.param("assignment_logits", lambda: _start_logits(self.model, x, x))
        with pyro.plate("data", len(x), subsample_size=self.model.batch_size, dim=-1) as rows:
            pyro.sample("z", dist.Categorical(logits=logits[rows]), infer={"enumerate": "parallel"})


@dataclass(frozen=True)
class AmortizedAssignments:
    """q(z_n | x_n) = Categorical(logits=encoder(x_n)), enumerated; `_encode` is the network."""

    _repr_html_ = described

    model: Mixture
    hidden: int = 32

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        x = as_matrix(x)
        with pyro.plate("data", len(x), subsample_size=self.model.batch_size, dim=-1) as rows:
            pyro.sample("z", _encode(self.model, x, rows, self.hidden), infer={"enumerate": "parallel"})


@dataclass(frozen=True)
class SampledAssignments:
    """q(z_n | x_n) of `AmortizedAssignments`, sampled: black-box VI by the score function."""

    _repr_html_ = described

    model: Mixture
    hidden: int = 32

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        x = as_matrix(x)
        with pyro.plate("data", len(x), subsample_size=self.model.batch_size, dim=-1) as rows:
            pyro.sample("z", _encode(self.model, x, rows, self.hidden))


def _encode(model: Mixture, x: Tensor, rows: Tensor, hidden: int) -> dist.Categorical:
    """One hidden layer beside a map linear in [1, x, x x^T]; that map starts at the k-means++ posterior.

    x: (N, D). rows: (B,), those to encode. Categorical of batch shape (B,).
    """
    loc, scale = units(x)
    standard = (rows_of(x, rows) - loc) / scale
    size = x.shape[-1]
    noise = lambda: torch.randn(size, hidden, dtype=x.dtype, device=x.device) / size**0.5  # noqa: E731

    def start() -> Tensor:
        some = x[:: -(-len(x) // ROWS)]
        return torch.linalg.lstsq(quadratic_features((some - loc) / scale), _start_logits(model, x, some))[0]

    into = pyro.param("encoder.into", noise)
    bias = pyro.param("encoder.bias", lambda: torch.zeros(hidden, dtype=x.dtype, device=x.device))
    out = pyro.param("encoder.out", lambda: torch.zeros(hidden, model.components, dtype=x.dtype, device=x.device))
    quadratic = pyro.param("encoder.quadratic", start)
    logits = quadratic_features(standard) @ quadratic + torch.tanh(standard @ into + bias) @ out
    return dist.Categorical(logits=logits)


def _start_logits(model: Mixture, x: Tensor, rows: Tensor) -> Tensor:
    """log p(x_n, z_n = k) of rows at the k-means++ start of x: (M, D) -> (M, K)."""
    moments = model.clusters(x)
    normals = dist.MultivariateNormal(moments.locs, moments.covariances)
    return moments.weights.log() + normals.log_prob(rows.unsqueeze(-2))
