"""Whether Markov chains have converged: worst R-hat, least bulk and tail ESS, divergences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.arviz import Method, ess, rhat
from .moments import varies

if TYPE_CHECKING:
    from .fit import Fit

RHAT = 1.01  # Vehtari et al. 2021
ESS_PER_CHAIN = 100
KINDS: tuple[Method, ...] = ("bulk", "tail")


def convergence(fit: Fit) -> dict[str, float]:
    """Worst R-hat, least bulk and tail ESS, and divergences of Markov chains; NaN for anything else."""
    if not fit.is_mcmc:
        return dict.fromkeys(("rhat", "ess_bulk", "ess_tail", "divergences"), math.nan)
    chains = fit.posterior.sizes["chain"]
    draws = [values.reshape(len(values), -1) for values in fit.draws().values()]
    varying = np.concatenate([each[:, varies(each)] for each in draws], 1)  # constants have no R-hat and no ESS
    entries = varying.reshape(chains, fit.number // chains, varying.shape[1])
    worst = float(rhat(entries).max()) if chains > 1 and varying.size else math.nan
    bulk, tail = (float(ess(entries, kind).min()) if varying.size else math.nan for kind in KINDS)
    divergences = float(fit.idata["sample_stats"]["diverging"].sum())
    return {"rhat": worst, "ess_bulk": bulk, "ess_tail": tail, "divergences": divergences}


def unconverged(fit: Fit) -> str:
    """What speaks against the convergence of Markov chains; empty where nothing does."""
    found = convergence(fit)
    chains = fit.posterior.sizes["chain"]
    faults = []
    if fit.is_mcmc and not found["rhat"] <= RHAT:
        faults.append(f"R-hat {found['rhat']:.3f} above {RHAT}" if chains > 1 else "one chain has no R-hat")
    for kind in KINDS:
        if found[f"ess_{kind}"] < ESS_PER_CHAIN * chains:
            faults.append(f"{kind} ESS {found[f'ess_{kind}']:.0f} below {ESS_PER_CHAIN * chains}")
    if found["divergences"] > 0:
        faults.append(f"{found['divergences']:.0f} divergences")
    return ", ".join(faults)
