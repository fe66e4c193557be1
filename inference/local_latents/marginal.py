"""log p(x) of each row under a model with a latent vector a row, by every usual estimator, side by side."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

import numpy as np
import pandas as pd
import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from ...errors import InputError
from ..fit.importance import Estimate, bound, joined, log_mean
from .ais import FEWEST, Budget, Pilot, anneal, pilot
from .target import Target

TIMES = (2.0, 4.0)  # as many temperatures for rows whose error is too large, at least and at most


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


def ais(target: Target, budget: Budget, start: Callable[[Target], Distribution]) -> Estimate:
    """Annealed importance sampling from a start, with as many temperatures as the error of a row asks for.

    Rows whose standard error is above `budget.error` are annealed again, the variance of log weights falling as one
    over the number of temperatures. Each run is unbiased by itself; which of them counts depends on the spread of its
    weights, which leaves a bias of the order of the squared error.
    """
    known = pilot(target.density.log_joint, start(target), budget)
    temperatures = min(FEWEST, budget.temperatures) if budget.error > 0 else budget.temperatures
    found = _annealed(target, budget, start, known, temperatures)
    while temperatures < budget.temperatures and (off := ~(found.se <= budget.error)).any():
        times = np.nan_to_num((found.se[off].max() / budget.error) ** 2, nan=TIMES[1], posinf=TIMES[1])
        temperatures = min(budget.temperatures, int(temperatures * np.clip(times, *TIMES)))
        again = torch.as_tensor(off.nonzero()[0] if target.can_be_cut else np.arange(len(off)))
        some = known._replace(steps=known.steps[:, again])
        better = _annealed(target.take(again), budget, start, some, temperatures)
        for column, new in zip(found, better, strict=True):
            column[again.numpy()] = new
    return found


def _annealed(
    target: Target, budget: Budget, start: Callable[[Target], Distribution], known: Pilot, temperatures: int
) -> Estimate:
    return log_mean(anneal(target.density.log_joint, start(target), budget, known, temperatures).log_weights)


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
    "ais": partial(ais, start=attrgetter("density.prior")),
    "ais_guide": partial(ais, start=attrgetter("q")),
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
        log_weight_sd, khat: mean effective sample size, spread of the log weights and Pareto k a row, of those rows
        whose weights have a tail; ess near one or khat above 0.7 means that neither nats nor se can be believed.
        draws: a row; seconds.

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
            "khat": found.khat[has_tail].mean() if (has_tail := ~np.isnan(found.khat)).any() else math.nan,
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
