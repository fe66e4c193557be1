"""Training as people know it: epochs, a held-out ELBO, early stopping, checkpoints, KL warm-up."""

from __future__ import annotations

import copy
import math
import time
import warnings
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pyro.infer import ELBO
from torch import Tensor
from tqdm import std

from ...errors import InputError, check_between, check_path, check_positive, check_seed, given, is_one_of
from ...guides import Guide, GuideFactory
from ...models.arguments import blamed
from ...models.structure import Model, model_name
from ...models.vae.networks import check_choices
from ..compilation.compiled import Compile
from ..data.as_data import DataLike, data_for
from ..data.data import Data, structure_on
from ..data.new_data import as_new_data
from ..density.batch_size import on_all_rows, with_batch_size
from ..density.log_density import Density
from ..density.row_density import RowDensity
from ..distributed.group import Group, joined
from ..local_latents.inactive import why_inactive
from ..local_latents.row_fit import RowFit, row_fit
from ..local_latents.target import row_posterior, tells_new, tells_q
from ..runtime.folder import check_folder
from ..runtime.interrupts import asked_to_end
from ..runtime.isolation import one_thread_if_small
from ..runtime.progress import progress_bar
from ..steps.compiled_steps import Schedule
from ..steps.pairing import Pairing, pair
from . import checkpoint as checkpoints
from .guide_of import BATCH, NETWORK_LR, guide_of, local_kind
from .rows_of_file import check_guide_of_file, sample_of_file, with_remark
from .shares import Batches, batches_of, begin_shared
from .svi import optimizer_of
from .training import Start

Binarize = Literal["fixed", "stochastic"]

BLOCK = 512  # held-out rows at once
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
    model = copy.deepcopy(model)  # whose networks are made for these rows, and trained in place
    data, whole = data_for(on_all_rows(model), x, by_rows=True)
    if not whole.only_local:
        what = f"and {model_name(model)} has {'some that rows share' if whole.shared else 'none'}"
        raise InputError(f"train wants a model whose continuous latents are each row's own, {what}: use svi")
    patience = (None if x_test is None else PATIENCE) if is_one_of(patience, "auto") else patience
    epochs = (EPOCHS if patience is None else LONGEST) if epochs is None else epochs
    check_positive(epochs=epochs, draws=draws, **given(batch_size=batch_size, patience=patience))
    if not (isinstance(warmup, int) and warmup == 0):
        check_positive(warmup=warmup)
    check_between(0, math.inf, lr=lr)
    seed = check_seed(seed)
    folder = None if checkpoint is None else check_path(checkpoint)
    batch_size = min(batch_size or getattr(model, "batch_size", None) or _usual_batch(data.rows), data.rows or 1)
    model = with_batch_size(model, batch_size)
    test = None if x_test is None else as_new_data(x_test, data, model, name="x_test")
    if patience is not None and test is None:
        raise InputError("patience needs x_test, rows held out, to tell when to stop")
    grey = data.values
    name = name or (guide if isinstance(guide, str) else model_name(guide))
    check_guide_of_file(name, local_kind(guide, model)[1], data)
    if binarize is not None:
        if data.mapped is not None or (test is not None and test.mapped is not None):
            raise InputError(
                "binarize makes other pixels of all rows, and these lie in a file: write them there as 0 or 1"
            )
        check_choices(binarize=(binarize, Binarize))
        if hasattr(model, "codes"):
            what = f"model {model_name(model)} is of strings, whose characters are not black or white"
            raise InputError(f"binarize is of pixels, and {what}: leave it out")
        data = data.map(lambda x: _binary(x, seed, "x"))
        test = None if test is None else test.map(lambda x: _binary(x, seed + 1, "x_test"))
    check = getattr(model, "check", lambda values: None)  # by the model itself, where it does
    check(data.values)
    seen = data.map(torch.clone) if binarize == "stochastic" else data

    def paired(model: Model, batch_size: int | None) -> Pairing:
        return pair(model, guide_of(guide, model, batch_size), name, data, structure_on(model, data), estimator)

    with joined(data.like.device) as group, blamed(model, guide), one_thread_if_small(data.numel):
        if folder is not None:
            group.by_first(check_folder, folder)
        batches = batches_of(group, model, batch_size, data)
        steps = (data.rows or 1) // (batches.size or 1)  # of an epoch
        schedule = _schedule(batches, data, epochs, steps, warmup, compile, changing=binarize == "stochastic")
        fresh = partial(optimizer_of, optimizer, lr, schedule.steps, data.rows or 1)
        start = begin_shared(paired, fresh, seen, seed, schedule, batches)
        if test is not None:
            check(test.values)
            if not tells_new(start.pairing.guide):
                raise InputError(f"guide {name} has no q for held-out rows: leave x_test out, or choose an encoder")
        asked = {"batch_size": batches.size, "lr": lr, "optimizer": optimizer, "warmup": warmup, "seed": seed}
        lasts = epochs if optimizer == "ClippedAdam" else None  # its rate falls by them
        owner = _owner(model, name, start, rows=list(grey.shape), epochs=lasts, binarize=binarize, **asked)
        held_out = None if test is None else RowDensity(Density(on_all_rows(start.pairing.model), data).on(test))
        run = Epochs(
            start,
            epochs,
            steps,
            held_out,
            patience,  # type: ignore[arg-type] # a number by now, or None
            grey if schedule.changing else None,
            folder,
            owner,
            group,
        )
        with progress_bar(epochs, name, progress and group.first, unit="epoch") as bar:
            run.run(bar, resume)
    with blamed(model, guide), one_thread_if_small(data.numel):
        start.warn(name, "lower lr")
        return replace(_fit(run, name, data, draws), seconds=time.perf_counter() - began)


