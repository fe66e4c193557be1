"""log p(x) of each row under a model with a latent vector a row, by every usual estimator, side by side."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Size, Tensor

from ...errors import InputError
from ..fit.importance import Estimate, bound, joined, log_mean
from .ais import Budget, anneal
from .target import Target


def weighed(target: Target, draws: int) -> Iterator[tuple[Tensor, Tensor]]:
    """z (S, M, L) from the guide, and log p(x, z) - log q(z), (S, M), some draws at a time."""
    for number in target.draws_at_once(draws):
        with torch.no_grad():
            z = target.q.sample(Size((number,)))
            yield z, (target.density.log_joint(z) - target.q.log_prob(z)).double()


def log_weights(target: Target, draws: int) -> Tensor:
    """The log weights of so many draws; their exponentials have mean p(x): (draws, M)."""
    return torch.cat([weights for _, weights in weighed(target, draws)])


def importance(target: Target, budget: Budget) -> Estimate:
    """log mean_s p(x, z_s) / q(z_s | x), z_s from the guide."""
    return log_mean(log_weights(target, budget.draws))


def iwae(target: Target, budget: Budget, k: int) -> Estimate:
    """The bound of k draws, averaged over as many groups as the draws make, two at least; k = 1 is the ELBO."""
    return bound(log_weights(target, max(budget.draws, 2 * k)), k)


def ais(target: Target, budget: Budget) -> Estimate:
    """Annealed importance sampling from the guide."""
    return log_mean(anneal(target.density.log_joint, target.q, budget).log_weights)


def from_prior(target: Target) -> Target:
    """The same with the prior for a guide. Few draws of it land where p(x | z) is not nil: hence its variance."""
    return replace(target, guide=target.density.prior)


METHODS: dict[str, Callable[[Target, Budget], Estimate]] = {
    "naive": lambda target, budget: importance(from_prior(target), budget),
    "elbo": partial(iwae, k=1),
    "iwae_5": partial(iwae, k=5),
    "iwae_50": partial(iwae, k=50),
    "iwae_500": partial(iwae, k=500),
    "importance": importance,
    "ais": lambda target, budget: ais(from_prior(target), budget),
    "ais_guide": ais,
}
USUAL = tuple(name for name in METHODS if name != "ais_guide")


def estimate(target: Target, method: str, budget: Budget, seed: int = 0) -> Estimate:
    """One method's estimate of log p(x_n), row by row, nats: arrays (M,).

    Every method starts from the same seed, so that the ELBO and the IWAE bounds see the same draws of the guide.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown: choose from {', '.join(METHODS)}")
    with target.isolated(seed):
        return joined([METHODS[method](block, budget) for block in target.blocks()])


def marginal_likelihood(
    target: Target, methods: Sequence[str] = USUAL, budget: Budget | None = None, seed: int = 0
) -> pd.DataFrame:
    """The marginal likelihood of a trained latent-variable model, one row a method.

    methods: of naive, elbo, iwae_5, iwae_50, iwae_500, importance, ais (from the prior), ais_guide.

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
        An unknown method.
    """
    budget, table = budget or Budget(), {}
    for name in methods:
        began = time.perf_counter()
        found = estimate(target, name, budget, seed)
        table[name] = {
            "nats": found.value.mean(),
            "se": np.linalg.norm(found.se) / len(found.se),
            "log_bias": math.nan if name.startswith(("elbo", "iwae")) else found.log_bias.mean(),
            "ess": found.ess.mean(),
            "log_weight_sd": found.log_weight_sd.mean(),
            "khat": found.khat.mean(),
            "draws": float(budget.chains if name.startswith("ais") else budget.draws),
            "seconds": time.perf_counter() - began,
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("method")


def unbiasedness(
    target: Target,
    truth: Tensor,
    *,
    sizes: Sequence[int] = (1, 2, 5, 20, 100, 500),
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Importance sampling with n draws, over and over, against log p(x) as it is known.

    truth: log p(x_n), (M,), nats. A row a size n: ratio, the mean over
    repetitions and rows of p-hat / p(x), which is 1 for every n, and ratio_se; log_error, the mean of log p-hat -
    log p(x), below 0 for every n, and log_error_se; predicted, -var(w / p(x)) / 2n, what the delta method makes of it
    for large n. At n = 1 log_error is the ELBO's gap. (p-hat / p(x) - 1, of mean 0, is taken off log_error term by
    term: nearly all of the noise goes with it.)
    """
    with target.isolated(seed):
        weights = log_weights(target, draws) - truth.double()
    variance = weights.exp().var(0).mean()
    table = {}
    for size in sizes:
        groups = weights[: draws // size * size].unflatten(0, (-1, size)).logsumexp(1) - math.log(size)
        ratio, log_error = _mean_and_error(groups.exp()), _mean_and_error(groups - groups.expm1())
        table[size] = (*ratio, *log_error, float(-variance / (2 * size)))
    columns = ["ratio", "ratio_se", "log_error", "log_error_se", "predicted"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("draws")


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    """Of independent repetitions (S, M), rows fixed."""
    per_row = values.std(0) / math.sqrt(len(values))
    return float(values.mean()), float(torch.linalg.vector_norm(per_row) / values.shape[1])
