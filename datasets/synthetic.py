"""Mixtures of Gaussians made by ancestral sampling, as they are defined: first z, then x given z.

The truth travels in ``DataFrame.attrs``, as plain lists (arrays there would break `pandas.concat` and Parquet):
``z`` (N), ``weights`` (K), ``locs`` (K, D) and ``covariances`` (K, D, D).
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pandas import DataFrame

from ..errors import InputError

__all__ = ["blobs", "univariate_blobs"]


def blobs(n: int = 500, components: int = 3, features: int = 2, *, spread: float = 5.0, seed: int = 0) -> DataFrame:
    """A Gaussian mixture with unequal weights and tilted covariances.

    weights ~ Dirichlet(5, ..., 5), locs_k ~ Normal(0, spread^2 I), covariances_k ~ Wishart(D + 4, I / (D + 4)), then
    z_n ~ Categorical(weights) and x_n | z_n ~ Normal(locs_{z_n}, covariances_{z_n}).

    Parameters
    ----------
    n, components, features
        N rows, K components, D columns ``x0``, ``x1``, ...
    spread
        Standard deviation of the means, where a component's own is 1 on average.
    seed
        Same seed, same table. NumPy's global generator is neither read nor moved.

    Examples
    --------
    >>> x = blobs(n=200, seed=1)
    >>> np.asarray(x.attrs["locs"]).shape
    (3, 2)
    """
    _require_positive(n=n, components=components, features=features, spread=spread)
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(components, 5.0))
    locs = spread * rng.standard_normal((components, features))
    factors = rng.standard_normal((components, features, features + 4))
    covariances = factors @ factors.swapaxes(1, 2) / (features + 4)
    return _ancestral_sample(n, weights, locs, covariances, rng)


def univariate_blobs(
    n: int = 500, components: int = 3, *, sigma: float = 5.0, sd: float = 1.0, seed: int = 0
) -> DataFrame:
    """The mixture of unit-variance Gaussians on which variational inference is usually taught.

    mu_k ~ Normal(0, sigma^2), c_n ~ Categorical(1/K, ..., 1/K), x_n | c_n ~ Normal(mu_{c_n}, sd^2), with sd = 1.

    Source: Blei, Kucukelbir and McAuliffe (2017), Variational inference: a review for statisticians, eqs. 5 to 7.

    Parameters
    ----------
    n, components
        N rows in one column ``x0``, K components.
    sigma
        Standard deviation of the component means.
    sd
        Standard deviation within a component.
    seed
        Same seed, same table. NumPy's global generator is neither read nor moved.
    """
    _require_positive(n=n, components=components, sigma=sigma, sd=sd)
    rng = np.random.default_rng(seed)
    weights = np.full(components, 1 / components)
    locs = sigma * rng.standard_normal((components, 1))
    covariances = np.full((components, 1, 1), sd**2)
    return _ancestral_sample(n, weights, locs, covariances, rng)


def _ancestral_sample(n: int, weights: NDArray, locs: NDArray, covariances: NDArray, rng: Generator) -> DataFrame:
    z = rng.choice(len(weights), size=n, p=weights)
    noise = rng.standard_normal((n, locs.shape[1], 1))
    x = locs[z] + (np.linalg.cholesky(covariances)[z] @ noise)[:, :, 0]
    frame = DataFrame(x, columns=[f"x{d}" for d in range(x.shape[1])])
    frame.attrs = {"z": z.tolist(), "weights": weights.tolist(), "locs": locs.tolist()}
    frame.attrs["covariances"] = covariances.tolist()
    return frame


def _require_positive(**sizes: float) -> None:
    for name, size in sizes.items():
        if size <= 0:
            raise InputError(f"{name} is {size}: give a positive number")
