"""Numbers about one Fit: the columns of the table. NaN means "does not apply" and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator

import arviz as az
import numpy as np
import xarray as xr
from pandas import Series

from .data import Tabular
from .fit import Fit

__all__ = ["COLUMNS", "convergence", "log_evidence", "scores", "unconverged"]

COLUMNS = (
    "estimator",
    "elbo",
    "elbo_se",
    "log_evidence",
    "khat",
    "lpd_test",
    "lpd_test_se",
    "bias",
    "sd_ratio",
    "rhat",
    "ess_bulk",
    "divergences",
    "steps",
    "seconds",
)
NAN = float("nan")
RHAT = 1.01  # Vehtari et al. 2021
ESS_PER_CHAIN = 100


def scores(fit: Fit, reference: Fit | None, x_test: Tabular | None) -> Series:
    """One row of the table, keyed by COLUMNS.

    reference: what bias and sd_ratio are measured against, already relabelled alike; None leaves them NaN.
    """
    bias, sd_ratio = _against(fit, reference)
    lpd, lpd_se = _lpd(fit, x_test)
    elbo, elbo_se = _elbo(fit)
    row = {
        "estimator": fit.estimator,
        "elbo": elbo,
        "elbo_se": elbo_se,
        "log_evidence": log_evidence(fit),
        "khat": khat(fit),
        "lpd_test": lpd,
        "lpd_test_se": lpd_se,
        "bias": bias,
        "sd_ratio": sd_ratio,
        **convergence(fit),
        "steps": fit.steps,
        "seconds": fit.seconds,
    }
    return Series(row, index=list(COLUMNS), name=fit.name, dtype=object)


def khat(fit: Fit) -> float:
    """Pareto k of the importance weights with discrete sites summed out (Vehtari et al. 2024): good below 0.7."""
    if not len(fit.log_weights):
        return NAN
    if not np.isfinite(fit.log_weights).all():
        return math.inf
    return float(az.psislw(fit.log_weights.copy())[1])


def log_evidence(fit: Fit) -> float:
    """log p(x) in nats by importance sampling from the guide.

    A mixture's posterior repeats itself in K! labellings, of which a guide covers one. The weights are therefore
    averaged over the draws of one labelling only, and multiplied by K!.
    """
    if not len(fit.log_weights):
        return NAN
    weights = np.where(fit.in_pivot, fit.log_weights, -np.inf)
    top = weights.max()
    labellings = math.lgamma(fit.posterior.sizes.get("components", 1) + 1)
    return float(top + np.log(np.exp(weights - top).mean()) + labellings)


def convergence(fit: Fit) -> dict[str, float]:
    """Worst R-hat, least bulk ESS, and divergences of Markov chains; NaN for anything else."""
    if not fit.is_mcmc:
        return {"rhat": NAN, "ess_bulk": NAN, "divergences": NAN}
    posterior = _varying(fit.posterior)
    several = fit.posterior.sizes["chain"] > 1
    rhat = max((float(value.max()) for value in az.rhat(posterior).values()), default=NAN) if several else NAN
    ess = min((float(value.min()) for value in az.ess(posterior, method="bulk").values()), default=NAN)
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


def _elbo(fit: Fit) -> tuple[float, float]:
    draws = fit.elbo_draws
    return (float(draws.mean()), float(draws.std() / math.sqrt(len(draws)))) if len(draws) else (NAN, NAN)


def _lpd(fit: Fit, x_test: Tabular | None) -> tuple[float, float]:
    """Sum over the held-out rows of log p(x_new | x), and its standard error over rows, as `az.loo` has them."""
    if x_test is None:
        return NAN, NAN
    rows = fit.log_predictive(x_test)
    return float(rows.sum()), float(math.sqrt(len(rows)) * rows.std())


def _against(fit: Fit, reference: Fit | None) -> tuple[float, float]:
    """Worst |mean - reference mean| / reference sd over scalar parameters, and the smallest sd / reference sd."""
    if reference is None or reference is fit or reference.is_point:
        return NAN, NAN
    pairs = list(_scalars(fit, reference))
    if not pairs:
        return NAN, NAN
    bias = max(float((np.abs(a.mean(0) - b.mean(0)) / b.std(0)).max()) for a, b in pairs)
    ratio = min(float((a.std(0) / b.std(0)).min()) for a, b in pairs)
    return bias, NAN if fit.is_point else ratio


def _scalars(fit: Fit, reference: Fit) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draws of the scalars that vary in the reference, variable by variable: (S, P), (R, P)."""
    mine, theirs = fit.draws(), reference.draws()
    for name in theirs:
        if name in mine and mine[name].shape[1:] == theirs[name].shape[1:]:
            a, b = (draws[name].reshape(len(draws[name]), -1) for draws in (mine, theirs))
            varies = b.std(0) > 1e-12 * np.abs(b).max(initial=1e-300)
            if varies.any():
                yield a[:, varies], b[:, varies]


def _varying(posterior: xr.Dataset) -> xr.Dataset:
    """The entries of the posterior that vary, each variable as one row of them: constants have no R-hat and no ESS."""
    flat = {}
    for name, values in posterior.data_vars.items():
        stacked = values.values.reshape(*values.shape[:2], -1)
        varies = stacked.std((0, 1)) > 1e-12 * np.abs(stacked).max(initial=1e-300)
        if varies.any():
            flat[str(name)] = (("chain", "draw", f"{name}_entry"), stacked[..., varies])
    return xr.Dataset(flat)
