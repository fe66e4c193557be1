"""Pathfinder: the best Gaussian along the path of an optimizer, and several such paths, resampled."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp, softmax

from ...errors import InputError, check_name, check_positive, check_seed
from ...models.structure import Model, model_name
from ..compilation.compiled import Compile
from ..data.as_data import DataLike
from ..density.ascent import ascend
from ..fit.fit import Fit
from ..runtime.progress import progress_bar
from .fitted import Found, Options, drawn, fitted
from .gaussian import Gaussian
from .mode import gaussians
from .start import best
from .target import Target

CALLS = 1500  # gradients a path, about
ELBO_DRAWS = 20  # of each Gaussian of a path, in pairs about its mean
FINAL_DRAWS = 200  # of the best of each path


def pathfinder(
    model: Model,
    x: DataLike,
    *,
    paths: int = 8,
    draws: int = 1000,
    seed: int = 0,
    compile: Compile = "auto",
    dtype: torch.dtype | None = None,
    progress: bool = True,
    name: str = "pathfinder",
    **unknown: Any,
) -> Fit:
    """Pathfinder (Zhang, Carpenter, Gelman and Vehtari 2022), discrete sites summed out exactly.

    L-BFGS climbs from a random start; at each step its own inverse Hessian makes a Gaussian, and the one of the highest
    ELBO is q. Several paths make a mixture of these, each with the share exp(ELBO), which is the best one where they do
    not overlap; its draws are resampled in proportion to their Pareto-smoothed weights.

    Parameters
    ----------
    model : any Pyro program; minibatches are switched off.
    x, dtype : what the model takes, as `compare` has it, in float64 by default.
    paths : each from `model.init` with a seed of its own where the model has it, else from a random start. One path is
        not resampled.
    draws : of the posterior; several paths have as many each before these are resampled.
    seed : the same seed gives the same numbers.
    compile : run the density as one compiled function, as `nuts` has it.
    progress : show a bar; a line every ten seconds where there is no terminal or notebook.
    name : what the Fit is called in tables.

    Returns
    -------
    Fit
        log_weights: log p(x, theta) - log q(theta) of the draws before they were resampled, q the mixture, nats: the
        ELBO, k-hat and evidence are the mixture's. The resampled draws have spent their weights, and are to be believed
        as far as k-hat is.

    Raises
    ------
    InputError
        Bad data or options, a model without continuous sites, one whose discrete sites cannot be summed out, or whose
        density is finite nowhere it was tried, or not along any path.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> fit = pyrometer.pathfinder(CorrelatedGaussian(), "faithful", paths=2, progress=False)
    >>> fit.posterior["loc"].mean(("chain", "draw")).values.round(1).tolist()
    [3.5, 70.9]
    """
    check_positive(paths=paths, draws=draws)
    seed, name = check_seed(seed), check_name(name)
    find = partial(_found, paths=paths, draws=draws, seed=seed, progress=progress, name=name)
    calls = CALLS * paths + draws * paths
    options = Options("Pathfinder", "the Gaussians of L-BFGS", name, draws, seed, compile, dtype, calls, unknown)
    return fitted(model, x, options, find)


class Ended(NamedTuple):
    """The best Gaussian of a path, its ELBO in nats, and how many steps the path has."""

    q: Gaussian
    elbo: float
    steps: int


def _found(
    target: Target, rng: np.random.Generator, *, paths: int, draws: int, seed: int, progress: bool, name: str
) -> Found:
    with progress_bar(paths, name, progress, unit="path") as bar:
        ends = []
        for start in target.starts(seed, paths):
            ends.append(_path(target, start, rng))
            bar.update()
    sound = [end for end in ends if end is not None and np.isfinite(end.elbo)]
    if not sound:
        what = f"none of {paths} paths on model {model_name(target.density.model)} came to a Gaussian of finite ELBO"
        raise InputError(f"{what}: check the priors against the data's scale, or take svi or nuts")
    lost = f"{paths - len(sound)} of {paths} paths came to no Gaussian of finite ELBO" if len(sound) < paths else ""
    rest: dict[str, Any] = {"steps": sum(end.steps for end in sound), "remarks": (lost,) if lost else ()}
    if len(sound) == 1:
        return Found(*drawn(sound[0].q, draws, rng), **rest)
    return Found(*_mixture(sound, draws * len(sound), rng), keep=draws, **rest)


def _path(target: Target, start: np.ndarray, rng: np.random.Generator) -> Ended | None:
    """The Gaussian of the highest ELBO along a path; None where there is none."""
    path = ascend(target.at, start)
    q, _ = best(target, [*gaussians(path)][::-1], ELBO_DRAWS, rng)
    return None if q is None else Ended(q, best(target, [q], FINAL_DRAWS, rng)[1], len(path.points) - 1)


def _mixture(ends: list[Ended], number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the mixture of the paths' Gaussians, and their log q: (S, dim), (S,)."""
    shares = softmax([end.elbo for end in ends])
    counts = np.floor(shares * number + rng.random()).astype(int)
    parts = [end.q.draw(rng.standard_normal((count, len(end.q.loc)))) for end, count in zip(ends, counts, strict=True)]
    points = np.concatenate(parts)
    log_q = np.stack([end.q.log_prob(points) for end in ends], 1)
    return points, logsumexp(log_q, 1, b=shares)
