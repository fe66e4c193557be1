"""Laplace's method: the Gaussian with the posterior's own curvature at its mode."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ...errors import check_name, check_positive, check_seed
from ...models.structure import Model
from ..compilation.compiled import Compile
from ..data.as_data import DataLike
from ..fit.fit import Fit
from ..runtime.progress import progress_bar
from .fitted import Found, Options, drawn, fitted
from .mode import distinct, mode_from
from .target import Target

CALLS = 200  # gradients a start, about
MAX_DIM = 2000
SAME_HEIGHT = 1e-6  # nats


def laplace(
    model: Model,
    x: DataLike,
    *,
    starts: int = 4,
    draws: int = 1000,
    seed: int = 0,
    compile: Compile = "auto",
    dtype: torch.dtype | None = None,
    progress: bool = True,
    name: str = "laplace",
    **unknown: Any,
) -> Fit:
    """Laplace's approximation (MacKay 2003, chapter 27): Normal(mode, H^-1) in unconstrained space.

    H is minus the Hessian of the log density there, discrete sites summed out. The mode is found by L-BFGS and Newton's
    method.

    Parameters
    ----------
    model : any Pyro program; minibatches are switched off.
    x, dtype : what the model takes, as `compare` has it, in float64 by default.
    starts : of the search; the highest mode is taken, and `remarks` tells of others.
    draws : of the Gaussian; the ELBO, k-hat and posterior come from these.
    seed : the same seed gives the same numbers.
    compile : run the density as one compiled function, as `nuts` has it.
    progress : show a bar; a line every ten seconds where there is no terminal or notebook.
    name : what the Fit is called in tables.

    Returns
    -------
    Fit
        log_weights: log p(x, theta) - log q(theta), nats. message: that no mode was found, where none was; the Gaussian
        is then that of the highest point reached, its curvature made positive definite.

    Raises
    ------
    InputError
        Bad data or options, a model without continuous sites or with more than 2,000 unconstrained dimensions, one
        whose discrete sites cannot be summed out, or whose density is finite nowhere it was tried.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> fit = pyrometer.laplace(CorrelatedGaussian(), "faithful", progress=False)
    >>> float(fit.log_weights.std()) < 1e-6  # the posterior is Gaussian
    True
    """
    check_positive(starts=starts, draws=draws)
    seed, name = check_seed(seed), check_name(name)
    find = partial(_found, starts=starts, draws=draws, seed=seed, progress=progress, name=name)
    family = "a Gaussian at the mode"
    calls = CALLS * starts + draws
    options = Options("Laplace", family, name, draws, seed, compile, dtype, calls, unknown, MAX_DIM)
    return fitted(model, x, options, find)


def _found(
    target: Target, rng: np.random.Generator, *, starts: int, draws: int, seed: int, progress: bool, name: str
) -> Found:
    with progress_bar(starts, name, progress, unit="start") as bar:
        ends = []
        for start in target.starts(seed, starts):
            ends.append(mode_from(target, start))
            bar.update()
    modes = distinct([end for end in ends if end.found])
    mode = modes[0] if modes else max(ends, key=lambda end: end.value)
    said: dict[str, Any] = {"after": partial(_with_others, below=[mode.value - other.value for other in modes[1:]])}
    if not modes:
        said["message"] = "no mode was found: the density still rises where the search ended"
    if not mode.curved:
        said["remarks"] = ("the curvature is not a maximum's, and was made positive definite",)
    return Found(*drawn(mode.gaussian, draws, rng), steps=sum(end.steps for end in ends), **said)


def _with_others(fit: Fit, *, below: list[float]) -> Fit:
    """The Fit with a remark on other modes, and by how many nats they are lower; labellings of one are no others."""
    told = [nats for nats in below if nats > SAME_HEIGHT or not fit.exchangeable]
    if not told:
        return fit
    heights = ", ".join(f"{nats:.2f}" for nats in told)
    return replace(fit, remarks=(*fit.remarks, f"{len(told) + 1} modes were found, the others {heights} nats below"))
