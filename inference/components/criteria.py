"""What speaks for a number of components: bounds, evidence, information criteria, held-out density."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...models import GMM
from ...models.gaussians.moments import as_matrix
from ..data.data import Data
from ..evidence.log_evidence import Evidence, log_evidence
from ..fit.fit import Fit
from .allocations import allocation_evidence

NAN = float("nan")
ROUNDING = 1e-5  # nats: weights that differ by no more are equal, and have no tail


def evidence(fit: Fit) -> Evidence:
    """log p(x | K) over all labellings, nats; NaN where a fit has nothing to find it from.

    Of CAVI by Gibbs sampling from where it ended, where that can be had: its own q covers too little of more than two
    components.
    """
    found = (allocation_evidence(fit) if fit.estimator == "CAVI" else None) or log_evidence(fit)
    return found if found.se > ROUNDING else found._replace(khat=NAN)


def log_labellings(fit: Fit) -> float:
    """The log of how many labellings there are of what is exchangeable: log K! for the components of a mixture."""
    return sum(math.lgamma(fit.posterior.sizes[dim] + 1) for dim in fit.exchangeable)


def bounds(fit: Fit) -> tuple[float, np.ndarray]:
    """The ELBO at the end, and that of every start, log K! added; those of CAVI are exact. Nats: (), (starts,)."""
    if fit.estimator == "CAVI":
        return -float(fit.losses[-1]) + log_labellings(fit), log_labellings(fit) - fit.start_losses
    best = float(fit.elbo_draws.mean()) + log_labellings(fit) if len(fit.elbo_draws) else NAN
    return best, np.array([best])


def information_criteria(fit: Fit) -> dict[str, float]:
    """bic = p log N - 2 log L (Schwarz 1978), aic = 2 p - 2 log L (Akaike 1974) of a GMM fitted by EM.

    p: its free parameters, K - 1 weights among them.
    """
    model, (n, d) = fit.model, as_matrix(fit.data.values).shape
    assert isinstance(model, GMM)
    k = model.components
    of_covariances = {"full": k * d * (d + 1) // 2, "tied": d * (d + 1) // 2, "diagonal": k * d, "spherical": k}
    free, deviance = k - 1 + k * d + of_covariances[model.covariance], 2 * float(fit.losses[-1])
    return {"bic": deviance + free * math.log(n), "aic": deviance + 2 * free}


def cross_validated(fit_to: Callable[[Tensor], Fit], data: Data, parts: Sequence[Tensor]) -> np.ndarray:
    """log p(y_n | the rows outside its part), nats: (N,).

    fit_to: the numbers of the rows to fit -> Fit. parts: numbers of rows, every row in one of them.
    """
    rows = np.full(data.rows or 0, NAN)
    for part in parts:
        kept = torch.ones(len(rows), dtype=torch.bool)
        kept[part] = False
        rows[part.numpy()] = fit_to(kept.nonzero().flatten()).log_predictive(data.take(part))
    return rows
