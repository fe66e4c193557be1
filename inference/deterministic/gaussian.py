"""Gaussians over unconstrained space: draws, log densities in nats, and the Gaussian that matches scores."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.linalg import cholesky, qr, solve_triangular, svd

from ..density.laplace import positive_definite

LOG_TAU = math.log(2 * math.pi)
LEAST_EIGENVALUE = 1e-12  # of a precision that is mended, in units of the largest


class Gaussian(Protocol):
    """Normal(loc, F F^T) for some factor F."""

    @property
    def loc(self) -> np.ndarray:
        """The mean: (dim,)."""

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """loc + F noise: (S, dim)."""

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Of points (S, dim): (S,)."""

    @property
    def scale_tril(self) -> np.ndarray:
        """The Cholesky factor of the covariance: (dim, dim)."""


@dataclass(frozen=True)
class FullGaussian:
    """Normal(loc, scale_tril scale_tril^T). loc: (dim,). scale_tril: (dim, dim), lower triangular."""

    loc: np.ndarray
    scale_tril: np.ndarray

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """loc + scale_tril noise: (S, dim)."""
        return self.loc + noise @ self.scale_tril.T

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Of points (S, dim): (S,)."""
        noise = solve_triangular(self.scale_tril, (points - self.loc).T, lower=True)
        return standard_log_prob(noise.T) - np.log(self.scale_tril.diagonal()).sum()


@dataclass(frozen=True)
class PathGaussian:
    """Normal(loc, F F^T), F = diag(scales) (I - Q Q^T + Q inner Q^T), the factor of an L-BFGS inverse Hessian.

    loc, scales: (dim,). basis: Q, orthonormal columns (dim, R). inner: (R, R), lower triangular.
    """

    loc: np.ndarray
    scales: np.ndarray
    basis: np.ndarray
    inner: np.ndarray

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """loc + F noise: (S, dim)."""
        within = noise @ self.basis
        return self.loc + self.scales * (noise + (within @ self.inner.T - within) @ self.basis.T)

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Of points (S, dim): (S,)."""
        moved = (points - self.loc) / self.scales
        within = moved @ self.basis
        back = solve_triangular(self.inner, within.T, lower=True).T
        noise = moved + (back - within) @ self.basis.T
        return standard_log_prob(noise) - np.log(self.scales).sum() - np.log(self.inner.diagonal()).sum()

    @property
    def scale_tril(self) -> np.ndarray:
        """The Cholesky factor of the covariance: (dim, dim)."""
        size = len(self.loc)
        factor = self.draw(np.eye(size)) - self.loc  # its rows are F's columns
        return _lower(factor)


def standard_log_prob(noise: np.ndarray) -> np.ndarray:
    """log Normal(noise; 0, I): (S, dim) -> (S,)."""
    return -0.5 * ((noise * noise).sum(1) + noise.shape[1] * LOG_TAU)


def inverse_factor(precision: np.ndarray) -> tuple[np.ndarray, bool]:
    """A lower triangular F, F F^T the inverse of a matrix (dim, dim); and whether that was positive definite as it was.

    Where it was not, the nearest that is, is inverted.
    """
    symmetric = (precision + precision.T) / 2
    units = np.sqrt(np.where(symmetric.diagonal() > 0, symmetric.diagonal(), 1.0))
    scaled = symmetric / np.outer(units, units)
    try:
        upper = cholesky(scaled[::-1, ::-1])  # of the coordinates in turn, so that the inverse is lower triangular
        return solve_triangular(upper, np.eye(len(units)))[::-1, ::-1] / units[:, None], True
    except (np.linalg.LinAlgError, ValueError):
        values, vectors = np.linalg.eigh(positive_definite(torch.as_tensor(scaled)).numpy())
        roots = vectors / np.sqrt(values.clip(min=LEAST_EIGENVALUE * values.max()))
        return _lower(roots.T) / units[:, None], False


def update(q: FullGaussian, points: np.ndarray, scores: np.ndarray, strength: float) -> FullGaussian:
    """The Gaussian that matches scores (B, dim) at points (B, dim) drawn of q: Cai et al. (2024), algorithm 1.

    Its covariance solves S U S + S = V. With V = L L^T and the thin singular values s of L^T U^(1/2), whose left
    vectors are P, S = L (I - P diag(1 - m) P^T) L^T, m = 2 / (1 + sqrt(1 + 4 s^2)): both their update and their
    low-rank one, for batches smaller than the dimension; it squares nothing, and so loses no digits.
    """
    number, kept = len(points), strength / (1 + strength)
    at, slope = points.mean(0), scores.mean(0)
    spread = np.vstack([(points - at) * np.sqrt(strength / number), (q.loc - at) * np.sqrt(kept), q.scale_tril.T])
    upper = qr(spread, mode="r")[0][: len(at)]  # V = upper^T upper
    root = np.vstack([(scores - slope) * np.sqrt(strength / number), slope * np.sqrt(kept)])
    left, singular, _ = svd(upper @ root.T, full_matrices=False)
    shrunk = np.sqrt(2 / (1 + np.sqrt(1 + 4 * singular**2)))
    factor = upper.T - (upper.T @ left) * (1 - shrunk) @ left.T
    loc = (q.loc + strength * (at + factor @ (factor.T @ slope))) / (1 + strength)
    return FullGaussian(loc, _lower(factor.T))


def averaged(gaussians: list[FullGaussian]) -> FullGaussian:
    """The mean of the means, with the mean of the covariances."""
    stacked = np.vstack([each.scale_tril.T for each in gaussians]) / np.sqrt(len(gaussians))
    return FullGaussian(np.mean([each.loc for each in gaussians], 0), _lower(stacked))


def kl(q: FullGaussian, p: FullGaussian) -> float:
    """KL(q | p) in nats."""
    ratio = np.linalg.solve(p.scale_tril, np.column_stack([q.scale_tril, q.loc - p.loc]))
    log_ratio = np.log(q.scale_tril.diagonal()).sum() - np.log(p.scale_tril.diagonal()).sum()
    return 0.5 * float((ratio * ratio).sum() - len(q.loc)) - float(log_ratio)


def _lower(rows: np.ndarray) -> np.ndarray:
    """The Cholesky factor of rows^T rows."""
    upper = qr(rows, mode="r")[0][: rows.shape[1]]
    return (upper * np.where(upper.diagonal() < 0, -1.0, 1.0)[:, None]).T
