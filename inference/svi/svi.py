"""Stochastic variational inference: any model, any guide, one Fit."""

import copy
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.optim import Adam, ClippedAdam, PyroOptim
from torch import Tensor

from ...errors import InputError, check_between, check_jobs, check_memory, check_positive, check_seed
from ...guides import Guide, GuideFactory
from ...guides.auto import start_at
from ...models.arguments import blamed
from ...models.structure import Model, model_name
from ..compilation.compiled import Compile, seconds_scripted
from ..data.as_data import DataLike, data_for
from ..data.data import structure_on
from ..density.batch_size import on_all_rows, with_batch_size
from ..density.log_density import Density
from ..deterministic.start import gaussian_start
from ..distributed.group import joined
from ..fit.approximation import approximation
from ..fit.fit import Fit
from ..fit.idata import fit_of
from ..local_latents.row_fit import row_fit
from ..runtime.isolation import one_thread_if_small
from ..runtime.progress import progress_bar
from ..runtime.pyro_private import copied_guide
from ..steps.pairing import Pairing, check_estimator, pair
from ..workers.many import cores_for
from .guide_of import BATCH, NETWORK_LR, guide_of, local_kind
from .rows_of_file import check_guide_of_file, draws_of_file, minibatch_of_file, sample_of_file, with_remark
from .shares import batches_of, begin_shared
from .starts import best_elsewhere
from .training import Start
from .until_done import BLOCK, judge_fixed, train_until_done

Optimizer: TypeAlias = str | type[torch.optim.Optimizer] | torch.optim.Optimizer | PyroOptim

MAX_ROW_DRAWS = 100  # draws of the ELBO of a model with a latent vector a row: its rows average it already
CLIP = 10.0  # of a gradient's entry, ClippedAdam's own default
AUTO: Literal["auto"] = "auto"
LR, AUTO_LR = 0.01, 0.05  # of a number of steps, and of as many as it takes
EXPECTED = 2000  # steps, where it takes as many as it takes
DECAYED = 0.01  # what is left of ClippedAdam's rate at the end
MIN_JUDGED = 200  # steps: fewer are too few to ask
GRADIENTS_OF_A_START, MAX_START_SECONDS = 500, 10.0  # of a Gaussian to start from, about
TRIAL_SHARE = 10  # several starts run a tenth of the steps before the best goes on


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
    check_training(steps=steps, starts=starts, draws=draws, **asked)
    check_jobs(jobs)
    seed = check_seed(seed)
    model = copy.deepcopy(model)  # a module in it is trained in place
    data, whole = data_for(on_all_rows(model), x, dtype, by_rows=True)
    by_row, amortized = local_kind(guide, model) if whole.only_local else (False, False)
    name = name or (guide if isinstance(guide, str) else model_name(guide))
    if whole.only_local:
        check_guide_of_file(name, amortized, data)
    lr = lr if lr is not None else NETWORK_LR if by_row else AUTO_LR if steps == AUTO else LR
    if amortized and getattr(model, "batch_size", None) is None and (data.rows or 0) > BATCH:
        batch_size = batch_size or BATCH
    batch_size = batch_size or minibatch_of_file(model, data)
    model = model if batch_size is None else with_batch_size(model, batch_size)
    structure = structure_on(model, data)
    local = whole.only_local
    rows = data.rows or 1 if local else 1

    def paired(model: Model, batch_size: int | None) -> Pairing:
        return pair(model, guide_of(guide, model, batch_size), name, data, structure_on(model, data), estimator)

    def place(guide: Guide, seed: int) -> Mapping[str, Tensor]:
        unplaced = local or structure.of_kind("param") or data.mapped is not None
        return {} if unplaced else _placed(guide, Density(on_all_rows(model), data), seed)

    falls = optimizer == "ClippedAdam" and steps != AUTO

    if not local:
        check_memory(sum(site.shape.numel() for site in structure.latent), draws=draws)
    with joined(data.like.device) as group, blamed(model, guide):
        batches = batches_of(group, model, batch_size, data)
        planned = {"steps": EXPECTED if steps == AUTO else steps, "compile": compile}
        schedule = batches.schedule(data, **planned, beta=getattr(model, "beta", 1.0))

        def start(number: int) -> Start:
            fresh, at = partial(optimizer_of, optimizer, lr, steps, rows), place if steps == AUTO else None
            return begin_shared(paired, fresh, data, seed + 1000 * number, schedule, batches, at, rows)

        shown = progress and group.first
        jobs = jobs if batches.share is None else 1  # of a start that several processes share, each has a part
        best = _race(start, starts, jobs, steps, shown, name, falls, bool(structure.of_kind("param")), data.numel)
    best.warn(name, "lower lr, or try more starts")
    with blamed(model, guide), one_thread_if_small(data.numel), best.at_work(seed):
        how = {**best.record(), "start_losses": np.array([best.recent_loss()])}
        if local:
            trained = copy.deepcopy(best.pairing).on_all_rows()  # as trained: the start puts its own back
            fit: Fit = row_fit(name, trained, sample_of_file(data), min(draws, MAX_ROW_DRAWS), **how)
        else:
            trained = best.pairing.on_all_rows()
            draws = draws_of_file(data, draws)
            density = Density(trained.model, data, how["params"])
            result = approximation(trained, density, draws)
            sites = {key: value.unsqueeze(0) for key, value in result.sites.items()}
            how |= {"elbo_draws": result.elbo_draws, "log_weights": result.log_weights}
            fit = fit_of(name, trained.estimator, density, sites, guide=_as_trained(trained.guide), **how)
    fit = with_remark(fit, data, structure.rows.size if structure.rows else 1)
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
    **_: object,
) -> None:
    """Refuse options of `svi` that cannot be, whatever the model."""
    check_positive(starts=starts, draws=draws, batch_size=batch_size, steps=None if steps == AUTO else steps)
    check_between(0, math.inf, lr=lr)
    optimizer_of(optimizer, LR, AUTO)
    if not isinstance(estimator, ELBO):
        check_estimator(estimator)


