"""The package's models as a NumPyro user writes them, z summed out by `MixtureSameFamily`; and by hand, for speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp

__all__ = ["bayesian_gmm", "bayesian_gmm_by_hand", "univariate_mixture"]

LOC_PRECISION = 0.05


def bayesian_gmm(x: np.ndarray, components: int) -> None:
    """`pyrometer.models.BayesianGMM` with its default prior: x (N, D)."""
    weights, trils = _weights_and_trils(x, components)
    precisions = trils @ trils.mT
    with numpyro.plate("components", components):
        locs = numpyro.sample("locs", dist.MultivariateNormal(x.mean(0), precision_matrix=LOC_PRECISION * precisions))
    normal = dist.MultivariateNormal(locs, precision_matrix=precisions)
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(weights), normal), obs=x)


def bayesian_gmm_by_hand(x: np.ndarray, components: int) -> None:
    """The same with nothing factorized twice."""
    weights, trils = _weights_and_trils(x, components)
    with numpyro.plate("components", components):
        locs = numpyro.sample("locs", dist.ImproperUniform(dist.constraints.real_vector, (), (x.shape[1],)))
        numpyro.factor("locs_prior", _normal(locs, x.mean(0), LOC_PRECISION**0.5 * trils))
    numpyro.factor("x", logsumexp(jnp.log(weights) + _normal(x[:, None], locs, trils), -1).sum())


def univariate_mixture(x: np.ndarray, components: int) -> None:
    """`pyrometer.models.UnivariateMixture` with its default prior: x (N,)."""
    with numpyro.plate("components", components):
        locs = numpyro.sample("locs", dist.Normal(0.0, 5.0))
    weights = jnp.full(components, 1 / components)
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(locs, 1.0)), obs=x)


def _weights_and_trils(x: np.ndarray, components: int) -> tuple[jax.Array, jax.Array]:
    d = x.shape[1]
    scale = jnp.diag((x.var(0) * components ** (-2 / d)) ** -0.5)
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(components)))
    with numpyro.plate("components", components):
        return weights, numpyro.sample("precision_trils", dist.WishartCholesky(d + 2.0, scale_tril=scale))


def _normal(value: jax.Array, loc: jax.Array, precision_tril: jax.Array) -> jax.Array:
    """log Normal by the Cholesky factor of the precision: (...)."""
    standard = jnp.einsum("...ji,...j->...i", precision_tril, value - loc)
    log_det = jnp.log(jnp.diagonal(precision_tril, axis1=-2, axis2=-1)).sum(-1)
    return log_det - 0.5 * (standard**2).sum(-1) - 0.5 * value.shape[-1] * jnp.log(2 * jnp.pi)
