"""Importance weights: what they come to, how far they can be believed, and the evidence that a fit's own give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import arviz as az
import numpy as np
from scipy.special import logsumexp
from torch import Tensor

if TYPE_CHECKING:
    from .fit import Fit

MIN_WEIGHTS_FOR_KHAT = 100  # a tail fitted to fewer says nothing


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
    return Estimate(mean, error, size, spread, _pareto_k(log_weights.cpu().numpy()))


def _pareto_k(log_weights: np.ndarray) -> np.ndarray:
    """Pareto k of each column (Vehtari et al. 2024): (S, M) -> (M,).

    Infinite where a weight is broken; NaN where the weights are fewer than 100, or all equal.
    """
    draws, columns = log_weights.shape
    if draws < MIN_WEIGHTS_FOR_KHAT:
        return np.full(columns, math.nan)
    sound = np.isfinite(log_weights).all(0)
    khat = np.full(columns, math.inf)
    if sound.any():
        with np.errstate(divide="ignore", invalid="ignore"):  # weights all equal have no tail
            khat[sound] = np.atleast_1d(az.psislw(log_weights.T[sound].copy())[1])
    return khat


def khat(fit: Fit) -> float:
    """Pareto k of a fit's weights, its discrete sites summed out: good below 0.7. NaN where it has none."""
    return float(_pareto_k(fit.log_weights[:, None])[0]) if len(fit.log_weights) else math.nan


def log_evidence(fit: Fit) -> float:
    """log p(x) in nats by importance sampling from the guide; NaN without weights, or under a flat prior.

    Where labels are exchangeable the posterior repeats itself in K! labellings, of which a guide covers one. The
    weights are therefore averaged over the draws of one labelling only, and multiplied by the number of labellings.
    """
    if not len(fit.log_weights) or any(site.flat for site in fit.structure.latent):
        return math.nan
    in_pivot = logsumexp(fit.log_weights[fit.in_pivot])
    labellings = sum(math.lgamma(fit.posterior.sizes.get(dim, 1) + 1) for dim in fit.exchangeable)  # log K! of each
    return float(in_pivot - math.log(len(fit.log_weights)) + labellings)
