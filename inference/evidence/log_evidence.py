"""log p(x) of the model of a fit: by its guide's weights, or by bridge sampling from its Markov chains."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch

from ..fit.fit import Fit
from ..fit.importance import smoothed_log_mean
from ..runtime.isolation import one_thread_if_small
from .bridge import bridge
from .guide_density import known_density
from .labellings import MOST, labellings_of


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
