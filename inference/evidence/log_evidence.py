"""log p(x) of the model of a fit: by its guide's weights, or by bridge sampling from its Markov chains."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..compilation.batched import over_draws
from ..density.in_blocks import log_joints
from ..fit.fit import Fit
from ..fit.importance import smoothed_log_mean
from ..runtime.isolation import one_thread_if_small
from .bridge import bridge
from .guide_density import guide_density
from .labellings import MOST, LogDensity, labellings_of, log_mean

MATCHED = 0.99  # of the draws, whose weights must be found again at one of their relabellings
SAME = {torch.float64: 1e-6, torch.float32: 1e-3}  # relative, of a weight found again


class Evidence(NamedTuple):
    """log p(x), nats, with its standard error. khat: Pareto k of the weights, NaN where there are none.

    remark: what else a reader must know of it, empty where that is nothing.
    """

    value: float
    se: float
    khat: float = math.nan
    remark: str = ""


def log_evidence(fit: Fit) -> Evidence:
    """log p(x) of a fit's model: by importance sampling from a guide, by bridge sampling from Markov chains.

    The guide's weights are log p(x, theta) - log q(theta), q averaged over every relabelling of what is exchangeable,
    for the posterior has them all and a guide covers one, or parts of several; Pareto-smoothed. Where q can be found
    only at the guide's own draws, a flow's for example, or where labellings are more than 720, the weights are those of
    the draws in the commonest labelling, times the number of labellings.

    Returns
    -------
    Evidence
        Value and standard error are NaN under a flat prior, and all is NaN where a fit has neither weights nor chains.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> found = pyrometer.log_evidence(pyrometer.laplace(CorrelatedGaussian(), "faithful", progress=False))
    >>> found.se < 1e-6  # the posterior is Gaussian, and every weight the evidence
    True
    """
    if fit.is_mcmc:
        found = Evidence(*bridge(fit))
    elif len(fit.log_weights):
        weights = weights_of(fit)
        found = Evidence(*smoothed_log_mean(weights.log_weights, weights.draws), weights.remark)
    else:
        found = Evidence(math.nan, math.nan)
    if any(site.flat for site in fit.structure.latent):
        return found._replace(value=math.nan, se=math.nan)
    return found


class Weights(NamedTuple):
    """log weights whose mean over `draws` draws is the evidence, nats; those that are not listed weigh nothing."""

    log_weights: np.ndarray
    draws: int
    remark: str = ""


def weights_of(fit: Fit) -> Weights:
    """The importance weights of a guide's draws, as symmetric as the posterior is."""
    labellings, number = labellings_of(fit), len(fit.log_weights)
    if not labellings.labels:
        return Weights(fit.log_weights, number)
    if labellings.few and (symmetrised := _symmetrised(fit)) is not None:
        return Weights(symmetrised, number)
    why = "its q cannot be had at other labellings" if labellings.few else f"labellings are more than {MOST}"
    remark = f"log_evidence is that of one labelling times their number, for {why}: wrong where components overlap"
    return Weights(fit.log_weights[fit.in_pivot] + labellings.log_number, number, remark)


def _symmetrised(fit: Fit) -> np.ndarray | None:
    """log p(x, theta) - log of the mean of q over relabellings, (S,); None where q cannot be found there."""
    with one_thread_if_small(fit.data.numel), fit.data.isolated(0), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pyro's, of a flow whose params are not to be trained any more
        known = known_density(fit)
        return None if known is None else (known.log_joint - known.log_mean).cpu().numpy()


class Known(NamedTuple):
    """q of a fit's guide, known at any draw: log_q, over the sites that the guide draws.

    log_joint, log_mean: at the fit's own draws, log p(x, theta) and the log of the mean of q over relabellings: (S,).
    """

    log_q: LogDensity
    log_joint: Tensor
    log_mean: Tensor


def known_density(fit: Fit) -> Known | None:
    """q of a fit's guide, or None where it cannot be evaluated; to be called, and used, within `isolated`.

    A fit's draws were relabelled, so that each one's own weight must be that of some relabelling: what does not give
    the weights back is not q.
    """
    labellings, density = labellings_of(fit), fit.density
    try:
        sites = {name: value for name, value in fit.sites().items() if name in density.transforms}
        *_, moved = labellings.each({name: value[:1] for name, value in sites.items()})
        log_q = guide_density(fit, {name: value[0] for name, value in moved.items()})
        if log_q is None:
            return None
        each = labellings.of_each(log_q, sites)
    except (RuntimeError, ValueError, NotImplementedError):
        return None
    if density.data.mapped is not None:
        log_joint = log_joints(density, fit.sites())
    else:
        log_joint = over_draws(density.of_data("log_joint"), fit.sites(), density.chunk())
    own = torch.as_tensor(fit.log_weights).to(log_joint)
    return Known(log_q, log_joint, log_mean(each)) if _found_again(log_joint - each, own) >= MATCHED else None


def _found_again(weights: Tensor, own: Tensor) -> float:
    """The share of draws whose own weight, (S,), is among those under every relabelling, (labellings, S)."""
    close = (weights - own).abs() <= SAME.get(own.dtype, 1e-3) * own.abs().clamp(min=1.0)
    return float(close.any(0).double().mean())
