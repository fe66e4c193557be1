"""Whether Markov chains have converged: worst R-hat, least bulk ESS, divergences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import arviz as az
import xarray as xr

from .moments import varies

if TYPE_CHECKING:
    from .fit import Fit

__all__ = ["ESS_PER_CHAIN", "RHAT", "convergence", "unconverged"]

RHAT = 1.01  # Vehtari et al. 2021
ESS_PER_CHAIN = 100


def convergence(fit: Fit) -> dict[str, float]:
    """Worst R-hat, least bulk ESS, and divergences of Markov chains; NaN for anything else."""
    if not fit.is_mcmc:
        return dict.fromkeys(("rhat", "ess_bulk", "divergences"), math.nan)
    posterior = _varying(fit.posterior)
    several = fit.posterior.sizes["chain"] > 1
    rhat = max((float(value.max()) for value in az.rhat(posterior).values()), default=math.nan) if several else math.nan
    ess = min((float(value.min()) for value in az.ess(posterior, method="bulk").values()), default=math.nan)
    return {"rhat": rhat, "ess_bulk": ess, "divergences": float(fit.idata["sample_stats"]["diverging"].sum())}


def unconverged(fit: Fit) -> str:
    """What speaks against the convergence of Markov chains; empty where nothing does."""
    found = convergence(fit)
    chains = fit.posterior.sizes["chain"]
    faults = []
    if fit.is_mcmc and not found["rhat"] <= RHAT:
        faults.append(f"R-hat {found['rhat']:.3f} above {RHAT}" if chains > 1 else "one chain has no R-hat")
    if found["ess_bulk"] < ESS_PER_CHAIN * chains:
        faults.append(f"bulk ESS {found['ess_bulk']:.0f} below {ESS_PER_CHAIN * chains}")
    if found["divergences"] > 0:
        faults.append(f"{found['divergences']:.0f} divergences")
    return ", ".join(faults)


def _varying(posterior: xr.Dataset) -> xr.Dataset:
    """The entries of the posterior that vary, each variable as one row of them: constants have no R-hat and no ESS."""
    flat = {}
    for name, values in posterior.items():
        entries = values.values.reshape(*values.shape[:2], -1)
        varying = varies(entries.reshape(-1, entries.shape[-1]))
        if varying.any():
            flat[str(name)] = (("chain", "draw", f"{name}_entry"), entries[..., varying])
    return xr.Dataset(flat)
