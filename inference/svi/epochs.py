"""One start of SVI taken epoch by epoch: held-out loss, early stopping, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import std

from ...errors import InputError
from ..density.row_density import RowDensity
from ..runtime.progress import progress_bar
from . import checkpoint
from .training import Start

__all__ = ["Epochs", "binarised"]

BLOCK = 512  # rows at once


@dataclass
class Epochs:
    """A start on its way through the data.

    steps: an epoch. test: held-out rows, params as they are in the store. grey: pixels of which every epoch sees
    another binarisation, put into the start's own data. folder, owner: where checkpoints go, and what one must agree
    with to be resumed. best: the parameters after the best epoch by the held-out loss, where there is patience to look
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
                self.message = f"interrupted after {self.done} epochs"
        if not self.start.losses:
            raise InputError(f"no step could be taken: {self.start.message or self.message}")

    def _one(self, quiet: std.tqdm) -> None:
        if self.grey is not None:
            self.start.data.values.copy_(binarised(self.grey, self.start.seed, self.done))
        self.start.advance(self.steps, quiet)
        if self.start.message:
            return
        if self.test is not None:
            self.test_losses.append(self._test_loss(self.test))
            if self.patience is not None and self.test_losses[-1] <= min(self.test_losses):
                self.best = self.start.values
        if self.folder is not None:
            more = {"test_losses": self.test_losses, "best": self.best}
            checkpoint.write(self.folder, self.start, self.owner, more)

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
        kept = checkpoint.read(self.folder, self.owner)
        checkpoint.restore(self.start, kept, self.folder)
        self.test_losses, self.best = kept["test_losses"], kept["best"]

    def _test_loss(self, test: RowDensity) -> float:
        """Minus the ELBO of the held-out rows, a draw each, nats a row; the same noise after every epoch."""
        guide: Any = self.start.pairing.guide
        total, number = 0.0, test.data.rows or 1
        with self.start.at_work(self.start.seed), torch.no_grad():
            for start in range(0, number, BLOCK):
                rows = test.take(slice(start, start + BLOCK))
                q = guide.posterior(rows.data.values)
                z = q.sample()
                total += float((q.log_prob(z) - rows.log_joint(z)).sum())
        return total / number


def binarised(grey: Tensor, seed: int, draw: int = 0) -> Tensor:
    """Black or white pixels, white with the probability that a grey one in [0, 1] is: of the shape of `grey`."""
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + draw)
    return torch.bernoulli(grey.cpu(), generator=generator).to(grey)
