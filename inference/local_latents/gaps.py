"""How far a guide's bound is from log p(x), and why: its family, or its encoder (Cremer, Li and Duvenaud 2018).

log p(x) - ELBO(q) = [log p(x) - ELBO(q*)] + [ELBO(q*) - ELBO(q)], approximation gap and amortisation gap, where q* is
the best member of the guide's family for that row alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from ..fit.importance import Estimate, joined
from ..fit.moments import bias_and_sd_ratio, moments
from .families import best_in_family, fine_tuned
from .latent_nuts import LatentDraws, latent_nuts
from .marginal import METHODS, Budget, marginal_estimates
from .target import Target, target_of

CAREFUL = Budget(chains=128)  # few rows: chains cost little
MOMENTS = 10_000  # draws for the mean and sd of a q that has no formula for them


def amortisation_gaps(
    model: Any,
    guides: Mapping[str, Any],
    x: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    evidence: str = "ais",
    budget: Budget | None = None,
    steps: int = 1000,
    nuts: LatentDraws | Mapping[str, Any] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The two gaps of each guide on each row, and how its q(z | x) compares with NUTS; params stay as they are.

    Parameters
    ----------
    model : a `RowDensity` of the chosen rows; or what has log_joint(z, x), or is that function. Its params are those
        for which all guides were trained.
    guides : name -> guide, each with posterior(x, rows), or a function x -> Distribution.
    x : (M, ...), the chosen rows of such a function. rows : (M,), their numbers among the training rows.
    evidence : the method that log p(x) is taken from; ais starts from the prior, ais_guide from the first guide.
    budget : of that method, and its `draws` for each ELBO.
    steps : of the search for q*. The family is read off q; a q that is not Gaussian is sought by training a copy of the
        whole guide on each row, or not at all (NaN) where the guide is no nn.Module.
    nuts : draws to compare with, or settings for `latent_nuts`; None runs it as it comes.

    Returns
    -------
    DataFrame
        A row each (guide, row): family; log_p, elbo, elbo_best, approximation_gap, amortisation_gap, each with its
        Monte Carlo standard error (_se), nats; bias, the largest |mean - NUTS mean| / NUTS sd over latents; sd_ratio,
        the smallest sd / NUTS sd; rhat and ess_bulk of NUTS, and whether it converged: where a row's posterior has
        several modes it may not have, and bias and sd_ratio then mean nothing.
    """
    budget = budget or CAREFUL
    targets = {name: target_of(model, guide, x, rows) for name, guide in guides.items()}
    first = next(iter(guides.values()))
    log_p = marginal_estimates(model, first, x, (evidence,), budget=budget, rows=rows, seed=seed)[evidence]
    if not isinstance(nuts, LatentDraws):
        nuts = latent_nuts(next(iter(targets.values())).density, **{"seed": seed, "progress": False, **(nuts or {})})
    tables = {}
    for name, target in targets.items():
        with target.isolated(seed + 1):
            best, family = _best_elbo(target, guides[name], budget, steps)
            elbo = METHODS["elbo"](target, budget)
            tables[name] = _table(target, family, log_p, elbo, best, nuts)
    return pd.concat(tables, names=["guide", "row"])


def summarised(gaps: pd.DataFrame) -> pd.DataFrame:
    """A row a guide: the mean gaps and their sum with standard errors, rows fixed, nats.

    rows, and on how many of them NUTS converged; bias, sd_ratio: medians over those.
    """
    table = {}
    for guide, rows in gaps.groupby(level="guide", sort=False):
        row: dict[str, Any] = {"family": rows["family"].iloc[0]}
        for name in ("approximation_gap", "amortisation_gap"):
            row |= {name: rows[name].mean(), f"{name}_se": _mean_se(rows[f"{name}_se"])}
        row["gap"] = (rows["log_p"] - rows["elbo"]).mean()
        row["gap_se"] = _mean_se(np.hypot(rows["log_p_se"], rows["elbo_se"]))
        sound = rows[rows["converged"]]
        row |= {"bias": sound["bias"].median(), "sd_ratio": sound["sd_ratio"].median()}
        table[guide] = row | {"rows": len(rows), "converged": len(sound)}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("guide")


def _best_elbo(target: Target, guide: Any, budget: Budget, steps: int) -> tuple[Estimate | None, str]:
    """The ELBO of q*, and which family it is the best of."""
    q, family = best_in_family(target.density.log_joint, target.q, steps=steps)
    elbo = METHODS["elbo"]
    if q is not None:
        return elbo(replace(target, posterior=lambda x, rows: q), budget), family
    if not isinstance(guide, nn.Module):
        return None, family
    tuned = replace(target, posterior=fine_tuned(target, guide, steps=steps))
    return joined([elbo(row, budget) for row in tuned.blocks(1)]), family


def _table(
    target: Target, family: str, log_p: Estimate, elbo: Estimate, best: Estimate | None, nuts: LatentDraws
) -> pd.DataFrame:
    """One guide's rows."""
    best_value, best_se = (np.nan, np.nan) if best is None else (best.value, best.se)
    table = pd.DataFrame({"family": family}, index=pd.Index(target.rows.tolist()))
    table["log_p"], table["log_p_se"] = log_p.value, log_p.se
    table["elbo"], table["elbo_se"] = elbo.value, elbo.se
    table["elbo_best"], table["elbo_best_se"] = best_value, best_se
    table["approximation_gap"], table["approximation_gap_se"] = log_p.value - best_value, np.hypot(log_p.se, best_se)
    table["amortisation_gap"], table["amortisation_gap_se"] = best_value - elbo.value, np.hypot(best_se, elbo.se)
    mean, sd = (value.cpu().numpy() for value in moments(target.q, MOMENTS))
    table["bias"], table["sd_ratio"] = bias_and_sd_ratio(mean, sd, nuts.mean, nuts.sd)
    table["rhat"], table["ess_bulk"], table["converged"] = nuts.rhat, nuts.ess_bulk, nuts.converged
    return table


def _mean_se(se: pd.Series) -> float:
    return float(np.linalg.norm(se) / len(se))
