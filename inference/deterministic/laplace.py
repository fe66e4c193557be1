"""Laplace's method: the Gaussian with the posterior's own curvature at its mode."""

from functools import partial
from typing import Any

import numpy as np
import torch

from ...errors import check_positive
from ...models.structure import Model
from ..compilation.compiled import Compile
from ..data.as_data import DataLike
from ..fit.fit import Fit
from ..runtime.progress import progress_bar
from .fitted import Found, Options, drawn, fitted
from .mode import Mode, distinct, mode_from
from .target import Target

CALLS = 200  # gradients a start, about
MAX_DIM = 2000


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
    progress : show a bar; it is silent where there is no terminal or notebook.
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
    """
    check_positive(starts=starts)
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
    steps = sum(end.steps for end in ends)
    return Found(*drawn(mode.gaussian, draws, rng), steps=steps, **_said(mode, modes))


def _said(mode: Mode, modes: list[Mode]) -> dict[str, Any]:
    """What a reader must know of the search."""
    if not modes:
        message = "no mode was found: the density still rises where the search ended"
        remarks = () if mode.curved else ("the curvature there is not a maximum's, and was made positive definite",)
        return {"message": message, "remarks": remarks}
    if len(modes) == 1:
        return {"message": "", "remarks": ()}
    below = ", ".join(f"{mode.value - other.value:.2f}" for other in modes[1:])
    return {"message": "", "remarks": (f"{len(modes)} modes were found, the others {below} nats below",)}
