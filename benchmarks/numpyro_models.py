"""The package's models as a NumPyro user would write them for speed: z summed out by hand, factors of the precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp

__all__ = ["bayesian_gmm", "univariate_mixture"]


def bayesian_gmm(x: np.ndarray, components: int) -> None:
    """`pyrometer.models.BayesianGMM` with its default prior: x (N, D)."""
    _, d = x.shape
    variances = x.var(0) * components ** (-2 / d)
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(components)))
    with numpyro.plate("components", components):
        wishart = dist.WishartCholesky(d + 2.0, scale_tril=jnp.diag(variances**-0.5))
        trils = numpyro.sample("precision_trils", wishart)
        locs = numpyro.sample("locs", dist.ImproperUniform(dist.constraints.real_vector, (), (d,)))
        numpyro.factor("locs_prior", _normal(locs, x.mean(0), 0.05**0.5 * trils))
    terms = _normal(x[:, None], locs, trils)
    numpyro.factor("x", logsumexp(jnp.log(weights) + terms, -1).sum())


def univariate_mixture(x: np.ndarray, components: int) -> None:
    """`pyrometer.models.UnivariateMixture` with its default prior: x (N,)."""
    with numpyro.plate("components", components):
        locs = numpyro.sample("locs", dist.Normal(0.0, 5.0))
    weights = jnp.full(components, 1 / components)
    terms = jnp.log(weights) - 0.5 * (x[:, None] - locs) ** 2 - 0.5 * jnp.log(2 * jnp.pi)
    numpyro.factor("x", logsumexp(terms, -1).sum())


def _normal(value: jax.Array, loc: jax.Array, precision_tril: jax.Array) -> jax.Array:
    """log Normal by the Cholesky factor of the precision: (...)."""
    standard = jnp.einsum("...ji,...j->...i", precision_tril, value - loc)
    log_det = jnp.log(jnp.diagonal(precision_tril, axis1=-2, axis2=-1)).sum(-1)
    return log_det - 0.5 * (standard**2).sum(-1) - 0.5 * value.shape[-1] * jnp.log(2 * jnp.pi)