def _schedule(
    batches: Batches, data: Data, epochs: int, steps: int, warmup: int, compile: Compile, changing: bool
) -> Schedule:
    """What so many epochs of so many steps are to be. changing: whether each sees the data binarised anew."""
    found = batches.schedule(data, steps=epochs * steps, warmup=warmup * steps, changing=changing)
    folded = changing and not found.plates  # a graph may fold data that it sees whole
    return replace(found, compile=False if folded else compile, beta=getattr(batches.own, "beta", 1.0))


def _owner(model: Model, name: str, start: Start, **asked: Any) -> dict[str, Any]:
    """What a checkpoint is known by."""
    estimator = f"{start.pairing.estimator}({start.pairing.elbo.num_particles})"
    return {"model": checkpoints.known_by(model), "guide": name, "estimator": estimator, **asked}


def _fit(run: Epochs, name: str, data: Data, draws: int) -> RowFit:
    """What was trained, with a warning where latent units lie idle, or where it ended in numbers beyond all floats."""
    start = run.start
    start.values = run.best or start.values
    with start.at_work(start.seed):
        trained = copy.deepcopy(start.pairing).on_all_rows()  # as trained: the start puts its own back
        fit = row_fit(name, trained, sample_of_file(data), draws, **start.record())
    message, doubt = start.message or run.message, ""
    if not np.isfinite(fit.elbo_draws).all():  # of which the loss before the last step knows nothing
        message = doubt = message or "the ELBO is not finite after the last step: lower lr"
    elif run.group.first and tells_q(fit.guide):
        doubt = why_inactive(fit)
    if run.group.first and doubt:
        warnings.warn(f"{name}: {doubt}", stacklevel=3)
    fit = with_remark(fit, data, start.schedule.plates[0].size if start.schedule.plates else 1)
    return replace(fit, test_losses=np.array(run.test_losses), message=message)


