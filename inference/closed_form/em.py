"""Expectation maximization for the Gaussian mixture, in closed form."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models import GMM
from ...models.covariance import laid_out
from ...models.structure import model_name
from .ascent import Stop, best_of, check_responsibilities, check_steps
from ..data import Tabular
from .em_steps import EMSteps, Parameters
from ..fit import Fit
from ..isolation import isolated
from .mixture_fit import mixture_fit, row_likelihood
from .row_blocks import as_stream
from .threads import threads

__all__ = ["em"]


def em(
    model: GMM,
    x: Tabular,
    *,
    responsibilities: object = None,
    max_steps: int = 1000,
    tol: float = 1e-9,
    starts: int = 5,
    seed: int = 0,
    floor: float = 1e-8,
    on_collapse: Literal["reseed", "refuse"] = "reseed",
    progress: bool = True,
    name: str = "em",
) -> Fit:
    """Maximum likelihood by expectation maximization (Bishop 2006, section 9.2).

    Parameters
    ----------
    model : a GMM. Minibatches are switched off.
    x : DataFrame, Series, array, tensor, path or data set name: (N, D) or (N,). A NumPy memmap is read in blocks, in
        bounded memory; its Fit then holds no log-likelihood by row.
    responsibilities : (N, K), each row summing to 1: the one start, in place of k-means++.
    max_steps, tol : a start ends after so many steps, or where the log-likelihood changes by less than tol times
        itself.
    starts : from k-means++, each run to its end; `start_losses` keeps them all.
    seed : the same seed gives the same numbers.
    floor : the least variance of a component in any direction, in units of the columns' variances. A component that
        reaches it has collapsed onto a point, line or plane, where the likelihood has no maximum.
    on_collapse : reseed puts a collapsed component at a random row, and `losses` begins anew; refuse gives that start
        up.
    progress : show a bar with the log-likelihood; it is silent where there is no terminal or notebook.

    Returns
    -------
    Fit
        A point estimate: one draw. losses: minus the log-likelihood of each step, nats, never rising; the last is that
        of the parameters returned. message: which components were re-seeded, and whether it did not converge.

    Raises
    ------
    InputError
        Bad data or options, columns that depend on each other linearly, or a collapse that no start escaped.
    """
    began = time.perf_counter()
    check_steps(max_steps, tol, starts)
    _check(model, floor, on_collapse)
    stream, model = as_stream(x, model.components), replace(model, batch_size=None)
    with threads() as crew, isolated(seed, torch.float64):
        steps = EMSteps(model, stream, crew, floor, on_collapse)
        steps.refuse_dependent()
        if responsibilities is None:
            begin = [partial(steps.from_kmeans, seed + 1000 * number) for number in range(starts)]
        else:
            given = check_responsibilities(responsibilities, stream.rows, model.components)
            begin = [partial(steps.from_responsibilities, seed, given)]
        best, start_losses = best_of(begin, Stop(max_steps, tol), name, progress)
        params = _named(model, best.state)
        return mixture_fit(
            name,
            "EM",
            model,
            stream,
            {key: value.unsqueeze(0) for key, value in params.items()},
            row_likelihood(stream, best.state.components, steps.units, draws=1),
            params=params,
            losses=-np.array(best.values),
            elbo_draws=np.repeat(best.values[-1], 2),  # exact: two equal draws, so that their spread is zero
            start_losses=start_losses,
            steps=best.steps,
            seconds=time.perf_counter() - began,
            message=best.message,
        )


def _named(model: GMM, parameters: Parameters) -> dict[str, Tensor]:
    """The parameters under the names of the model's params."""
    factors = laid_out(model.covariance, torch.linalg.cholesky(parameters.covariances))
    return {"weights": parameters.weights, "locs": parameters.locs, **factors}


def _check(model: GMM, floor: float, on_collapse: str) -> None:
    if not isinstance(model, GMM):
        raise InputError(f"em fits a GMM, not {model_name(model)}: use cavi, svi or nuts")
    if on_collapse not in ("reseed", "refuse"):
        raise InputError(f"on_collapse={on_collapse!r} is unknown: choose reseed or refuse")
    if not 0 < floor < 1:
        raise InputError(f"floor={floor!r} must lie between 0 and 1")
