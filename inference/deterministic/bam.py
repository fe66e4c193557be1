"""Batch and match: a full Gaussian whose scores match the posterior's, by closed-form updates."""

from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
import torch

from ...errors import InputError, check_name, check_positive, check_seed
from ...models.structure import Model, model_name
from ..compilation.compiled import Compile
from ..data.as_data import DataLike
from ..fit.fit import Fit
from ..runtime.progress import progress_bar
from .fitted import Found, Options, drawn, fitted
from .gaussian import FullGaussian, averaged, kl, update
from .start import nearest
from .target import Target

MAX_DIM = 2000
WINDOW = 20  # updates, over which q is averaged, and held to the average before
MOVED = 0.001  # nats a dimension: less than this between two averages is stationary


def bam(
    model: Model,
    x: DataLike,
    *,
    batch: int | None = None,
    max_steps: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    compile: Compile = "auto",
    dtype: torch.dtype | None = None,
    progress: bool = True,
    name: str = "bam",
    **unknown: Any,
) -> Fit:
    """Batch and match (Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei and Saul 2024): a full Gaussian q.

    Each update draws a batch of q and finds, in closed form, the Gaussian whose score is closest to the posterior's at
    these, held back by KL(q_old | q) / lambda_t; lambda_t = batch dim / t; there is no step size to choose.

    Parameters
    ----------
    model : any Pyro program; minibatches are switched off.
    x, dtype : what the model takes, as `compare` has it, in float64 by default.
    batch : draws an update; by default 256, or twice the dimensions where these are more.
    max_steps : updates; it stops before where the average of 20 has not moved from the one before.
    draws : of the Gaussian; the ELBO, k-hat and posterior come from these.
    seed : the same seed gives the same numbers.
    compile : run the density as one compiled function, as `nuts` has it.
    progress : show a bar; a line every ten seconds where there is no terminal or notebook.
    name : what the Fit is called in tables.

    Returns
    -------
    Fit
        log_weights: log p(x, theta) - log q(theta), nats. message: that it was not stationary, where it was not.

    Raises
    ------
    InputError
        Bad data or options, a model without continuous sites or with more than 2,000 unconstrained dimensions, one
        whose discrete sites cannot be summed out, or whose density is finite nowhere it was tried.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> fit = pyrometer.bam(CorrelatedGaussian(), "faithful", progress=False)
    >>> fit.posterior["loc"].mean(("chain", "draw")).values.round(1).tolist()
    [3.5, 70.9]
    """
    check_positive(max_steps=max_steps, **({} if batch is None else {"batch": batch}))
    seed, name = check_seed(seed), check_name(name)
    find = partial(_found, batch=batch, max_steps=max_steps, draws=draws, seed=seed, progress=progress, name=name)
    calls = (batch or 256) * min(max_steps, 5 * WINDOW)
    options = Options("BaM", "a full Gaussian", name, draws, seed, compile, dtype, calls, unknown, MAX_DIM)
    return fitted(model, x, options, find)


def _found(
    target: Target,
    rng: np.random.Generator,
    *,
    batch: int | None,
    max_steps: int,
    draws: int,
    seed: int,
    progress: bool,
    name: str,
) -> Found:
    q = nearest(target, seed) or FullGaussian(target.starts(seed)[0], np.eye(target.dim))
    with progress_bar(max_steps, name, progress) as bar:
        updates = islice(_updates(target, q, batch or max(256, 2 * target.dim), rng), max_steps)
        losses: list[float] = []
        average: FullGaussian | None = None
        while window := [*islice(updates, WINDOW)]:
            losses += [loss for _, loss in window]
            before, average = average, averaged([q for q, _ in window])
            bar.update(len(window))
            if before is not None and (still := kl(average, before) < MOVED * target.dim):
                break
        else:
            still = False
    message = "" if still else f"not stationary after {len(losses)} updates: give a larger batch or max_steps"
    return Found(*drawn(average or q, draws, rng), steps=len(losses), losses=np.array(losses), message=message)


def _updates(
    target: Target, q: FullGaussian, size: int, rng: np.random.Generator
) -> Iterator[tuple[FullGaussian, float]]:
    """The Gaussian after each update, and minus the ELBO before it, nats. size: of a batch."""
    for step in count(1):
        points = q.draw(rng.standard_normal((size, target.dim)))
        values, scores = target(points)
        sound = np.isfinite(values)
        if sound.sum() < 2:
            what = f"the density of model {model_name(target.density.model)} is finite at none of {size} draws"
            raise InputError(f"{what} of update {step}: check the priors, or take svi or nuts")
        loss = float((q.log_prob(points[sound]) - values[sound]).mean())
        q = update(q, points[sound], scores[sound], size * target.dim / step)
        yield q, loss