def _placed(guide: Guide, density: Density, seed: int) -> Mapping[str, Tensor]:
    """Put an AutoGuide at a Gaussian near the posterior, in no time; the units of its parameters."""
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


def _as_trained(guide: Guide) -> Guide | None:
    """A copy of a guide; None of a flow, which holds on to its last draw and so cannot be copied."""
    try:
        return copied_guide(guide)
    except RuntimeError:
        return None


def _race(
    start: Callable[[int], Start],
    starts: int,
    jobs: int | None,
    steps: int | str,
    progress: bool,
    name: str,
    fell: bool,
    has_params: bool,
    numbers: int,
) -> Start:
    """The best of several starts after a few steps, trained to the end.

    fell: whether its rate falls by itself. has_params: whether the model has some, which a start knows once it has run.
    numbers: of the data.
    """
    trial = (BLOCK if steps == AUTO else max(1, int(steps) // TRIAL_SHARE)) if starts > 1 else 0
    total = EXPECTED if steps == AUTO else int(steps)
    with progress_bar(trial * (starts - 1) + total, name, progress) as bar:
        elsewhere = starts > 1 and cores_for(jobs) > 0
        with one_thread_if_small(numbers):
            running = [start(number) for number in range(1 if elsewhere else starts)]
        if not (running[0].values or has_params):
            running[0].judged = True, "nothing is left to train"
            return running[0]
        if elsewhere:
            running = [best_elsewhere(start, starts, trial, jobs, bar)]
        with one_thread_if_small(numbers):
            for one in () if elsewhere else running:
                one.advance(trial, bar)
            best = min(running, key=lambda one: (bool(one.message), one.recent_loss()))
            if not best.message and steps == AUTO:
                train_until_done(best, bar)
            elif not best.message:
                best.advance(total - trial, bar)
                if total < MIN_JUDGED:
                    best.judged = False, f"{total} steps are too few to tell"
                elif best.losses:
                    judge_fixed(best, bar, 1 / DECAYED if fell else 1.0)
    if not best.losses:
        raise InputError(f"guide {name}: {best.message}: check the model's priors and the guide's start on this data")
    return best


def optimizer_of(optimizer: Optimizer, lr: float, steps: int | Literal["auto"], rows: int = 1) -> PyroOptim:
    """A fresh PyroOptim. steps: over which ClippedAdam's rate falls; auto for a rate that does not.

    rows: of which a gradient is a sum where every row has latents of its own; only what is far beyond that is clipped.
    """
    if isinstance(optimizer, PyroOptim):
        return copy.deepcopy(optimizer)
    if isinstance(optimizer, torch.optim.Optimizer):  # of other tensors: its class and options are what is meant
        usual = {name: p.default for name, p in inspect.signature(type(optimizer)).parameters.items()}
        own = {name: value for name, value in optimizer.defaults.items() if value != usual.get(name, value)}
        return PyroOptim(type(optimizer), {"lr": optimizer.defaults["lr"], **own})
    if isinstance(optimizer, type):
        return PyroOptim(optimizer, {"lr": lr})
    if optimizer == "ClippedAdam":
        decay = 1.0 if steps == AUTO else DECAYED ** (1 / steps)
        return ClippedAdam({"lr": lr, "lrd": decay, "clip_norm": CLIP * rows})
    if optimizer == "Adam":
        return Adam({"lr": lr})
    known = "ClippedAdam, Adam, an optimizer or class of torch.optim, or a PyroOptim"
    raise InputError(f"optimizer={optimizer!r} is unknown: choose {known}")
