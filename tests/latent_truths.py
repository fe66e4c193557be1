"""Models with a latent variable a row whose log p(x) and posterior are known: a linear Gaussian, and a grid in 2-D."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyro
import torch
from pyrometer.inference.data.data import Data
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.density.row_density import RowDensity
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal


def row_density(model: object, x: Tensor) -> RowDensity:
    """log p(x_n, z_n) of a program on rows x (M, ...)."""
    return RowDensity(Density(model, Data((x,), rows=len(x))))  # type: ignore[arg-type]


def run_program(latent: int, likelihood: Callable[[Tensor], Distribution], x: Tensor) -> None:
    """z_n ~ Normal(0, I), x_n | z_n ~ likelihood(z_n)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", pyro.distributions.Normal(x.new_zeros(latent), 1.0).to_event(1))
        pyro.sample("x", likelihood(z), obs=x)


@dataclass(frozen=True)
class LinearGaussian:
    """x | z ~ Normal(loadings z + mean, variance I): probabilistic PCA (Tipping and Bishop 1999).

    loadings: (D, L). mean: (D,).
    """

    loadings: Tensor
    mean: Tensor
    variance: float

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (M, D)."""
        run_program(self.loadings.shape[1], self.likelihood, x)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z): batch (..., M), event (D,)."""
        return pyro.distributions.Normal(z @ self.loadings.T + self.mean, math.sqrt(self.variance)).to_event(1)

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        """z (..., M, L), x (M, D) -> (..., M)."""
        return self.likelihood(z).log_prob(x) + Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(-1)

    def evidence(self, x: Tensor) -> Tensor:
        """log p(x_n): (M,)."""
        noise = self.variance * torch.eye(len(self.mean), dtype=x.dtype)
        return MultivariateNormal(self.mean, self.loadings @ self.loadings.T + noise).log_prob(x)

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> MultivariateNormal:
        """p(z_n | x_n), one covariance for all rows: batch (M,)."""
        latent = self.loadings.shape[1]
        precision = torch.eye(latent, dtype=x.dtype) + self.loadings.T @ self.loadings / self.variance
        covariance = torch.linalg.inv(precision)
        loc = (x - self.mean) @ self.loadings @ covariance / self.variance
        return MultivariateNormal(loc, covariance.expand(len(x), latent, latent))

    def mean_field(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        """The best q with independent latents: variances 1 / P_ii (Bishop 2006, eq. 10.12 f.)."""
        exact = self.posterior(x)
        sd = exact.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()
        return Independent(Normal(exact.loc, sd), 1)

    def wide(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        """A q with heavier tails than the posterior: weights of finite variance."""
        exact = self.posterior(x)
        return Independent(Normal(exact.loc, 1.3 * exact.stddev), 1)

    @cached_property
    def mean_field_kl(self) -> float:
        """KL(mean_field || posterior), the same for all rows: (sum_i log P_ii - log det P) / 2."""
        precision = self.posterior(self.mean.unsqueeze(0)).precision_matrix[0]
        return float(precision.diagonal().log().sum() - precision.logdet()) / 2


def linear_gaussian(latent: int = 2, columns: int = 5, variance: float = 0.5) -> LinearGaussian:
    """One with a correlated posterior."""
    generator = torch.Generator().manual_seed(3)
    loadings = torch.randn(columns, latent, generator=generator, dtype=torch.float64)
    loadings[:, 1:] = 0.7 * loadings[:, :1] + 0.6 * loadings[:, 1:]
    return LinearGaussian(loadings, torch.linspace(-1, 1, columns, dtype=torch.float64), variance)


def linear_rows(model: LinearGaussian, rows: int = 6) -> Tensor:
    """Rows drawn from it: (rows, D)."""
    generator = torch.Generator().manual_seed(4)
    z, noise = (
        torch.randn(rows, size, generator=generator, dtype=torch.float64) for size in model.loadings.shape[::-1]
    )
    return z @ model.loadings.T + model.mean + math.sqrt(model.variance) * noise


@dataclass(frozen=True)
class Pixels:
    """x | z ~ Bernoulli(logits = weights tanh(inner z) + bias), z in the plane: a bent, non-Gaussian posterior."""

    inner: Tensor
    weights: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (M, D)."""
        run_program(2, self.likelihood, x)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z): batch (..., M), event (D,)."""
        logits = torch.tanh(z @ self.inner.T) @ self.weights.T + self.bias
        return pyro.distributions.Bernoulli(logits=logits, validate_args=False).to_event(1)

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        """z (..., M, 2), x (M, D) -> (..., M)."""
        return self.likelihood(z).log_prob(x) + Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(-1)

    def on_grid(self, x: Tensor, reach: float = 7.0, points: int = 281) -> tuple[Tensor, Tensor, Tensor]:
        """log p(x_n) (M,), posterior mean (M, 2) and sd (M, 2), by the trapezoidal rule: exact to many digits."""
        axis = torch.linspace(-reach, reach, points, dtype=x.dtype)
        z = torch.cartesian_prod(axis, axis).unsqueeze(1)
        log_joint = self.log_joint(z.expand(-1, len(x), -1), x)
        evidence = log_joint.logsumexp(0) + 2 * math.log(float(axis[1] - axis[0]))
        weights = log_joint.softmax(0).unsqueeze(-1)
        mean = (weights * z).sum(0)
        return evidence, mean, ((weights * z.square()).sum(0) - mean.square()).sqrt()

    def rough_guide(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        """Normals about the exact means, a little too narrow and off: what an encoder would give."""
        _, mean, sd = self.on_grid(x, points=101)
        return Independent(Normal(mean + 0.3 * sd, 0.8 * sd), 1)


def pixels(columns: int = 12) -> Pixels:
    """One such decoder."""
    generator = torch.Generator().manual_seed(5)
    inner, weights = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6, 2), (columns, 6)))
    return Pixels(2 * inner, 1.5 * weights, torch.zeros(columns, dtype=torch.float64))


def pixel_rows(model: Pixels, rows: int = 5) -> Tensor:
    """Rows drawn from it: (rows, D)."""
    generator = torch.Generator().manual_seed(6)
    z = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    logits = torch.tanh(z @ model.inner.T) @ model.weights.T + model.bias
    return torch.bernoulli(logits.sigmoid(), generator=generator)


def errors_apart(value: np.ndarray, se: np.ndarray, truth: Tensor) -> np.ndarray:
    """How many standard errors each estimate lies from the truth: (M,)."""
    return np.abs(value - truth.numpy()) / se
