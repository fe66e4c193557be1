"""Means and standard deviations of draws, and how far they lie from those of a reference."""

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Distribution


def varies(draws: np.ndarray) -> np.ndarray:
    """Whether each entry varies over the draws by more than rounding: (S, P) -> (P,)."""
    return draws.std(0) > 1e-12 * np.abs(draws).max(initial=1e-300)


def bias_and_sd_ratio(
    mean: np.ndarray, sd: np.ndarray, reference_mean: np.ndarray, reference_sd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The largest |mean - reference mean| / reference sd, and the smallest sd / reference sd: (..., P) -> (...)."""
    return (np.abs(mean - reference_mean) / reference_sd).max(-1), (sd / reference_sd).min(-1)


def moments(q: Distribution, draws: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of q, by formula where it has one, else from so many draws."""
    with torch.no_grad():
        try:
            return q.mean, q.stddev
        except NotImplementedError:  # a flow's
            values = q.sample(Size((draws,)))
            return values.mean(0), values.std(0)
