"""A Fit in one figure: the convergence of chains, k-hat of a guide, its ELBO."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ..convergence import convergence
from ..importance import GOOD_KHAT, pareto_k

if TYPE_CHECKING:
    from ..fit import Fit

MAX_NUMBERS = 2_000_000  # of draws, of which a line about a fit works out R-hat


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
