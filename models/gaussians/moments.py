"""Where a mixture starts: k-means++ and the moments of its clusters."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, count
from ...imports import undrawn
from .covariance import Covariance, structured

__all__ = ["Moments", "as_matrix", "check_table", "kmeans_moments", "pooled_moments", "rows_of", "units"]

ROWS = 20_000  # k-means sees no more rows than this: a start needs no more


class Moments(NamedTuple):
    """Shares, means and covariances of K clusters: weights (K,), locs (K, D), covariances (K, D, D)."""

    weights: Tensor
    locs: Tensor
    covariances: Tensor


def as_matrix(x: Tensor) -> Tensor:
    """A vector (N,) as one column (N, 1); a matrix as it is."""
    return x.unsqueeze(-1) if x.dim() == 1 else x


def check_table(x: Tensor, columns: tuple[str, ...], components: int = 1) -> Tensor:
    """The x of a mixture, (N,) or (N, D), if it has K rows, at least two, and no column is constant."""
    if x.dim() not in (1, 2):
        mend = "; flatten each row with x.reshape(len(x), -1)" if x.dim() > 2 else ""
        raise InputError(f"x has {x.dim()} dimensions, shape {tuple(x.shape)}, but needs 1 or 2{mend}")
    if len(x) < components:
        raise InputError(f"x has {count(len(x), 'row')}, fewer than {components} components: ask for fewer components")
    if len(x) == 1:
        raise InputError("x has one row: give at least two")
    matrix = as_matrix(x)
    for d in (matrix.amin(0) == matrix.amax(0)).nonzero().flatten().tolist():
        raise InputError(f"x: column {columns[d]!r} is {matrix[0, d].item() + 0.0:g} in every row: drop it")
    return x


def rows_of(x: Tensor, rows: Tensor) -> Tensor:
    """The rows that a plate looks at, without a copy where these are all of them."""
    return x if len(rows) == len(x) else x[rows]


def units(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column, 1 where it is constant: (N, D) -> (D,), (D,)."""
    scale = x.std(0, correction=0)
    return x.mean(0), torch.where(scale > 0, scale, torch.ones_like(scale))


def kmeans_moments(x: Tensor, components: int, seed: int | None = None) -> Moments:
    """Moments of the clusters that k-means finds from one k-means++ start (Arthur and Vassilvitskii 2007).

    x: (N, D) or (N,). Each cluster is shrunk towards the whole by the weight of D + 1 rows, so that small ones are
    never singular. seed: None takes the seed of torch's generator, so that a model and its guide, called in one run,
    start from the same clusters.
    """
    with undrawn():
        from sklearn.cluster import KMeans  # whose import takes a second
        from sklearn.exceptions import ConvergenceWarning

    seed = torch.initial_seed() % 2**32 if seed is None else seed
    matrix = as_matrix(x).detach()
    many = len(matrix) > ROWS
    some = np.random.default_rng(seed).choice(len(matrix), ROWS, replace=False) if many else None
    matrix = matrix[:] if some is None else matrix[torch.from_numpy(some)]
    values = matrix.cpu().double().numpy()
    whole = values.var(0)
    scale = np.sqrt(np.where(whole > 0, whole, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters: two may be one
        kmeans = KMeans(components, n_init=1, random_state=seed % 2**32).fit(values / scale)
    locs, labels = kmeans.cluster_centers_ * scale, kmeans.labels_
    counts = np.bincount(labels, minlength=components)
    centred = values - locs[labels]
    scatter = np.stack([centred[labels == k].T @ centred[labels == k] for k in range(components)])
    prior = values.shape[1] + 1
    volume = components ** (-2 / values.shape[1])  # K components share the whole's volume
    covariances = (scatter + prior * volume * np.diag(scale**2)) / (counts + prior)[:, None, None]
    weights = (counts + 1) / (len(values) + components)
    return Moments(*(torch.as_tensor(part, dtype=x.dtype, device=x.device) for part in (weights, locs, covariances)))


def pooled_moments(x: Tensor, components: int, covariance: Covariance, seed: int | None = None) -> Moments:
    """`kmeans_moments`, the covariances pooled to that structure."""
    moments = kmeans_moments(x, components, seed)
    return moments._replace(covariances=structured(covariance, moments.covariances, moments.weights))