@dataclass
class Epochs:
    """A start on its way through the data.

    steps: an epoch. test: held-out rows, params as they are in the store. grey: pixels of which every epoch sees
    another binarisation, put into the start's own data. folder, owner: where checkpoints go, and what one must agree
    with to be resumed. group: the processes that take the steps, of which the first writes, and whose held-out ELBO
    counts. best: the parameters after the best epoch by the held-out loss, where there is patience to look
    for it. message: why it stopped early.
    """

    start: Start
    epochs: int
    steps: int
    test: RowDensity | None = None
    patience: int | None = None
    grey: Tensor | None = None
    folder: Path | None = None
    owner: dict[str, Any] = field(default_factory=dict)
    group: Group = field(default_factory=Group)
    test_losses: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    message: str = ""

    @property
    def done(self) -> int:
        """Epochs behind it."""
        return len(self.start.losses) // self.steps

    def run(self, bar: std.tqdm, resume: bool) -> None:
        """Every epoch that is left, until patience or Ctrl-C ends them. resume: first go where the checkpoint was."""
        with progress_bar(0, "", False) as quiet:
            self.start.advance(0, quiet)  # compiles
            if resume:
                self._resume()
                bar.update(self.done)
            try:
                while self.done < self.epochs and not self._stops():
                    self._one(quiet)
                    bar.update()
                    elbo = -float(np.mean(self.start.losses[-self.steps :])) / (self.start.data.rows or 1)
                    held_out = {"held_out": f"{-self.test_losses[-1]:.2f}"} if self.test_losses else {}
                    bar.set_postfix(elbo=f"{elbo:.2f}", **held_out)  # of the last epoch, nats a row
            except KeyboardInterrupt:
                if asked_to_end() or self.group.processes > 1:  # it goes on from its checkpoint another time
                    raise
                self.message = f"interrupted after {self.done} epochs"
        if not self.start.losses:
            raise InputError(f"no step could be taken: {self.start.message or self.message}")

    def _one(self, quiet: std.tqdm) -> None:
        if self.grey is not None:
            self.start.data.values.copy_(_binarised(self.grey, self.start.seed, self.done))
        self.start.advance(self.steps, quiet)
        if self.start.message:
            return
        if self.test is not None:
            self.test_losses.append(self.group.of_first(self._test_loss(self.test)))
            if self.patience is not None and self.test_losses[-1] <= min(self.test_losses):
                self.best = self.start.values
        if self.folder is not None and self.group.first:
            more = {"test_losses": self.test_losses, "best": self.best}
            checkpoints.write(self.folder, self.start, self.owner, more)

    def _stops(self) -> bool:
        if self.start.message:
            return True
        since = len(self.test_losses) - 1 - int(np.argmin(self.test_losses)) if self.test_losses else 0
        if self.patience is not None and since >= self.patience:
            self.message = f"stopped after {self.done} epochs: the held-out ELBO has not risen for {since}"
        return bool(self.message)

    def _resume(self) -> None:
        if self.folder is None:
            raise InputError("resume needs the folder of a checkpoint: give checkpoint too")
        kept = self.group.by_first(checkpoints.read, self.folder, self.owner)
        checkpoints.restore(self.start, kept, self.folder)
        self.test_losses, self.best = kept["test_losses"], kept["best"]

    def _test_loss(self, test: RowDensity) -> float:
        """Minus the ELBO of the held-out rows, a draw each, nats a row; the same noise after every epoch."""
        guide: Any = self.start.pairing.guide
        total, number = 0.0, test.data.rows or 1
        with self.start.at_work(self.start.seed), torch.no_grad():
            for block in torch.arange(number).split(BLOCK):
                rows = test.take(block)
                q = row_posterior(guide, rows, None)
                z = q.sample()
                total += float((q.log_prob(z) - rows.log_joint(z)).sum())
        return total / number


def _usual_batch(rows: int | None) -> int:
    return min(BATCH, max(MIN_BATCH, (rows or 1) // BATCHES))


def _binarised(grey: Tensor, seed: int, draw: int = 0) -> Tensor:
    """Black or white pixels, white with the probability that a grey one in [0, 1] is: of the shape of `grey`."""
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + draw)
    return torch.bernoulli(grey.cpu(), generator=generator).to(grey)


def _binary(grey: Any, seed: int, name: str) -> Any:
    if grey.min() < 0 or grey.max() > 1:
        span = f"{grey.min().item():g} to {grey.max().item():g}"
        raise InputError(f"binarize wants pixels within [0, 1], and {name} has {span}: rescale it")
    return _binarised(grey, seed)
