"""How far a guide's bound is from log p(x), and why: its family, or its encoder (Cremer, Li and Duvenaud 2018).

log p(x) - ELBO(q) = [log p(x) - ELBO(q*)] + [ELBO(q*) - ELBO(q)], approximation gap and amortisation gap, where q* is
the best member of the guide's family for that row alone. The family is read off the guide's own q, whose params are
also the start, so that the best can only be better than the guide. Every row has params of its own and Adam treats each
number apart, so all rows are optimised at once and none disturbs another.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Size, Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)
from torch.distributions.constraint_registry import transform_to
from torch.optim.lr_scheduler import CosineAnnealingLR

from ..fit.importance import joined
from ..fit.moments import bias_and_sd_ratio, moments
from ..runtime.isolation import one_thread_if_small
from .ais import UNITS, LogJoint
from .latent_nuts import LatentDraws, latent_nuts
from .marginal import Budget, estimate, iwae
from .target import Target

Score: TypeAlias = tuple[Any, Any]  # a figure of each row, nats, and its Monte Carlo standard error

CAREFUL = Budget(chains=128, error=0.02)  # few rows: chains cost little
MOMENTS = 10_000  # draws for the mean and sd of a q that has no formula for them
FAMILIES: dict[type[Distribution], tuple[str, tuple[str, ...]]] = {  # their names, and the params that are optimised
    Normal: ("mean_field", ("loc", "scale")),
    MultivariateNormal: ("full_covariance", ("loc", "scale_tril")),
    LowRankMultivariateNormal: ("low_rank", ("loc", "cov_factor", "cov_diag")),
}


def amortisation_gaps(
    targets: Mapping[str, Target],
    *,
    evidence: str = "ais",
    budget: Budget | None = None,
    steps: int = 1000,
    nuts: LatentDraws | Mapping[str, Any] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The two gaps of each guide on each row, and how its q(z | x) compares with NUTS; params stay as they are.

    Parameters
    ----------
    targets : name -> the chosen rows and the guide, all of one density, whose params are those for which all guides
        were trained.
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
    budget, first = budget or CAREFUL, next(iter(targets.values()))
    log_p = estimate(first, evidence, budget, seed)[:2]
    if not isinstance(nuts, LatentDraws):
        nuts = latent_nuts(first.density, **{"seed": seed, "progress": False, **(nuts or {})})
    tables = {}
    for name, target in targets.items():
        with target.isolated(seed + 1):
            family, best = _best_elbo(target, budget, steps)
            tables[name] = _table(target, family, log_p, iwae(target, budget, k=1)[:2], best, nuts)
    return pd.concat(tables, names=["guide", "row"])


def summarised(gaps: pd.DataFrame) -> pd.DataFrame:
    """A row a guide: the mean gaps and their sum with standard errors, rows fixed, nats.

    rows, and on how many of them NUTS converged; bias, sd_ratio: medians over those.
    """
    gap_se = np.hypot(gaps["log_p_se"], gaps["elbo_se"])
    by_guide = gaps.assign(gap=gaps["log_p"] - gaps["elbo"], gap_se=gap_se).groupby(level="guide", sort=False)
    figures = ("approximation_gap", "amortisation_gap", "gap")
    how = {column: fn for name in figures for column, fn in ((name, "mean"), (f"{name}_se", _mean_se))}
    table = by_guide.agg({"family": "first", **how})
    sound = gaps[gaps["converged"]].groupby(level="guide")
    table[["bias", "sd_ratio"]] = sound[["bias", "sd_ratio"]].median()
    table["rows"], table["converged"] = by_guide.size(), by_guide["converged"].sum()
    return table


def best_in_family(log_joint: LogJoint, q: Distribution, steps: int = 1000) -> tuple[str, Distribution | None]:
    """The name of a Gaussian q's family, or of a mixture of such, and its member of the largest ELBO, row by row.

    None for another q. log_joint: (..., M, L) -> (..., M). q: batch (M,), event (L,), where the search starts. The
    gradient is Roeder, Wu and Duvenaud's (2017, "sticking the landing"), free of noise where q reaches the posterior;
    of a mixture every component has draws of its own, weighed as it is, so that no gradient passes through a choice.
    The rate falls to nought by a cosine.
    """
    mixed = isinstance(q, MixtureSameFamily)
    parts = q.component_distribution if isinstance(q, MixtureSameFamily) else q
    base = parts.base_dist if isinstance(parts, Independent) else parts
    kind = next((kind for kind in FAMILIES if isinstance(base, kind)), None)
    if kind is None:
        return type(q).__name__, None
    family, names = FAMILIES[kind]
    transforms = {name: transform_to(base.arg_constraints[name]) for name in names}
    params = {name: transforms[name].inv(getattr(base, name)).detach().clone() for name in names}
    if isinstance(q, MixtureSameFamily):
        params["logits"] = q.mixture_distribution.logits.detach().clone()
    for value in params.values():
        value.requires_grad_()

    def member(params: Mapping[str, Tensor]) -> Distribution:
        found = kind(**{name: transforms[name](params[name]) for name in names})
        part = Independent(found, parts.reinterpreted_batch_ndims) if isinstance(parts, Independent) else found
        return MixtureSameFamily(Categorical(logits=params["logits"]), part) if mixed else part

    def fixed() -> Distribution:
        return member({name: value.detach() for name, value in params.items()})

    def loss() -> Tensor:
        z, weights = _draws_by_component(member(params), 16)
        return ((fixed().log_prob(z) - log_joint(z)).mean(0) * weights).sum()

    _descend(loss, list(params.values()), steps, lr=0.05)
    return f"mixture of {family}" if mixed else family, fixed()


def _draws_by_component(q: Distribution, number: int) -> tuple[Tensor, Tensor]:
    """Draws (number, K, M, L) of each component of a mixture, gradients flowing, and weights (K, M); 1 of others."""
    if not isinstance(q, MixtureSameFamily):
        return q.rsample(Size((number,))), torch.ones(())
    z = q.component_distribution.rsample(Size((number,)))
    return z.movedim(2, 1), q.mixture_distribution.probs.T


def fine_tuned(target: Target, steps: int = 1000) -> list[Target]:
    """Each row alone, with a whole copy of the guide that was trained on it until it knows nothing else.

    This is the way to the best member of a family that has no params a row, such as a flow fed by an encoder.
    """

    def tuned(one: Target) -> Target:
        own = copy.deepcopy(target.guide).requires_grad_()

        def loss() -> Tensor:
            q = one.trainable_q(own)
            z = q.rsample(Size((32,)))
            return (q.log_prob(z) - one.density.log_joint(z)).mean()

        _descend(loss, [value for value in own.parameters() if value.is_floating_point()], steps, lr=3e-3)
        return replace(one, guide=own)

    return [tuned(one) for one in target.blocks(1)]


def _descend(loss: Callable[[], Tensor], params: list[Tensor], steps: int, lr: float) -> None:
    """Adam, its rate falling to nought by a cosine."""
    optimizer = torch.optim.Adam(params, lr)
    schedule = CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad(), one_thread_if_small(UNITS * sum(value.numel() for value in params)):
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward(inputs=params)
            optimizer.step()
            schedule.step()


def _difference(a: Score, b: Score) -> Score:
    """Of two figures that are independent."""
    return a[0] - b[0], np.hypot(a[1], b[1])


def _best_elbo(target: Target, budget: Budget, steps: int) -> tuple[str, Score]:
    """Which family q* is the best of, and its ELBO; NaN where it cannot be sought."""
    family, q = best_in_family(target.density.log_joint, target.q, steps)
    if q is not None:
        return family, iwae(replace(target, guide=q), budget, k=1)[:2]
    if not isinstance(target.guide, nn.Module):
        return family, (np.nan, np.nan)
    each = [iwae(row, budget, k=1) for row in fine_tuned(target, steps)]
    return family, joined(each)[:2]


def _table(target: Target, family: str, log_p: Score, elbo: Score, best: Score, nuts: LatentDraws) -> pd.DataFrame:
    """One guide's rows."""
    table = pd.DataFrame({"family": family}, index=pd.Index(target.rows.tolist()))
    gaps = {"approximation_gap": _difference(log_p, best), "amortisation_gap": _difference(best, elbo)}
    for name, score in {"log_p": log_p, "elbo": elbo, "elbo_best": best, **gaps}.items():
        table[name], table[f"{name}_se"] = score
    mean, sd = (value.cpu().numpy() for value in moments(target.q, MOMENTS))
    table["bias"], table["sd_ratio"] = bias_and_sd_ratio(mean, sd, nuts.mean, nuts.sd)
    table["rhat"], table["ess_bulk"], table["converged"] = nuts.rhat, nuts.ess_bulk, nuts.converged
    return table


def _mean_se(se: pd.Series) -> float:
    return float(np.linalg.norm(se) / len(se))
