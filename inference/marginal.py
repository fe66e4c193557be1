"""log p(x) of each row under a model with a latent variable a row, by every usual estimator, side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ..errors import InputError
from .estimate import Estimate, joined
from .estimators import METHODS, USUAL, Budget, Method
from .isolation import isolated
from .target import Target, target_of

__all__ = ["log_likelihood", "marginal_estimates", "marginal_likelihood"]


def marginal_estimates(
    model: Any,
    guide: Any,
    x: Tensor,
    methods: Sequence[str] = USUAL,
    *,
    budget: Budget | None = None,
    rows: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Each method's estimate of log p(x_n), row by row: name -> Estimate of (M,) arrays.

    Every method starts from the same seed, so that the ELBO and the IWAE bounds see the same draws of the guide.
    """
    target, budget = target_of(model, guide, x, rows), budget or Budget()
    return {name: _over_blocks(_method(name), target, budget, seed) for name in methods}


def marginal_likelihood(
    model: Any,
    guide: Any,
    x: Tensor,
    methods: Sequence[str] = USUAL,
    *,
    budget: Budget | None = None,
    rows: Tensor | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The marginal likelihood of a trained latent-variable model, one row a method.

    Parameters
    ----------
    model : has log_joint(z, x), as a VAE has, or is that function: z (..., M, L), x (M, ...) -> (..., M), nats.
    guide : has posterior(x, rows), as a VAE's guides have, or is x -> Distribution, or a Distribution: batch (M,),
        event (L,).
    x : (M, ...).
    methods : of naive, elbo, iwae_5, iwae_50, iwae_500, importance, ais (from the prior), ais_guide.
    budget : draws, chains and temperatures.
    rows : (M,), which training rows these are, for guides that need to know.

    Returns
    -------
    DataFrame
        nats: mean over rows; se: its Monte Carlo standard error, rows fixed. log_bias: by the delta method, how far
        E[log p-hat] lies below log p(x) though p-hat is unbiased; NaN for the bounds, which are biased by design. ess,
        log_weight_sd, khat: mean effective sample size, spread of the log weights and Pareto k a row; ess near one or
        khat above 0.7 means that neither nats nor se can be believed. draws: a row; seconds.

    Raises
    ------
    InputError
        An unknown method, or shapes that do not agree.
    """
    target, budget = target_of(model, guide, x, rows), budget or Budget()
    table = {}
    for name in methods:
        method, began = _method(name), time.perf_counter()
        estimate = _over_blocks(method, target, budget, seed)
        table[name] = _row(name, estimate, budget, time.perf_counter() - began)
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("method")


def log_likelihood(
    model: Any,
    guide: Any,
    x: Tensor,
    method: str = "importance",
    *,
    budget: Budget | None = None,
    rows: Tensor | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """One method's estimate of log p(x_n) a row, nats: a DataFrame (M, 5), estimate, se, ess, log_weight_sd, khat."""
    estimate = marginal_estimates(model, guide, x, (method,), budget=budget, rows=rows, seed=seed)[method]
    return pd.DataFrame(estimate._asdict()).rename(columns={"value": "estimate"})


def _method(name: str) -> Method:
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown: choose from {', '.join(METHODS)}")
    return METHODS[name]


def _over_blocks(method: Method, target: Target, budget: Budget, seed: int) -> Estimate:
    with isolated(seed, target.x.dtype):
        return joined([method(block, budget) for block in target.blocks()])


def _row(name: str, estimate: Estimate, budget: Budget, seconds: float) -> dict[str, float]:
    rows = len(estimate.value)
    is_bound = name == "elbo" or name.startswith("iwae")
    return {
        "nats": float(estimate.value.mean()),
        "se": float(np.sqrt((estimate.se**2).sum()) / rows),
        "log_bias": math.nan if is_bound else float(estimate.log_bias.mean()),
        "ess": float(estimate.ess.mean()),
        "log_weight_sd": float(estimate.log_weight_sd.mean()),
        "khat": float(estimate.khat.mean()),
        "draws": float(budget.chains if name.startswith("ais") else budget.draws),
        "seconds": seconds,
    }
