"""Training as people know it: epochs, a held-out ELBO, early stopping, checkpoints, KL warm-up."""

from __future__ import annotations

import copy
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from torch import Tensor
from tqdm import std

from ..errors import InputError
from ..guides import Guide, GuideFactory
from ..guides.vae import Free
from ..models import VAE
from ..models.structure import model_name
from . import checkpoint as disk
from .compiled import Compile
from .data import Tabular, as_data, as_new_data
from .pairing import pair
from .progress import progress_bar
from .row_fit import RowFit, row_fit
from .svi import made, optimizer_of, structure_of
from .training import Start, begin

__all__ = ["train"]

BLOCK = 512  # rows at once


def train(
    model: VAE,
    guide: str | GuideFactory | Guide,
    x: Tabular,
    *,
    x_test: Tabular | None = None,
    estimator: str | ELBO = "auto",
    epochs: int = 100,
    batch_size: int = 128,
    lr: float = 1e-3,
    optimizer: str = "Adam",
    warmup: int = 0,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    draws: int = 50,
    seed: int = 0,
    compile: Compile = "auto",
    progress: bool = True,
    name: str | None = None,
) -> RowFit:
    """Train a VAE and its guide by epochs.

    Parameters
    ----------
    model, guide, x, estimator, compile, draws, seed, progress, name : as `svi` has them.
    x_test : held-out rows, for the ELBO after each epoch; the guide must have a q for rows that it has not seen.
    epochs : at most; in each, every row is seen once, those left over of the last batch in another epoch.
    batch_size, lr : of each step. optimizer : Adam, or ClippedAdam, whose rate falls to 1 % of lr by the last epoch.
    warmup : epochs until KL(q | prior) counts in full.
    patience : stop after so many epochs without a better held-out ELBO, and go back to the best.
    checkpoint : a folder in which the training is kept after every epoch. resume : go on from there; the numbers are
        those of a training without a break.

    Returns
    -------
    RowFit
        `losses` a step; `test_losses` minus the held-out ELBO after each epoch, nats a row.

    Raises
    ------
    InputError
        Bad data or options, before any training; a checkpoint of another training, or none.
    """
    began = time.perf_counter()
    _check(model, epochs=epochs, batch_size=batch_size, draws=draws)
    data = as_data(x, dtype=model.dtype, constant_ok=True, ndim=(2, 3, 4))
    test = None if x_test is None else as_new_data(x_test, data, name="x_test")
    if patience is not None and test is None:
        raise InputError("patience needs x_test, rows held out, to tell when to stop")
    batch_size = min(batch_size, len(data.values))
    a_epoch = len(data.values) // batch_size
    model = replace(copy.deepcopy(model), batch_size=batch_size)
    name = name or (guide if isinstance(guide, str) else model_name(guide))
    structure = structure_of(model, data.values, seed)
    make = lambda: pair(model, made(guide, model, batch_size), name, data.values, structure, estimator)  # noqa: E731
    steps = epochs * a_epoch
    start = begin(
        make,
        lambda: optimizer_of(optimizer, lr, steps),
        data.values,
        seed,
        steps,
        compile,
        structure.subsampled,
        warmup * a_epoch,
    )
    if test is not None:
        model.check(test)
        if isinstance(start.pairing.guide, Free | AutoGuide):
            raise InputError(f"guide {name} has no q for held-out rows: leave x_test out, or choose an encoder")
    kind = f"{start.pairing.estimator}({start.pairing.elbo.num_particles})"
    owner = {
        "model": repr(model),
        "guide": name,
        "estimator": kind,
        "rows": list(data.values.shape),
        "seed": seed,
        "lr": lr,
    }
    owner |= {"optimizer": optimizer, "epochs": epochs if optimizer == "ClippedAdam" else None, "warmup": warmup}
    folder = None if checkpoint is None else Path(checkpoint)
    run = _Run(start, test, a_epoch, epochs, patience, folder, owner)
    with progress_bar(epochs, name, progress, unit="epoch") as bar:
        run.all(bar, resume)
    return _fit(run, name, data, draws, began)


