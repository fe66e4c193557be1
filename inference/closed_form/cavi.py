"""Coordinate ascent variational inference, in closed form."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ...errors import InputError
from ...models import BayesianGMM, UnivariateMixture
from ...models.structure import model_name
from .ascent import Stop, best_of, check_responsibilities, check_steps
from .cavi_steps import CAVISteps
from ..data import Tabular
from ..fit import Fit
from ..isolation import isolated
from .mixture_fit import mixture_fit
from .row_blocks import as_stream
from .threads import threads

__all__ = ["cavi"]


def cavi(
    model: BayesianGMM | UnivariateMixture,
    x: Tabular,
    *,
    responsibilities: object = None,
    max_steps: int = 2000,
    tol: float = 1e-9,
    starts: int = 5,
    draws: int = 1000,
    seed: int = 0,
    progress: bool = True,
    name: str = "cavi",
) -> Fit:
    """Mean-field variational inference by coordinate ascent.

    BayesianGMM: q(z) q(weights, locs, precisions), the families found by the updates (Bishop 2006, section 10.2,
    equations 10.46 to 10.70). UnivariateMixture: Blei, Kucukelbir and McAuliffe (2017), section 3.

    Parameters
    ----------
    model : BayesianGMM or UnivariateMixture. Minibatches are switched off.
    x : DataFrame, Series, array, tensor, path or data set name: (N, D) or (N,). A NumPy memmap is read in blocks, in
        bounded memory; its Fit then holds no log-likelihood by row.
    responsibilities : (N, K), each row summing to 1: q(z) of the one start, in place of k-means++.
    max_steps, tol : a start ends after so many steps, or where the ELBO changes by less than tol times itself.
    starts : from k-means++ with K clusters down to two, the other components empty, each run to its end;
        `start_losses` keeps them all.
    draws : exact draws from q; k-hat comes from their weights, which take a pass over x for each two draws.
    seed : the same seed gives the same numbers.
    progress : show a bar with the ELBO; it is silent where there is no terminal or notebook.

    Returns
    -------
    Fit
        losses: minus the ELBO of each step with every constant, nats, never rising; the last is that of the q
        returned. elbo_draws: their mean estimates the same bound. log_weights: with z summed out. params: those of
        the guide `structured`.

    Raises
    ------
    InputError
        Bad data or options.
    """
    began = time.perf_counter()
    check_steps(max_steps, tol, starts, draws)
    if not isinstance(model, BayesianGMM | UnivariateMixture):
        raise InputError(f"cavi fits a BayesianGMM or UnivariateMixture, not {model_name(model)}: use em, svi or nuts")
    stop, model = Stop(max_steps, tol), replace(model, batch_size=None)
    stream = as_stream(x, model.components)
    if isinstance(model, UnivariateMixture) and len(stream.loc) != 1:
        raise InputError(f"UnivariateMixture is a model of one column, and x has {len(stream.loc)}: choose one of them")
    with threads() as crew, isolated(seed, torch.float64):
        steps = CAVISteps(model, stream, crew)
        if responsibilities is None:
            plan = [(seed + 1000 * number, clusters) for number, clusters in enumerate(steps.clusters(starts))]
            begin = [partial(steps.from_kmeans, *one) for one in plan]
        else:
            given = check_responsibilities(responsibilities, stream.rows, model.components)
            begin = [partial(steps.from_responsibilities, given)]
        best, start_losses = best_of(begin, stop, name, progress)
        sites = best.state.sample(draws)
        elbo_draws, log_weights, likelihood = steps.scored(best.state, sites)
        return mixture_fit(
            name,
            "CAVI",
            model,
            stream,
            sites,
            likelihood,
            losses=-np.array(best.values),
            elbo_draws=elbo_draws,
            log_weights=log_weights,
            start_losses=start_losses,
            params=best.state.params(),
            steps=best.steps,
            seconds=time.perf_counter() - began,
            message=best.message,
        )
