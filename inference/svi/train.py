"""Training as people know it: epochs, a held-out ELBO, early stopping, checkpoints, KL warm-up."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pyro.infer import ELBO

from ...errors import InputError, check_path, is_one_of
from ...guides import Guide, GuideFactory
from ...models.arguments import blamed
from ...models.structure import Model, model_name
from ..compilation.compiled import Compile
from ..data.as_data import DataLike
from ..data.binarize import Binarize, binarized, check_binarize
from ..data.data import Data
from ..data.new_data import as_new_data
from ..density.batch_size import on_all_rows
from ..density.log_density import Density
from ..density.row_density import RowDensity
from ..distributed.group import Group, joined
from ..local_latents.inactive import why_inactive
from ..local_latents.row_fit import RowFit
from ..local_latents.target import tells_new, tells_q
from ..runtime.folder import check_folder
from ..runtime.isolation import one_thread_if_small
from ..runtime.progress import progress_bar
from ..steps.compiled_steps import Schedule
from ..steps.guide_of import BATCH, NETWORK_LR
from ..steps.optimizer import optimizer_of
from ..steps.plan import Plan, planned
from . import checkpoint as checkpoints
from .epochs import ByEpochs, Epochs, Options
from .fitted import fit_by_row
from .shares import Batches, batches_of, begin_shared
from .training import Start

EPOCHS, LONGEST, PATIENCE = 100, 1000, 10  # epochs: without held-out rows; with them at most, and none of them better
MIN_BATCH, BATCHES = 16, 10  # rows a step, and steps an epoch, of small data


def train(
    model: Model,
    guide: str | GuideFactory | Guide,
    x: DataLike,
    *,
    x_test: DataLike | None = None,
    estimator: str | ELBO = "auto",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float = NETWORK_LR,
    optimizer: str = "Adam",
    warmup: int = 0,
    patience: int | Literal["auto"] | None = "auto",
    binarize: Binarize | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    draws: int = 50,
    seed: int = 0,
    compile: Compile = "auto",
    progress: bool = True,
    name: str | None = None,
) -> RowFit:
    """Train a model with a latent vector a row, a VAE for example, and its guide by epochs.

    Parameters
    ----------
    model, guide, x, estimator, compile, draws, seed, progress, name : as `svi` has them; x may be a DataLoader.
    x_test : held-out rows, for the ELBO after each epoch; the guide must have a q for rows that it has not seen.
    epochs : at most; in each, every row is seen once, those left over of the last batch in another epoch. None is 100,
        and 1,000 where patience may end them.
    batch_size, lr : of each step, the rows of each process where torchrun started several, which then take the steps
        together; None is the model's own, else 128, or a tenth of the rows where these are few.
    optimizer : Adam, or ClippedAdam, whose rate falls to 1 % of lr by the last epoch.
    warmup : epochs until KL(q | prior) counts in full, its share rising step by step (Bowman et al. 2016).
    patience : stop after so many epochs without a better held-out ELBO, and go back to the best. auto is 10 where
        there are held-out rows; None goes on to the last epoch.
    binarize : pixels in [0, 1] become 0 or 1, white as probably as they are bright: fixed, once for all (Larochelle and
        Murray 2011); stochastic, anew in every epoch (Salakhutdinov and Murray 2008). The Fit's own data, and x_test,
        are binarised once.
    checkpoint : a folder in which the training is kept after every epoch. resume : go on from there, in as many
        processes as you like whose batches are as large together; the numbers are those of a training without a break.

    Returns
    -------
    RowFit
        `losses` a step; `test_losses` minus the held-out ELBO after each epoch, nats a row.

    Raises
    ------
    InputError
        Bad data or options, before any training; a checkpoint of another training, or none.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import VAE
    >>> digits = pyrometer.datasets.pixels("digits")[:200]
    >>> fit = pyrometer.train(VAE(latent=2), "encoder", digits, epochs=3, progress=False)
    >>> fit.encode(digits).shape, fit.sample(9).shape
    ((200, 2), (9, 64))
    """
    began = time.perf_counter()
    plan = planned(model, guide, x, name, estimator)
    _check_local(plan)
    patience = (None if x_test is None else PATIENCE) if is_one_of(patience, "auto") else patience
    epochs = (EPOCHS if patience is None else LONGEST) if epochs is None else epochs
    asked = Options(epochs, patience, lr, optimizer, warmup, binarize, compile, seed)  # type: ignore[arg-type] # numbers
    options = asked.checked(draws, batch_size)
    folder = None if checkpoint is None else check_path(checkpoint)
    plan = plan.in_batches(batch_size or plan.own_batch_size or _usual_batch(plan))
    work = _work(plan, options, x_test)
    data = work.plan.data
    with joined(data.like.device) as group, blamed(plan.model, guide), one_thread_if_small(data.numel):
        if folder is not None:
            group.by_first(check_folder, folder)
        run = _begun(work, folder, group)
        with progress_bar(epochs, plan.name, progress and group.first, unit="epoch") as bar:
            run.run(bar, resume)
    with blamed(plan.model, guide), one_thread_if_small(data.numel):
        run.start.warn(plan.name, "lower lr")
        return replace(_fitted(work.plan, run, draws), seconds=time.perf_counter() - began)


def _check_local(plan: Plan) -> None:
    if not plan.local:
        what = f"and {model_name(plan.model)} has {'some that rows share' if plan.structure.shared else 'none'}"
        raise InputError(f"train wants a model whose continuous latents are each row's own, {what}: use svi")


def _usual_batch(plan: Plan) -> int:
    return min(BATCH, max(MIN_BATCH, plan.rows // BATCHES))


def _work(plan: Plan, options: Options, x_test: DataLike | None) -> ByEpochs:
    """What is trained, on rows that were looked at, and binarised where that is asked for. Raises InputError."""
    data, seed = plan.data, options.seed
    test = None if x_test is None else as_new_data(x_test, data, plan.model, name="x_test")
    if options.patience is not None and test is None:
        raise InputError("patience needs x_test, rows held out, to tell when to stop")
    plan.check_guide_of_file()
    if options.binarize is not None:
        check_binarize(options.binarize, plan.model, data, test)
        data = binarized(data, seed, "x")
        test = None if test is None else binarized(test, seed + 1, "x_test")
    _check_values(plan.model, data)
    grey = plan.data.values if options.binarize == "stochastic" else None
    return ByEpochs(replace(plan, data=data), options, grey, test)


def _check_values(model: Model, data: Data) -> None:
    """Let a model look at its data, where it does."""
    check = getattr(model, "check", None)
    if check is not None:
        check(data.values)


def _begun(work: ByEpochs, folder: Path | None, group: Group) -> Epochs:
    """The training before its first step, as one process or all of a group take it."""
    options, batches = work.options, batches_of(group, work.plan)
    steps = work.plan.rows // (batches.size or 1)  # of an epoch
    schedule = _schedule(work, batches, steps)
    fresh = partial(optimizer_of, options.optimizer, options.lr, schedule.steps, work.plan.rows)
    start = begin_shared(work.seen, fresh, options.seed, schedule, batches)
    return Epochs(start, work, steps, _held_out(work, start), folder, _owner(work, batches, start), group)


def _schedule(work: ByEpochs, batches: Batches, steps: int) -> Schedule:
    """What the epochs of so many steps are to be."""
    options, changing = work.options, work.grey is not None
    lengths = {"steps": options.epochs * steps, "warmup": options.warmup * steps}
    found = batches.schedule(work.plan.data, **lengths, changing=changing)
    folded = changing and not found.plates  # a graph may fold data that it sees whole
    return replace(found, compile=False if folded else options.compile)


def _held_out(work: ByEpochs, start: Start) -> RowDensity | None:
    """The density of held-out rows, params as they are in the store. Raises InputError where the guide has no q."""
    if work.test is None:
        return None
    _check_values(work.plan.model, work.test)
    if not tells_new(start.pairing.guide):
        raise InputError(f"guide {work.plan.name} has no q for held-out rows: leave x_test out, or choose an encoder")
    return RowDensity(Density(on_all_rows(start.pairing.model), work.plan.data).on(work.test))


def _owner(work: ByEpochs, batches: Batches, start: Start) -> dict[str, Any]:
    """What a checkpoint is known by."""
    options = work.options
    return {
        "model": checkpoints.known_by(work.plan.model),
        "guide": work.plan.name,
        "estimator": f"{start.pairing.estimator}({start.pairing.elbo.num_particles})",
        "rows": list(work.plan.data.values.shape),
        "epochs": options.epochs if options.optimizer == "ClippedAdam" else None,  # its rate falls by them
        "binarize": options.binarize,
        "batch_size": batches.size,
        "lr": options.lr,
        "optimizer": options.optimizer,
        "warmup": options.warmup,
        "seed": options.seed,
    }


def _fitted(plan: Plan, run: Epochs, draws: int) -> RowFit:
    """What was trained, with a warning where latent units lie idle, or where it ended in numbers beyond all floats."""
    start = run.start
    start.values = run.best or start.values
    with start.at_work(start.seed):
        fit = fit_by_row(plan, start, draws)
    message, doubt = start.message or run.message, ""
    if not np.isfinite(fit.elbo_draws).all():  # of which the loss before the last step knows nothing
        message = doubt = message or "the ELBO is not finite after the last step: lower lr"
    elif run.group.first and tells_q(fit.guide):
        doubt = why_inactive(fit)
    if run.group.first and doubt:
        warnings.warn(f"{plan.name}: {doubt}", stacklevel=3)
    return replace(fit, test_losses=np.array(run.test_losses), message=message)
