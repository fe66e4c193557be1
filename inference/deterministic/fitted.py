"""From a model and its data to a target, and from what a method found on it to a Fit."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, check_memory, check_positive, check_seed
from ...models.arguments import blamed
from ...models.structure import Model, model_name
from ..compilation.compiled import Compile, check_compile
from ..data.as_data import DataLike, data_for
from ..density.batch_size import on_all_rows
from ..density.log_density import Density
from ..fit.fit import Fit
from ..fit.idata import fit_of
from ..runtime.arviz import psislw
from ..runtime.isolation import one_thread_if_small
from .gaussian import Gaussian
from .target import Target, target_of

NONE = np.zeros(0)


@dataclass(frozen=True)
class Options:
    """What all these methods are told. method, family: for messages. calls: gradients, about. unknown: refused.

    max_dim: the most unconstrained dimensions that the method's matrices are made for; None where it has none.
    """

    method: str
    family: str
    name: str
    draws: int
    seed: int
    compile: Compile
    dtype: torch.dtype | None
    calls: int
    unknown: Mapping[str, Any]
    max_dim: int | None = None


class Found(NamedTuple):
    """What a method found. points: draws of its q, (S, dim). log_q: of these, nats, (S,).

    keep: how many draws to resample from them in proportion to their weights; None keeps them as they are. losses:
    minus the ELBO of each step, nats. after: what is yet to be done with the Fit, within `isolated`.
    """

    points: np.ndarray
    log_q: np.ndarray
    keep: int | None = None
    steps: int = 0
    losses: np.ndarray = NONE
    message: str = ""
    remarks: tuple[str, ...] = ()
    after: Callable[[Fit], Fit] | None = None


def drawn(q: Gaussian, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """So many draws of q and their log q: (S, dim), (S,)."""
    points = q.draw(rng.standard_normal((draws, len(q.loc))))
    return points, q.log_prob(points)


def fitted(model: Model, x: DataLike, options: Options, find: Callable[[Target, np.random.Generator], Found]) -> Fit:
    """The Fit of what `find` finds on a model's density.

    Raises InputError for bad data or options, a model without continuous sites, one whose discrete sites cannot be
    summed out, and one whose density is finite nowhere that was tried.
    """
    began = time.perf_counter()
    check_positive(draws=options.draws)
    check_seed(options.seed)
    check_compile(options.compile)
    for option in options.unknown:
        whose = f"{options.method} has no option {option!r}"
        raise InputError(f"{whose}: it fits {options.family}; for another guide take svi(model, guide, x)")
    model = on_all_rows(model)
    data, _ = data_for(model, x, options.dtype)
    with blamed(model), one_thread_if_small(data.numel), data.isolated(options.seed):
        density = Density(model, data)
        if not density.structure.latent:
            raise InputError(
                f"model {model_name(model)} has no continuous latent site: there is nothing to approximate"
            )
        if options.max_dim is not None and density.dim > options.max_dim:
            have = f"model {model_name(model)} has {density.dim} unconstrained dimensions"
            mend = "take pathfinder, or svi with the guide auto_normal"
            raise InputError(f"{have}, and {options.method} takes at most {options.max_dim}: {mend}")
        check_memory(density.dim, draws=options.draws)
        target = target_of(density, options.seed, options.calls, options.compile)
        compiled, _, why = target.compiled.partition(": ")
        if why:
            warnings.warn(f"{options.name}: the density runs as {compiled}, for {why}", stacklevel=3)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is not finite is left aside
            found = find(target, np.random.default_rng(options.seed))
        fit = _as_fit(target, found, options, compiled)
        fit = found.after(fit) if found.after else fit
    return replace(fit, seconds=time.perf_counter() - began)


def _as_fit(target: Target, found: Found, options: Options, compiled: str) -> Fit:
    """Draws, weights and pointwise likelihoods. Where draws are resampled, the weights are those before."""
    density = target.density
    log_weights = target(found.points)[0] - found.log_q
    rest: dict[str, Any] = {"log_weights": log_weights, "elbo_draws": log_weights, "losses": found.losses}
    rest |= {"steps": found.steps, "message": found.message, "compiled": compiled}
    points = found.points
    if found.keep is not None:
        points = points[resampled(log_weights, found.keep, np.random.default_rng(options.seed))]
    fit = fit_of(options.name, options.method, density, sites_at(density, points), **rest)
    if found.keep is not None:
        in_pivot = np.ones(len(log_weights), bool)
        if fit.labels:
            in_pivot = fit_of("", "", density, sites_at(density, found.points), likelihood=None).in_pivot
        fit = replace(fit, in_pivot=in_pivot)
    return replace(fit, remarks=(*fit.remarks, *found.remarks))


def sites_at(density: Density, points: np.ndarray) -> dict[str, Tensor]:
    """Constrained sites at points (S, dim), as one chain, or (chains, S, dim): name -> (chains, S, ...)."""
    flat = torch.as_tensor(points).to(density.data.like)
    sites, _ = density.constrain(flat if flat.dim() == 3 else flat.unsqueeze(0))
    return sites


def resampled(log_weights: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of draws chosen in proportion to their Pareto-smoothed weights (Vehtari et al. 2024): (number,).

    Systematically, so that what is resampled adds the least noise, and in no order.
    """
    finite = np.flatnonzero(np.isfinite(log_weights))
    if not len(finite):
        return rng.integers(len(log_weights), size=number)
    smoothed = psislw(log_weights[finite])[0]
    weights = np.exp(smoothed - smoothed.max())
    places = (rng.random() + np.arange(number)) / number
    chosen = np.searchsorted(weights.cumsum() / weights.sum(), places).clip(max=len(finite) - 1)
    return rng.permutation(finite[chosen])
