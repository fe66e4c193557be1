"""Bridge sampling: the evidence from draws of the posterior and draws of a proposal (Meng and Wong 1996)."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit
from torch.distributions import Distribution

from ..fit.fit import Fit
from ..runtime.arviz import ess
from ..runtime.isolation import one_thread_if_small
from .chain_draws import ChainDraws, halves, log_joints
from .labellings import averaging_over
from .proposal import fitted, of_unconstrained


class Estimated(NamedTuple):
    """log p(x), nats, with its standard error."""

    value: float
    se: float


def bridge(fit: Fit, proposal: Distribution | None = None, seed: int = 0) -> Estimated:
    """log p(x) of a model by bridge sampling between its Markov chains and a proposal (Gronau et al. 2017).

    Each half of every chain is an end of one bridge, and the mean of the two is given.

    Parameters
    ----------
    fit : of `nuts`.
    proposal : a distribution over flat unconstrained vectors, event (dim,); None fits a mixture of Student t's to the
        half of the chains that is not the end. It is averaged over the relabellings of what is exchangeable.
    seed : of the proposal's draws.

    Returns
    -------
    Estimated
        The standard error is the relative root mean squared error of Frühwirth-Schnatter (2004, section 3), with the
        effective number of the chains' draws; half the distance of the two bridges, if that is more. Both are NaN under
        a flat prior.

    Raises
    ------
    InputError
        The fit is none of Markov chains, or has too few draws.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> chains = pyrometer.nuts(CorrelatedGaussian(), "faithful", warmup=300, draws=500, progress=False)
    >>> exact = pyrometer.log_evidence(pyrometer.laplace(CorrelatedGaussian(), "faithful", progress=False))
    >>> abs(pyrometer.bridge(chains).value - exact.value) < 0.1
    True
    """
    ends = halves(fit, "bridge")
    if any(site.flat for site in fit.structure.latent):
        return Estimated(math.nan, math.nan)
    with one_thread_if_small(fit.data.numel), fit.data.isolated(seed), torch.no_grad():
        ways = (ends, ends[::-1])
        both = [_bridged(fit, before, end, proposal or fitted(before.flat(fit.density))) for before, end in ways]
    apart = abs(both[0].value - both[1].value) / 2
    se = math.sqrt(sum(one.se**2 for one in both)) / 2
    return Estimated(sum(one.value for one in both) / 2, max(se, apart))


def _bridged(fit: Fit, before: ChainDraws, end: ChainDraws, proposal: Distribution) -> Estimated:
    """The bridge between a proposal and the chains' draws at `end`; before: those that the proposal may know."""
    density, averaging = fit.density, averaging_over(fit, before.sites)
    log_q = partial(of_unconstrained, density, proposal.log_prob)
    drawn, _ = density.constrain(proposal.sample(torch.Size((len(end),))))
    at_posterior, at_proposal = (
        (log_joints(density, sites) - averaging.log_mean(log_q, sites)).cpu().numpy()
        for sites in (averaging.brought(end.sites), drawn)
    )
    return estimate(at_posterior.reshape(end.chains, -1), at_proposal)


def estimate(at_posterior: np.ndarray, at_proposal: np.ndarray) -> Estimated:
    """The optimal bridge estimate (Meng and Wong 1996, eq. 4.1) from log p(x, theta) - log q(theta).

    at_posterior: at the chains' draws, (chains, draws). at_proposal: at the proposal's draws, (S,). With n_p and n_q of
    either and c = log p(x) + log(n_q / n_p), the estimate is where sum_q sigmoid(ratio - c) = sum_p sigmoid(c - ratio).
    n_p is the effective number of the chains' draws, as it has the least error with.
    """
    at_proposal = np.where(np.isnan(at_proposal), -math.inf, at_proposal)  # p and q are both 0 there, as good as
    finite = np.concatenate([part[np.isfinite(part)] for part in (at_posterior, at_proposal)])
    if not len(finite):
        return Estimated(math.nan, math.nan)
    effective, drawn = effective_number(at_posterior), at_proposal.size
    of_p = lambda c: expit(c - at_posterior)  # noqa: E731
    of_q = lambda c: expit(at_proposal - c)  # noqa: E731
    margin = 50 + abs(math.log(effective / drawn))
    uneven = lambda c: drawn * of_q(c).mean() - effective * of_p(c).mean()  # noqa: E731
    c = brentq(uneven, finite.min() - margin, finite.max() + margin, xtol=1e-10)
    ends = ((of_q(c), drawn), (of_p(c), effective_number(of_p(c))))
    se = math.sqrt(sum((values.std() / values.mean()) ** 2 / number for values, number in ends))
    return Estimated(float(c + math.log(effective / drawn)), se)


def effective_number(values: np.ndarray) -> float:
    """The effective number of correlated draws (chains, draws) for their mean."""
    finite = values[np.isfinite(values)]
    if not len(finite) or np.ptp(finite) <= 1e-12 * np.abs(finite).max():
        return float(values.size)
    return float(ess(np.clip(values, finite.min(), finite.max()), "mean"))
