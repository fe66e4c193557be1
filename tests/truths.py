"""Answers that mathematics gives, and small models whose answers are known: what the tests hold the package to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import scipy
import torch
from pyrometer.inference.data.data import Data
from pyrometer.inference.runtime.isolation import isolated
from pyrometer.models import BayesianGMM, DirichletProcessGMM
from pyrometer.models.gaussians.covariance import Covariance
from scipy.special import betaln
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal, constraints

COVARIANCES: tuple[Covariance, ...] = ("full", "diagonal", "tied", "spherical")


def two_clusters(rows: int = 24, gap: float = 6.0) -> Tensor:
    """A third of the rows about the origin, the rest `gap` away, the second column in other units: (rows, 2)."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    x[rows // 3 :] += gap
    x[:, 1] = x[:, 1] * 3 + x[:, 0]
    return x


def data_of(x: Tensor) -> Data:
    """The one argument of a model, with a row for each entry along its first axis. x: (N, ...)."""
    return Data((x,), rows=len(x))


@contextmanager
def in_doubles(seed: int = 0, validate: bool = True) -> Iterator[None]:
    """Pyro in float64, nothing left behind, and its own validation on."""
    with isolated(seed, torch.float64), pyro.validation_enabled(validate):
        yield


def mixture(weights: Tensor, locs: Tensor, covariances: Tensor) -> MixtureSameFamily:
    """The mixture of K Gaussians, as torch has it. weights (K,), locs (K, D), covariances (K, D, D)."""
    return MixtureSameFamily(Categorical(weights), MultivariateNormal(locs, covariances))


def mixture_logits(weights: Tensor, locs: Tensor, covariances: Tensor, x: Tensor) -> Tensor:
    """log weights_k + log Normal(x_n | k): (N, K)."""
    return weights.log() + MultivariateNormal(locs, covariances).log_prob(x.unsqueeze(-2))


def lower_entries(matrix: Tensor) -> Tensor:
    """The entries on and below the diagonal: (D, D) -> (D (D + 1) / 2,)."""
    rows, columns = torch.tril_indices(*matrix.shape[-2:])
    return matrix[..., rows, columns]


class NormalWishart(NamedTuple):
    """loc | precision ~ Normal(loc, (loc_precision precision)^-1), precision ~ Wishart(df, scale^-1)."""

    loc: Tensor
    loc_precision: Tensor
    df: Tensor
    scale: Tensor

    @property
    def loc_covariance(self) -> Tensor:
        """Cov[loc], that of a Student t: (D, D)."""
        return self.covariance_mean / self.loc_precision

    @property
    def covariance_mean(self) -> Tensor:
        """E[precision^-1]: (D, D)."""
        return self.scale / (self.df - len(self.loc) - 1)

    @property
    def covariance_variance(self) -> Tensor:
        """Var of each entry of precision^-1, inverse Wishart: (D, D)."""
        free = self.df - len(self.loc)
        diagonal = self.scale.diagonal()
        above = (free + 1) * self.scale.square() + (free - 1) * torch.outer(diagonal, diagonal)
        return above / (free * (free - 1) ** 2 * (free - 3))


def normal_wishart_prior(model: BayesianGMM, x: Tensor) -> NormalWishart:
    """The prior of one component of a model with full covariances."""
    prior = model.prior(x)
    return NormalWishart(prior.loc, prior.loc_precision, prior.df, prior.scale)


def normal_wishart_posterior(prior: NormalWishart, x: Tensor) -> NormalWishart:
    """The posterior given rows x (N, D) (Bishop 2006, eqs. 10.60 to 10.63, all responsibilities one)."""
    count = len(x)
    if count == 0:
        return prior
    mean = x.mean(0)
    centred, shift = x - mean, mean - prior.loc
    precision = prior.loc_precision + count
    pull = prior.loc_precision * count / precision
    return NormalWishart(
        loc=(prior.loc_precision * prior.loc + count * mean) / precision,
        loc_precision=precision,
        df=prior.df + count,
        scale=prior.scale + centred.T @ centred + pull * torch.outer(shift, shift),
    )


def normal_wishart_log_evidence(prior: NormalWishart, x: Tensor) -> Tensor:
    """log p(x) of one component, loc and precision integrated out (Murphy 2007, eq. 266)."""
    posterior = normal_wishart_posterior(prior, x)
    count, size = x.shape
    return (
        torch.special.multigammaln(posterior.df / 2, size)
        - torch.special.multigammaln(prior.df / 2, size)
        + prior.df / 2 * prior.scale.logdet()
        - posterior.df / 2 * posterior.scale.logdet()
        + size / 2 * (prior.loc_precision.log() - posterior.loc_precision.log())
        - count * size / 2 * math.log(math.pi)
    )


