"""Means and spreads: of the posterior's scalars one by one with their Monte Carlo errors, and how far apart two are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from ..runtime.arviz import ess, psislw

if TYPE_CHECKING:
    from .fit import Fit

ROUNDING = 1e-12  # relative


class Scalars(NamedTuple):
    """names: of P scalars, `locs[0, waiting]` say. shapes: of the variables they are entries of.

    draws: (S, P), chains end to end. chains: 0 of independent draws.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    draws: np.ndarray
    chains: int

    def of(self, names: Sequence[str]) -> Scalars:
        """Some of them, in that order."""
        place = {name: number for number, name in enumerate(self.names)}
        places = [place[name] for name in names]
        return Scalars(tuple(names), tuple(self.shapes[n] for n in places), self.draws[:, places], self.chains)

    def moving(self) -> Scalars:
        """Those that vary by more than rounding."""
        sizes = np.abs(self.draws).max(0, initial=1e-300)
        moves = self.draws.std(0) > ROUNDING * sizes
        return self.of([name for name, moved in zip(self.names, moves, strict=True) if moved])


class Moments(NamedTuple):
    """Means and standard deviations of scalars, and the Monte Carlo standard errors of both: each (P,)."""

    mean: np.ndarray
    sd: np.ndarray
    mean_se: np.ndarray
    sd_se: np.ndarray


def scalars_of(fit: Fit, var_names: Collection[str] | None = None) -> Scalars:
    """The scalars of a fit, of these variables or of all."""
    names, shapes, columns = list[str](), list[tuple[int, ...]](), []
    for variable, values in fit.posterior.data_vars.items():
        if var_names is None or variable in var_names:
            dims = [str(dim) for dim in values.dims[2:]]
            labels = [values.coords[dim].values if dim in values.coords else range(values.sizes[dim]) for dim in dims]
            for place in np.ndindex(values.shape[2:]):
                entry = ", ".join(str(labels[i][n]) for i, n in enumerate(place))
                names.append(f"{variable}[{entry}]" if place else str(variable))
                shapes.append(values.shape[2:])
            columns.append(values.values.reshape(fit.number, -1))
    draws = np.concatenate(columns, 1) if columns else np.zeros((fit.number, 0))
    return Scalars(tuple(names), tuple(shapes), draws, int(fit.posterior.sizes["chain"]) if fit.is_mcmc else 0)


def moments_of(scalars: Scalars) -> Moments:
    """Those of draws; of Markov chains their effective numbers count."""
    draws = scalars.draws
    number: np.ndarray | float = float(len(draws))
    if scalars.chains and draws.size:
        number = np.maximum(ess(draws.reshape(scalars.chains, -1, draws.shape[1]), "mean"), 1.0)
    return _with_errors(draws.mean(0), draws.std(0), number)


def weighted_moments(scalars: Scalars, log_weights: np.ndarray) -> Moments:
    """Those of the target of importance weights (S,), Pareto-smoothed (Vehtari et al. 2024), self-normalised."""
    smoothed = psislw(log_weights)[0]
    weights = np.exp(smoothed - smoothed.max())
    weights /= weights.sum()
    mean = weights @ scalars.draws
    off = scalars.draws - mean
    variance = weights @ off**2
    mean_se = np.sqrt(weights**2 @ off**2)
    sd = np.sqrt(np.maximum(variance, 1e-300))
    return Moments(mean, sd, mean_se, np.sqrt(weights**2 @ (off**2 - variance) ** 2) / (2 * sd))


def _with_errors(mean: np.ndarray, sd: np.ndarray, number: np.ndarray | float) -> Moments:
    """number: of independent draws, or as many as they are worth. An sd's error is that of a normal's."""
    return Moments(mean, sd, sd / np.sqrt(number), sd / np.sqrt(2 * number))


def varies(draws: np.ndarray) -> np.ndarray:
    """Whether each entry varies over the draws by more than rounding: (S, P) -> (P,)."""
    return draws.std(0) > ROUNDING * np.abs(draws).max(initial=1e-300)


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
