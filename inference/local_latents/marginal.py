"""log p(x) of each row under a model with a latent vector a row, by every usual estimator, side by side."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Size, Tensor

from ...errors import InputError
from ..fit.importance import Estimate, bound, joined, log_mean
from .ais import anneal
from .target import Target, target_of


@dataclass(frozen=True)
class Budget:
    """What an estimator may spend on a row: draws of importance sampling; chains, temperatures, leapfrogs of AIS."""

    draws: int = 5000
    chains: int = 16
    temperatures: int = 500
    leapfrogs: int = 5


Method: TypeAlias = Callable[[Target, Budget], Estimate]


def weighed(target: Target, draws: int, proposal: str = "guide") -> Iterator[tuple[Tensor, Tensor]]:
    """z (S, M, L) from the guide or the prior, and log p(x, z) - log q(z), (S, M), some draws at a time."""
    q = target.q if proposal == "guide" else target.density.prior
    for number in target.draws_at_once(draws):
        with torch.no_grad():
            z = q.sample(Size((number,)))
            yield z, (target.density.log_joint(z) - q.log_prob(z)).double()


def log_weights(target: Target, draws: int, proposal: str = "guide") -> Tensor:
    """The log weights of so many draws; their exponentials have mean p(x): (draws, M)."""
    return torch.cat([weights for _, weights in weighed(target, draws, proposal)])


def importance(target: Target, budget: Budget, proposal: str = "guide") -> Estimate:
    """log mean_s p(x, z_s) / q(z_s | x), z_s from the guide, or log mean_s p(x | z_s), z_s from the prior.

    Few draws of the prior land where p(x | z) is not nil: hence its variance.
    """
    return log_mean(log_weights(target, budget.draws, proposal))


def iwae(target: Target, budget: Budget, k: int) -> Estimate:
    """The bound of k draws, averaged over as many groups as the draws make, two at least; k = 1 is the ELBO."""
    return bound(log_weights(target, max(budget.draws, 2 * k)), k)


def ais(target: Target, budget: Budget, start: str = "prior") -> Estimate:
    """Annealed importance sampling from the prior, or from the guide."""
    first = target.density.prior if start == "prior" else target.q
    settings = {"chains": budget.chains, "temperatures": budget.temperatures, "leapfrogs": budget.leapfrogs}
    return log_mean(anneal(target.density.log_joint, first, **settings).log_weights)


METHODS: dict[str, Method] = {
    "naive": partial(importance, proposal="prior"),
    "elbo": partial(iwae, k=1),
    "iwae_5": partial(iwae, k=5),
    "iwae_50": partial(iwae, k=50),
    "iwae_500": partial(iwae, k=500),
    "importance": importance,
    "ais": ais,
    "ais_guide": partial(ais, start="guide"),
}
USUAL = tuple(name for name in METHODS if name != "ais_guide")


def marginal_estimates(
    model: Any,
    guide: Any,
    x: Tensor | None = None,
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
    return {name: _estimate(name, target, budget, seed) for name in methods}


def marginal_likelihood(
    model: Any,
    guide: Any,
    x: Tensor | None = None,
    methods: Sequence[str] = USUAL,
    *,
    budget: Budget | None = None,
    rows: Tensor | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The marginal likelihood of a trained latent-variable model, one row a method.

    Parameters
    ----------
    model : a `RowDensity`, of any program on its rows; or what has log_joint(z, x), as a VAE has, or is that function:
        z (..., M, L), x (M, ...) -> (..., M), nats, with z standard normal a priori.
    guide : has posterior(x, rows), as a VAE's guides have, or is x -> Distribution, or a Distribution: batch (M,),
        event (L,).
    x : (M, ...), the rows of such a function.
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
    target, budget, table = target_of(model, guide, x, rows), budget or Budget(), {}
    for name in methods:
        began = time.perf_counter()
        estimate = _estimate(name, target, budget, seed)
        table[name] = {
            "nats": estimate.value.mean(),
            "se": np.linalg.norm(estimate.se) / len(estimate.se),
            "log_bias": math.nan if name.startswith(("elbo", "iwae")) else estimate.log_bias.mean(),
            "ess": estimate.ess.mean(),
            "log_weight_sd": estimate.log_weight_sd.mean(),
            "khat": estimate.khat.mean(),
            "draws": float(budget.chains if name.startswith("ais") else budget.draws),
            "seconds": time.perf_counter() - began,
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("method")


def log_likelihood(
    model: Any, guide: Any, x: Tensor | None = None, method: str = "importance", **options: Any
) -> pd.DataFrame:
    """One method's estimate of log p(x_n) a row, nats: a DataFrame (M, 5), estimate, se, ess, log_weight_sd, khat.

    options: budget, rows and seed, as `marginal_estimates` has them.
    """
    estimate = marginal_estimates(model, guide, x, (method,), **options)[method]
    return pd.DataFrame(estimate._asdict()).rename(columns={"value": "estimate"})


def unbiasedness(
    model: Any,
    guide: Any,
    x: Tensor | None,
    truth: Tensor,
    *,
    proposal: str = "guide",
    sizes: Sequence[int] = (1, 2, 5, 20, 100, 500),
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Importance sampling with n draws, over and over, against log p(x) as it is known.

    truth: log p(x_n), (M,), nats. proposal: whence the draws, guide or prior. A row a size n: ratio, the mean over
    repetitions and rows of p-hat / p(x), which is 1 for every n, and ratio_se; log_error, the mean of log p-hat -
    log p(x), below 0 for every n, and log_error_se; predicted, -var(w / p(x)) / 2n, what the delta method makes of it
    for large n. At n = 1 log_error is the ELBO's gap. (p-hat / p(x) - 1, of mean 0, is taken off log_error term by
    term: nearly all of the noise goes with it.)
    """
    target = target_of(model, guide, x)
    with target.isolated(seed):
        weights = log_weights(target, draws, proposal) - truth.double()
    variance = weights.exp().var(0).mean()
    table = {}
    for size in sizes:
        groups = weights[: draws // size * size].unflatten(0, (-1, size)).logsumexp(1) - math.log(size)
        ratio, log_error = _mean_and_error(groups.exp()), _mean_and_error(groups - groups.expm1())
        table[size] = (*ratio, *log_error, float(-variance / (2 * size)))
    columns = ["ratio", "ratio_se", "log_error", "log_error_se", "predicted"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("draws")


def _estimate(name: str, target: Target, budget: Budget, seed: int) -> Estimate:
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown: choose from {', '.join(METHODS)}")
    with target.isolated(seed):
        return joined([METHODS[name](block, budget) for block in target.blocks()])


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    """Of independent repetitions (S, M), rows fixed."""
    per_row = values.std(0) / math.sqrt(len(values))
    return float(values.mean()), float(torch.linalg.vector_norm(per_row) / values.shape[1])