def assignment_log_evidences(model: BayesianGMM, x: Tensor) -> Tensor:
    """log p(x, z) of each of the K^N assignments z, every parameter integrated out: (K^N,)."""
    prior, terms = normal_wishart_prior(model, x), []
    for z in itertools.product(range(model.components), repeat=len(x)):
        labels = torch.tensor(z)
        counts = torch.bincount(labels, minlength=model.components)
        term = assignment_log_prior(model, counts)
        parts = [normal_wishart_log_evidence(prior, x[labels == k]) for k in range(model.components) if counts[k]]
        terms.append(term + sum(parts))
    return torch.stack(terms)


def assignment_log_prior(model: BayesianGMM, counts: Tensor) -> Tensor:
    """log p(z) of one assignment with these counts (K,), the weights integrated out: (), alpha by quadrature."""
    if not isinstance(model, DirichletProcessGMM):
        a, n = torch.full((len(counts),), model.concentration, dtype=torch.float64), counts.sum()
        return torch.lgamma(a.sum()) - torch.lgamma(a.sum() + n) + (torch.lgamma(a + counts) - torch.lgamma(a)).sum()
    if model.concentration_prior is None:
        return torch.tensor(sticks_log_evidence(counts.tolist(), model.concentration))
    shape, rate = model.concentration_prior
    density = scipy.stats.gamma(shape, scale=1 / rate).pdf
    integrand = lambda alpha: density(alpha) * math.exp(sticks_log_evidence(counts.tolist(), alpha))  # noqa: E731
    return torch.tensor(math.log(scipy.integrate.quad(integrand, 0, math.inf, epsabs=0, epsrel=1e-10)[0]))


def sticks_log_evidence(counts: list[float], alpha: float) -> float:
    """log E[prod_t weights_t^counts_t], sticks_t ~ Beta(1, alpha), the last taking what is left."""
    behind = [sum(counts[t + 1 :]) for t in range(len(counts) - 1)]
    ratios = [betaln(1 + n, alpha + m) - betaln(1, alpha) for n, m in zip(counts, behind, strict=False)]
    return float(sum(ratios))


def standard_errors(estimates: np.ndarray, truth: float) -> float:
    """How many standard errors the mean of independent estimates is from the truth."""
    return float(abs(estimates.mean() - truth) / (estimates.std(ddof=1) / math.sqrt(len(estimates))))


COUNTS = torch.cat(
    [
        torch.poisson(torch.full((20,), 2.0), generator=torch.Generator().manual_seed(1)),
        torch.poisson(torch.full((30,), 20.0), generator=torch.Generator().manual_seed(2)),
    ]
)


def mixture_of_two(x: Tensor, name: str, prior: Distribution, of: Callable[[Tensor], Distribution]) -> None:
    """weights ~ Dirichlet(1, 1), a parameter of each component ~ prior, x_n ~ of(that of its component). x: (N,)."""
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("components", 2):
        parameters = pyro.sample(name, prior)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Categorical(weights))
        pyro.sample("x", of(parameters[z]), obs=x)


def poisson_mixture(x: Tensor) -> None:
    """A user's own model: two kinds of counts. x: (N,)."""
    mixture_of_two(x, "rates", dist.Gamma(1.0, 0.1), dist.Poisson)


def normal_mixture(x: Tensor) -> None:
    """locs_k ~ Normal(0, 3), x_n ~ sum_k weights_k Normal(locs_k, 1). x: (N,)."""
    mixture_of_two(x, "locs", dist.Normal(0.0, 3.0), partial(dist.Normal, scale=1.0))


def poisson_guide(x: Tensor) -> None:
    """A user's own guide for it: q = Dirichlet(weights) prod_k Gamma(rates_k)."""
    concentration = pyro.param("concentration", lambda: 10 * torch.ones(2), constraint=constraints.positive)
    means = pyro.param("means", lambda: torch.stack([x.min() + 1, x.max()]), constraint=constraints.positive)
    shapes = pyro.param("shapes", lambda: 20 * torch.ones(2), constraint=constraints.positive)
    pyro.sample("weights", dist.Dirichlet(concentration))
    with pyro.plate("components", 2):
        pyro.sample("rates", dist.Gamma(shapes, shapes / means))


def normal_mean(x: Tensor) -> None:
    """loc ~ Normal(0, 1), x_n ~ Normal(loc, 1): the posterior is Normal(sum x / (N + 1), 1 / (N + 1)). x: (N,)."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def normal_guide(x: Tensor) -> None:
    """q = Normal(loc): the exact family for `normal_mean`."""
    loc = pyro.param("loc_loc", lambda: torch.zeros(()))
    scale = pyro.param("loc_scale", lambda: torch.ones(()), constraint=constraints.positive)
    pyro.sample("loc", dist.Normal(loc, scale))
