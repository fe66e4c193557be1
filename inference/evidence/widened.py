"""The evidence by a guide's draws and those of a proposal that short chains have widened: what the guide misses."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from ...errors import InputError
from ..density.start import start_of
from ..fit.fit import Fit
from ..fit.importance import smoothed_log_mean
from ..mapped.blocks import evenly_spaced
from ..mcmc.nuts import chains_from
from ..runtime.isolation import one_thread_if_small
from .chain_draws import log_joints
from .guide_density import known_density
from .labellings import MOST, labellings_of
from .proposal import fitted, of_unconstrained

NEAR, FAR = 4, 4  # chains from the guide's weighted draws, and from starts that know nothing of the guide
WARMUP, DRAWS = 100, 200  # of each chain
NUMBER = 2000  # draws of guide and of proposal, at most
MUCH = 0.2  # of the posterior: what a guide must miss to be told of


class Widened(NamedTuple):
    """log p(x), nats, with its standard error; khat: Pareto k of the very weights.

    missed: the share of the posterior where log p(x, theta) - log q(theta) is above that of every draw of the guide:
    what the guide's own weights cannot know of. remark: a sentence where that is much, else empty.
    """

    value: float
    se: float
    khat: float
    missed: float
    remark: str = ""


def widened_evidence(fit: Fit, seed: int = 0) -> Widened:
    """log p(x) of a guide's model by importance sampling from the guide together with what short chains have seen.

    A guide that misses a part of the posterior has weights that look well: nothing in them tells of it. Here eight
    short chains of NUTS begin, half of them at draws of the guide, taken in proportion to their weights, half at the
    starts that the model has without a guide; a mixture of Student t's is fitted to where they went. Draws of both are
    weighted by p(x, theta) over the mixture of both densities (a defensive mixture, Hesterberg 1995; Owen and Zhou
    2000), each averaged over relabellings as the posterior is. Chains need not have converged, for they weigh nothing:
    they only say where to look. A mode that neither the guide nor a chain has come to is still unseen.

    Costs the time of eight chains of 300 steps, some seconds for a mixture of 300 rows.

    Value and standard error are NaN under a flat prior; `missed` is NaN where q cannot be evaluated elsewhere than at
    the guide's own draws.

    Raises
    ------
    InputError
        The fit has no weights, or more than 720 labellings.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> fit = pyrometer.svi(CorrelatedGaussian(), "auto_mvn", "faithful", progress=False)
    >>> pyrometer.widened_evidence(fit).missed < 0.05  # of the posterior, which is in the guide's family
    True
    """
    labellings = labellings_of(fit)
    if fit.is_mcmc or not len(fit.log_weights):
        raise InputError(f"fit {fit.name} has no importance weights to widen: take a guide, or bridge of Markov chains")
    if not labellings.few:
        raise InputError(f"fit {fit.name} has more than {MOST} labellings, too many to widen: take bridge(nuts(...))")
    density, chains = fit.density, _short_chains(fit, seed)
    with one_thread_if_small(fit.data.numel), fit.data.isolated(seed), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pyro's, of a flow whose params are not to be trained any more
        proposal = fitted(density.unconstrain(chains.sites()))
        new, _ = density.constrain(proposal.sample(torch.Size((NUMBER,))))
        log_r = partial(labellings.log_mean, partial(of_unconstrained, density, proposal.log_prob))
        joint_new, r_new = log_joints(density, new), log_r(new)
        if (known := known_density(fit)) is None:  # the proposal's draws alone are enough for a value
            return Widened(*smoothed_log_mean((joint_new - r_new).cpu().numpy()), missed=math.nan)
        kept = evenly_spaced(fit.number, NUMBER)
        drawn = {name: value[kept] for name, value in fit.sites().items() if name in density.transforms}
        log_joint = torch.cat([known.log_joint[kept], joint_new])
        log_q = torch.cat([known.log_mean[kept], labellings.log_mean(known.log_q, new)])
        found = _weighed(log_joint, log_q, torch.cat([log_r(drawn), r_new]), len(kept))
    flat = any(site.flat for site in fit.structure.latent)  # which leaves no evidence, but something to miss
    return found._replace(value=math.nan, se=math.nan) if flat else found


def _short_chains(fit: Fit, seed: int) -> Fit:
    """Eight of them, from draws of the guide by their weights and from the model's own starts."""
    density, log_weights = fit.density, torch.as_tensor(fit.log_weights).double().nan_to_num(nan=-math.inf)
    with fit.data.isolated(seed), torch.no_grad():
        places = torch.multinomial((log_weights - log_weights.max()).exp(), NEAR, replacement=True)
        near = density.unconstrain({name: value[places] for name, value in fit.sites().items()})
        starts = torch.cat([near, torch.stack([start_of(density, seed + n) for n in range(FAR)])])
    return chains_from(fit, warmup=WARMUP, draws=DRAWS, seed=seed, starts=starts)


def _weighed(log_joint: Tensor, log_q: Tensor, log_r: Tensor, number: int) -> Widened:
    """The evidence by `number` draws of q and then those of r, each density at all of them: (S,)."""
    share = number / len(log_joint)
    log_mixture = torch.logaddexp(log_q + math.log(share), log_r + math.log1p(-share))
    log_weights, ratio = ((log_joint - log_density).cpu().numpy() for log_density in (log_mixture, log_q))
    log_weights = np.where(np.isnan(log_weights), -math.inf, log_weights)
    unseen = ratio > ratio[:number].max()
    missed = float(softmax(log_weights)[unseen].sum())
    remark = f"it misses about {missed:.0%} of the posterior" if missed > MUCH else ""
    return Widened(*smoothed_log_mean(log_weights), missed, remark)