class _Run:
    """Epochs of one start. best: its values after the best epoch by the held-out ELBO, where there is patience."""

    def __init__(
        self,
        start: Start,
        test: Tensor | None,
        steps: int,
        epochs: int,
        patience: int | None,
        folder: Path | None,
        owner: dict[str, Any],
    ) -> None:
        self.start, self.test, self.steps, self.epochs, self.patience = start, test, steps, epochs, patience
        self.folder, self.owner = folder, owner
        self.test_losses: list[float] = []
        self.best: dict[str, Tensor] = {}
        self.message = ""

    def all(self, bar: std.tqdm, resume: bool) -> None:
        """Every epoch that is left, until patience or Ctrl-C ends them."""
        with progress_bar(0, "", False) as quiet:
            self.start.advance(0, quiet)  # compiles
            if resume:
                self._resume(bar)
            try:
                while len(self.start.losses) < self.epochs * self.steps and not self._stops():
                    self._epoch(quiet)
                    bar.update()
            except KeyboardInterrupt:
                self.message = f"interrupted after {len(self.start.losses) // self.steps} epochs"
        if not self.start.losses:
            raise InputError(f"no step could be taken: {self.start.message or self.message}")

    def _epoch(self, quiet: std.tqdm) -> None:
        self.start.advance(self.steps, quiet)
        if self.test is not None and not self.start.message:
            self.test_losses.append(self._test_loss())
            if self.patience is not None and self.test_losses[-1] <= min(self.test_losses):
                self.best = self.start.values
        if self.folder is not None and not self.start.message:
            disk.write(self.folder, self.start, self.owner, {"test_losses": self.test_losses, "best": self.best})

    def _stops(self) -> bool:
        if self.start.message:
            return True
        since = len(self.test_losses) - 1 - int(np.argmin(self.test_losses)) if self.test_losses else 0
        if self.patience is not None and since >= self.patience:
            self.message = f"stopped after {len(self.test_losses)} epochs: the held-out ELBO has not risen for {since}"
        return bool(self.message)

    def _resume(self, bar: std.tqdm) -> None:
        if self.folder is None:
            raise InputError("resume needs the folder of a checkpoint: give checkpoint too")
        kept = disk.read(self.folder, self.owner)
        disk.restore(self.start, kept, self.folder)
        self.test_losses, self.best = kept["test_losses"], kept["best"]
        bar.update(len(self.start.losses) // self.steps)

    def _test_loss(self) -> float:
        """Minus the ELBO of the held-out rows, a draw each, nats a row; the same noise after every epoch."""
        assert self.test is not None
        pairing: Any = self.start.pairing
        model, guide = pairing.model, pairing.guide
        with self.start.at_work(self.start.seed), torch.no_grad():
            total = 0.0
            for part in self.test.split(BLOCK):
                q = guide.posterior(part)
                z = q.sample()
                total += float((q.log_prob(z) - model.log_joint(z, part)).sum())
        return total / len(self.test)


def _fit(run: _Run, name: str, data: Any, draws: int, began: float) -> RowFit:
    start, message = run.start, run.start.message or run.message
    if run.best:
        start.values = run.best
    if start.message:
        warnings.warn(f"{name}: {start.message}; the last good parameters are kept: lower lr", stacklevel=3)
    with start.at_work(start.seed):
        params = {key: value.detach().clone() for key, value in pyro.get_param_store().items()}
        pairing = copy.deepcopy(start.pairing)
        fit = row_fit(name, pairing, data, draws, losses=np.array(start.losses), params=params)
    if not isinstance(fit.guide, AutoGuide) and not (active := fit.active_units()).all():
        lost = f"{int((~active).sum())} of {len(active)} latent units are inactive: their q(z | x) is the prior"
        warnings.warn(f"{name}: {lost}; try warmup, or fewer of them", stacklevel=3)
    return replace(
        fit,
        test_losses=np.array(run.test_losses),
        steps=len(start.losses),
        seconds=time.perf_counter() - began,
        message=message,
        compiled=start.compiled,
    )


def _check(model: VAE, **sizes: int) -> None:
    if not isinstance(model, VAE):
        raise InputError(f"train wants a VAE, and this is a {type(model).__name__}: use svi")
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
