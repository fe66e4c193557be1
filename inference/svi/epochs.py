"""A training by epochs: what it is told, and a start on its way, kept on disk, stopped early, taken up again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import std

from ...errors import InputError, check_between, check_positive, check_seed, given
from ..compilation.compiled import Compile
from ..data.binarize import Binarize, black_and_white
from ..data.data import Data
from ..density.row_density import RowDensity
from ..distributed.group import Group
from ..local_latents.target import row_posterior
from ..runtime.interrupts import asked_to_end
from ..runtime.progress import progress_bar
from ..steps.plan import Plan
from . import checkpoint as checkpoints
from .training import Start

BLOCK = 512  # held-out rows at once


@dataclass(frozen=True)
class Options:
    """Options of `train`, numbers by now. patience: None goes on to the last epoch."""

    epochs: int
    patience: int | None
    lr: float
    optimizer: str
    warmup: int
    binarize: Binarize | None
    compile: Compile
    seed: int

    def checked(self, draws: int, batch_size: int | None) -> Options:
        """The same, its seed a whole number. Raises InputError for what cannot be, whatever the model."""
        more = given(batch_size=batch_size, patience=self.patience)
        check_positive(epochs=self.epochs, draws=draws, **more)
        if not (isinstance(self.warmup, int) and self.warmup == 0):
            check_positive(warmup=self.warmup)
        check_between(0, math.inf, lr=self.lr)
        return replace(self, seed=check_seed(self.seed))


@dataclass(frozen=True)
class ByEpochs:
    """What is trained by epochs, and how.

    grey: the pixels, (N, *row), of which every epoch sees another binarisation, and the plan's data are the Fit's; None
    where the steps see these. test: held-out rows.
    """

    plan: Plan
    options: Options
    grey: Tensor | None
    test: Data | None

    @property
    def seen(self) -> Plan:
        """The plan for the data that the steps see, a copy where they change."""
        return self.plan if self.grey is None else replace(self.plan, data=self.plan.data.map(torch.clone))


@dataclass
class Epochs:
    """A start on its way through the data.

    steps: an epoch. test: held-out rows, params as they are in the store. folder, owner: where checkpoints go, and what
    one must agree with to be resumed. group: the processes that take the steps, of which the first writes, and whose
    held-out ELBO counts. best: the parameters after the best epoch by the held-out loss, where there is patience to
    look for it. message: why it stopped early.
    """

    start: Start
    work: ByEpochs
    steps: int
    test: RowDensity | None
    folder: Path | None
    owner: dict[str, Any]
    group: Group
    test_losses: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    message: str = ""

    @property
    def patience(self) -> int | None:
        """Epochs without a better held-out loss that end it; None where none do."""
        return self.work.options.patience

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
                while self.done < self.work.options.epochs and not self._stops():
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
        if self.work.grey is not None:
            self.start.data.values.copy_(black_and_white(self.work.grey, self.start.seed, self.done))
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
