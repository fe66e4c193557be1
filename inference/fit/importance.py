"""Importance weights: what they come to, and how far they can be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from torch import Tensor

from ..runtime.arviz import psislw

MIN_WEIGHTS_FOR_KHAT = 100  # a tail fitted to fewer says nothing
EQUAL = 1e-6  # nats between log weights that are the same, in float32 too
GOOD_KHAT = 0.7  # above it the weights correct nothing (Vehtari et al. 2024)


class Estimate(NamedTuple):
    """log p(x_n), or a lower bound on it, nats: each (M,).

    value, se. ess: effective sample size, (sum w)^2 / sum w^2. log_weight_sd: spread of the log weights. khat: Pareto k
    of the weights, NaN with fewer than 100. Above 0.7 their variance is as good as infinite and se means nothing.
    """

    value: np.ndarray
    se: np.ndarray
    ess: np.ndarray
    log_weight_sd: np.ndarray
    khat: np.ndarray

    @property
    def log_bias(self) -> np.ndarray:
        """E[log p-hat] - log p(x), about -se^2 / 2: p-hat is unbiased, and log is concave."""
        return -0.5 * self.se**2


def log_mean(log_weights: Tensor) -> Estimate:
    """log p-hat = log mean_s w_s, and by the delta method se = sd(w) / (mean(w) sqrt S). log_weights: (S, M)."""
    draws = len(log_weights)
    value = log_weights.logsumexp(0) - math.log(draws)
    relative = (log_weights - value).exp()
    return _estimate(value, relative.std(0) / math.sqrt(draws), log_weights)


def bound(log_weights: Tensor, k: int) -> Estimate:
    """E[log mean of k weights] (Burda, Grosse and Salakhutdinov 2016, eq. 8); k = 1 is the ELBO. log_weights: (S, M).

    The draws are cut into S // k groups, of which two are needed for a standard error.
    """
    groups = len(log_weights) // k
    terms = log_weights[: groups * k].unflatten(0, (groups, k)).logsumexp(1) - math.log(k)
    return _estimate(terms.mean(0), terms.std(0) / math.sqrt(groups), log_weights)


def joined(parts: Sequence[Estimate]) -> Estimate:
    """Estimates of some rows each, end to end."""
    return Estimate(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _estimate(value: Tensor, se: Tensor, log_weights: Tensor) -> Estimate:
    ess = (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()
    mean, error, size, spread = (column.cpu().numpy() for column in (value, se, ess, log_weights.std(0)))
    return Estimate(mean, error, size, spread, pareto_k(log_weights.cpu().numpy()))


def pareto_k(log_weights: np.ndarray) -> np.ndarray:
    """Pareto k of each column (Vehtari et al. 2024): (S, M) -> (M,).

    Infinite where a weight is broken; NaN where there is no tail: of fewer than 100 weights, and where those of the
    tail are all equal, as the weights of an exact guide are, and those of a bound that many draws reach.
    """
    draws, columns = log_weights.shape
    if draws < MIN_WEIGHTS_FOR_KHAT:
        return np.full(columns, math.nan)
    sound = np.isfinite(log_weights).all(0)
    khat = np.full(columns, math.inf)
    if sound.any():
        fitted, tail = psislw(log_weights.T[sound])[1], math.ceil(min(draws / 5, 3 * math.sqrt(draws)))
        largest = np.partition(log_weights[:, sound], -tail - 1, axis=0)[-tail - 1 :]
        khat[sound] = np.where(np.ptp(largest, axis=0) < EQUAL, math.nan, fitted)  # else it would be of their rounding
    return khat


class Smoothed(NamedTuple):
    """log of a mean of weights, its standard error, nats, NaN of one weight; khat: Pareto k of the very weights."""

    value: float
    se: float
    khat: float


def smoothed_log_mean(log_weights: np.ndarray, draws: int | None = None) -> Smoothed:
    """log of the mean of Pareto-smoothed weights (Vehtari et al. 2024), (S,) nats.

    draws: of how many the mean is, where further ones that weigh nothing are not listed. The standard error is that of
    the smoothed weights, by the delta method, falling with the number of draws at the rate of a tail of that k-hat (the
    same, appendix B): as S^(-1/2) where k-hat is 0, hardly where it comes near 1, never beyond. For that k-hat is taken
    one of its own standard errors, (1 + k) / sqrt(tail), higher, as an evidence too low comes with a k-hat too low.
    """
    draws = len(log_weights) if draws is None else draws
    k = float(pareto_k(log_weights[:, None])[0])
    smoothed = psislw(log_weights)[0] if math.isfinite(k) else log_weights
    value = logsumexp(smoothed) - math.log(draws)
    if not math.isfinite(value):
        return Smoothed(math.nan, math.nan, k)
    second = logsumexp(2 * (smoothed - value)) - math.log(draws)  # of the weights over their mean
    spread = math.sqrt(max(0.0, math.expm1(second)))
    tail = max(1.0, min(len(log_weights) / 5, 3 * math.sqrt(len(log_weights))))
    rate = _convergence_rate(k + max(0.0, 1 + k) / math.sqrt(tail), draws)
    return Smoothed(float(value), spread * draws ** (-rate / 2) if draws > 1 else math.nan, k)


def _convergence_rate(k: float, draws: int) -> float:
    """How fast the variance of a mean of draws falls, as S^-rate, where their tail has index k."""
    if math.isnan(k) or k <= 0:
        return 1.0
    if k >= 1:
        return 0.0
    if abs(k - 0.5) < 1e-6:
        return 1 - 1 / math.log(draws)
    power, size = float(draws) ** (2 * k), float(draws)
    return max(0.0, (2 * (k - 1) * size * power + (1 - 2 * k) * power + size**2) / ((size - 1) * (size - power)))
