"""Where log p(x) is known: the mean of p-hat is p(x), the mean of log p-hat is not log p(x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from .estimators import log_weights
from .isolation import isolated
from .target import target_of

__all__ = ["unbiasedness"]


def unbiasedness(
    model: Any,
    guide: Any,
    x: Tensor,
    truth: Tensor,
    *,
    proposal: str = "guide",
    sizes: Sequence[int] = (1, 2, 5, 20, 100, 500),
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Importance sampling with n draws, over and over, against log p(x) as it is.

    truth: log p(x_n), (M,), nats. proposal: whence the draws, guide or prior. A row a size n: ratio, the mean over
    repetitions and rows of p-hat / p(x), which is 1 for every n, and ratio_se; log_error, the mean of log p-hat -
    log p(x), below 0 for every n, and log_error_se; predicted, -var(w / p(x)) / 2n, what the delta method makes of it
    for large n. At n = 1 log_error is the ELBO's gap. (p-hat / p(x) - 1, of mean 0, is taken off log_error term by
    term: nearly all of the noise goes with it.)
    """
    target = target_of(model, guide, x)
    with isolated(seed, x.dtype):
        weights = log_weights(target, draws, proposal) - truth.double()
    variance = weights.exp().var(0).mean()
    table = {}
    for size in sizes:
        groups = weights[: draws // size * size].unflatten(0, (-1, size)).logsumexp(1) - math.log(size)
        ratio, ratio_se = _mean_and_error(groups.exp())
        log_error, log_error_se = _mean_and_error(groups - groups.expm1())
        predicted = float(-variance / (2 * size))
        table[size] = (ratio, ratio_se, log_error, log_error_se, predicted)
    columns = ["ratio", "ratio_se", "log_error", "log_error_se", "predicted"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("draws")


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    """Of independent repetitions (S, M), rows fixed."""
    per_row = values.std(0) / math.sqrt(len(values))
    return float(values.mean()), float(torch.linalg.vector_norm(per_row) / values.shape[1])
