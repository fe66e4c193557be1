"""Importance weights of a fit: how far they can be believed, and the evidence they give."""

from __future__ import annotations

import numpy as np

from .estimate import pareto_k
from .fit import Fit

__all__ = ["khat", "log_evidence"]


def khat(fit: Fit) -> float:
    """Pareto k of the importance weights with discrete sites summed out (Vehtari et al. 2024): good below 0.7."""
    return float(pareto_k(fit.log_weights[:, None])[0]) if len(fit.log_weights) else float("nan")


def log_evidence(fit: Fit) -> float:
    """log p(x) in nats by importance sampling from the guide; NaN without weights, or under a flat prior.

    Where labels are exchangeable the posterior repeats itself in K! labellings, of which a guide covers one. The
    weights are therefore averaged over the draws of one labelling only, and multiplied by the number of labellings.
    """
    if not len(fit.log_weights) or any(site.flat for site in fit.structure.latent):
        return float("nan")
    weights = np.where(fit.in_pivot, fit.log_weights, -np.inf)
    top = weights.max()
    return float(top + np.log(np.exp(weights - top).mean()) + fit.log_labellings)
