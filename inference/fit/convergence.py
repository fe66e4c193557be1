"""Whether Markov chains have converged: worst R-hat, least bulk and tail ESS, divergences; a fit in one figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..runtime.arviz import Method, ess, rhat
from .importance import GOOD_KHAT, pareto_k
from .moments import varies

if TYPE_CHECKING:
    from .fit import Fit

RHAT = 1.01  # Vehtari et al. 2021
ESS_PER_CHAIN = 100
MAX_NUMBERS = 2_000_000  # of draws, of which a line about a fit works out R-hat
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


class Figure(NamedTuple):
    """What speaks most for or against a fit, in words; word: what it came to; good: whether that is so, where it is."""

    text: str
    word: str = ""
    good: bool | None = None


def figure(fit: Fit) -> Figure:
    """Convergence of chains; of a guide k-hat, and the ELBO with its standard error; nothing that takes long."""
    if fit.converged is False:
        return Figure(fit.why, "not converged", False)
    if fit.is_mcmc:
        return Figure(_of_chains(fit), "converged" if fit.converged else "", fit.converged)
    said, khat = [], math.nan
    if len(fit.log_weights) and not fit.labels:  # else those of the evidence are others: of every labelling
        khat = float(pareto_k(fit.log_weights[:, None])[0])
        said += [] if math.isnan(khat) else [f"k-hat {khat:.2f}"]
    if len(fit.elbo_draws):
        rows = fit.number_of_rows if fit.structure.only_local else 1
        value, se = fit.elbo_draws.mean() / rows, fit.elbo_draws.std() / math.sqrt(len(fit.elbo_draws)) / rows
        said.append(f"ELBO {value:.2f}" + (f" ± {se:.2f}" if se > 0 else "") + (" a row" if rows > 1 else ""))
    word = "point" if fit.is_point else "trained" if fit.converged else ""
    return Figure(", ".join(said), word, None if math.isnan(khat) else khat < GOOD_KHAT)


def _of_chains(fit: Fit) -> str:
    if sum(values.size for values in fit.posterior.values()) > MAX_NUMBERS:
        return ""
    found = convergence(fit)
    rhat = "" if math.isnan(found["rhat"]) else f"R-hat {found['rhat']:.3f}, "
    diverged = f", {found['divergences']:.0f} divergences" if found["divergences"] else ""
    return f"{rhat}ESS {found['ess_bulk']:.0f}{diverged}"
