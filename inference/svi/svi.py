"""Stochastic variational inference: any model, any guide, one Fit."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from ...errors import check_between, check_jobs, check_memory, check_positive, check_seed, given, is_one_of
from ...guides import Guide, GuideFactory
from ...guides.auto import start_at
from ...models.arguments import blamed
from ...models.structure import Model
from ..compilation.compiled import Compile, check_compile, seconds_scripted
from ..data.as_data import DataLike
from ..data.data import structure_on
from ..density.batch_size import on_all_rows
from ..density.log_density import Density
from ..deterministic.start import gaussian_start
from ..distributed.group import Group, joined
from ..fit.fit import Fit
from ..runtime.isolation import one_thread_if_small
from ..steps.compiled_steps import Schedule
from ..steps.guide_of import BATCH, NETWORK_LR
from ..steps.optimizer import Optimizer, optimizer_of, rate_falls
from ..steps.pairing import AUTO, check_estimator
from ..steps.plan import Plan, minibatch_of_file, planned
from .fitted import fit_by_row, fit_of_all
from .shares import Batches, batches_of, begin_shared
from .starts import Race, winner
from .training import Start
from .until_done import EXPECTED

MAX_ROW_DRAWS = 100  # draws of the ELBO of a model with a latent vector a row: its rows average it already
LR, AUTO_LR = 0.01, 0.05  # of a number of steps, and of as many as it takes
GRADIENTS_OF_A_START, MAX_START_SECONDS = 500, 10.0  # of a Gaussian to start from, about


def svi(
    model: Model,
    guide: str | GuideFactory | Guide,
    x: DataLike,
    *,
    estimator: str | ELBO = "auto",
    steps: int | Literal["auto"] = "auto",
    optimizer: Optimizer = "ClippedAdam",
    lr: float | None = None,
    batch_size: int | None = None,
    starts: int = 1,
    draws: int = 1000,
    seed: int = 0,
    jobs: int | None = None,
    compile: Compile = "auto",
    dtype: torch.dtype | None = None,
    progress: bool = True,
    name: str | None = None,
) -> Fit:
    """Fit a guide to a model by stochastic variational inference.

    Parameters
    ----------
    model : a Pyro program model(x), its observations under a plate named `data`.
    guide : a name from `pyrometer.guides.catalogue(model)`, a factory model -> guide, or a guide(x) itself.
    x : DataFrame, Series, array, tensor, path or data set name: (N, D), or (N,) for a model of a vector.
    estimator : auto chooses by the treatment of the discrete sites: summed out or enumerated TraceEnum, sampled
        TraceGraph, none TraceMeanField where every KL is known and else Trace. Or Trace, TraceMeanField, TraceGraph,
        TraceEnum, Renyi, or an ELBO of Pyro's.
    steps : auto goes on, at falling rates, until further steps gain nothing (0.02 nats, a row where rows share no
        latent), at most 20,000. A number is taken as it is, and judged by what more steps would gain. `Fit.converged`
        and `Fit.why` say what came of it.
    optimizer : ClippedAdam (of a number of steps its rate falls to 1 % of `lr`) or Adam, a class of torch.optim, or a
        PyroOptim.
    lr : the first step size: None is 0.05 where steps are auto, else 0.01; of a guide with a q(z | x) a row, 0.001. An
        AutoGuide's locations move in units of a Gaussian approximation around a mode, from which it starts.
    batch_size : rows a step, of each process where torchrun started several, which then take the steps together; None
        leaves it to the model, and is 128 of more rows where a network has q(z | x), and 2,048 of rows in a file.
    starts : several starts run a tenth of the steps, the best goes on, and `start_losses` keeps the spread.
    draws : of the trained guide; the ELBO, k-hat and posterior come from these. Of rows in a file no more than a
        billion row by row, 100 draws of ten million; `remarks` says how many.
    seed : the same seed gives the same numbers.
    jobs : starts tried at once, in processes of their own; -1 is one a core. None is 1, in this process, or what
        `joblib.parallel_config` around the call says, be it a cluster. The numbers do not depend on it.
    compile : take the steps by one compiled function, held to `pyro.infer.SVI` first. auto: TorchScript, ready in a
        second, and Inductor where it makes up for its quarter of a minute; True: Inductor; False: `pyro.infer.SVI`
        itself. Where it cannot be done that is what runs, with a warning that says why; `Fit.compiled` says what was
        done.
    progress : show a bar; a line every ten seconds where there is no terminal or notebook.
    name : what the Fit is called; the guide's name by default.

    Returns
    -------
    Fit
        A NaN stops the training with a warning that names step and sites, and the Fit is that of the last good
        parameters. Where rows share no continuous latent it is a `RowFit`.

    Raises
    ------
    InputError
        Bad data or options, or a model and guide that do not fit; before any training.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> fit = pyrometer.svi(CorrelatedGaussian(), "auto_normal", "faithful", progress=False)
    >>> fit.converged
    True
    >>> float(fit.posterior["loc"][..., 0].std()) < 0.5 * 272**-0.5  # which is the posterior's own
    True
    """
    began = time.perf_counter()
    asked: dict[str, Any] = {"lr": lr, "batch_size": batch_size, "optimizer": optimizer, "estimator": estimator}
    check_training(steps=steps, starts=starts, draws=draws, compile=compile, **asked)
    check_jobs(jobs)
    seed = check_seed(seed)
    plan = planned(model, guide, x, name, estimator, dtype)
    if plan.local:
        plan.check_guide_of_file()
    options = Options(steps, optimizer, _rate(plan, steps) if lr is None else lr, compile, seed)
    plan = plan.in_batches(batch_size or _usual_batch(plan))
    if not plan.local:
        latent = structure_on(plan.model, plan.data).latent
        check_memory(sum(site.shape.numel() for site in latent), draws=draws)
    with joined(plan.data.like.device) as group, blamed(plan.model, guide):
        best = winner(_race(plan, options, starts, jobs, group, progress))
    best.warn(plan.name, "lower lr, or try more starts")
    with blamed(plan.model, guide), one_thread_if_small(plan.data.numel), best.at_work(seed):
        draws = min(draws, MAX_ROW_DRAWS) if plan.local else draws
        scored = fit_by_row if plan.local else fit_of_all
        fit = scored(plan, best, draws, start_losses=np.array([best.recent_loss()]))
    return replace(fit, seconds=time.perf_counter() - began)


def check_training(
    *,
    steps: int | Literal["auto"],
    lr: float | None = None,
    batch_size: int | None = None,
    starts: int = 1,
    draws: int = 1000,
    optimizer: Optimizer = "ClippedAdam",
    estimator: str | ELBO = "auto",
    compile: Compile = "auto",
    **_: object,
) -> None:
    """Refuse options of `svi` that cannot be, whatever the model."""
    check_positive(starts=starts, draws=draws, **given(batch_size=batch_size))
    if not is_one_of(steps, AUTO):
        check_positive(steps=steps)  # type: ignore[arg-type]
    check_between(0, math.inf, lr=lr)
    check_compile(compile)
    optimizer_of(optimizer, LR, AUTO)
    if not isinstance(estimator, ELBO):
        check_estimator(estimator)


@dataclass(frozen=True)
class Options:
    """What every start of a training by `svi` is told: its options, checked, lr a number by now."""

    steps: int | Literal["auto"]
    optimizer: Optimizer
    lr: float
    compile: Compile
    seed: int


def _rate(plan: Plan, steps: int | Literal["auto"]) -> float:
    """The first step size where none is asked for."""
    if plan.local and plan.guide_kind[0]:
        return NETWORK_LR
    return AUTO_LR if steps == AUTO else LR


def _usual_batch(plan: Plan) -> int | None:
    """Rows a step where none are asked for; None leaves it to the model."""
    if plan.own_batch_size is not None:
        return None
    if plan.local and plan.guide_kind[1] and (plan.data.rows or 0) > BATCH:
        return BATCH
    return minibatch_of_file(plan.data)


def _race(plan: Plan, options: Options, starts: int, jobs: int | None, group: Group, progress: bool) -> Race:
    """The starts, as one process or all of a group take their steps."""
    batches = batches_of(group, plan)
    steps = EXPECTED if options.steps == AUTO else options.steps
    schedule = batches.schedule(plan.data, steps=steps, compile=options.compile)
    begin = partial(_begun, plan, options, batches, schedule)
    jobs = jobs if batches.share is None else 1  # of a start that several processes share, each has a part
    falls = rate_falls(options.optimizer, options.steps)
    return Race(plan, begin, starts, options.steps, falls, jobs, progress and group.first)


def _begun(plan: Plan, options: Options, batches: Batches, schedule: Schedule, number: int) -> Start:
    """A fresh start, by its number."""
    fresh = partial(optimizer_of, options.optimizer, options.lr, options.steps, plan.rows)
    place = partial(_placed, plan) if options.steps == AUTO else None
    return begin_shared(plan, fresh, options.seed + 1000 * number, schedule, batches, place)


def _placed(plan: Plan, guide: Guide, seed: int) -> Mapping[str, Tensor]:
    """Put an AutoGuide at a Gaussian near the posterior, in no time; the units of its parameters."""
    if plan.local or plan.structure.of_kind("param") or plan.data.mapped is not None:
        return {}
    density = Density(on_all_rows(plan.model), plan.data)
    quick = seconds_scripted(GRADIENTS_OF_A_START, density.data.numel) < MAX_START_SECONDS
    found = gaussian_start(density, seed) if isinstance(guide, AutoGuide) and quick else None
    if found is None:
        return {}
    loc, scale_tril = found
    latent = density.structure.latent
    shapes = [density.transforms[site.name].inverse_shape(site.shape) for site in latent]
    parts = loc.split([shape.numel() for shape in shapes])
    locs = {site.name: part.reshape(shape) for site, part, shape in zip(latent, parts, shapes, strict=True)}
    return start_at(guide, locs, torch.cholesky_inverse(scale_tril))
