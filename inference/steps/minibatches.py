"""What differs from step to step of SVI: the rows of a minibatch, and the weight of the divergence."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ...models.structure import Plate
from ..runtime.pyro_private import Subsample


class Minibatches:
    """Rows of every subsampled plate, each once an epoch: a batch costs what it holds, where Pyro shuffles all rows.

    A row is in a batch with the same probability as any other, so that estimates stay unbiased. Rows left at the end of
    an epoch, too few for a batch, sit that one out. warmup: steps until the divergence counts by its weight, beta.
    """

    def __init__(self, plates: tuple[Plate, ...], seed: int, warmup: int = 0, beta: float = 1.0) -> None:
        self.plates, self.warmup, self.beta = plates, warmup, beta
        self._generator = torch.Generator().manual_seed(seed)
        self._rest: dict[str, Tensor] = {}

    def draw(self, number: int) -> Tensor:
        """The rows of so many steps, all plates side by side: (number, R)."""
        batches = [self._batch(plate) for _ in range(number) for plate in self.plates]
        width = sum(plate.size for plate in self.plates)
        return torch.cat([torch.empty(0, dtype=torch.long), *batches]).reshape(number, width)

    def messenger(self, batch: Tensor, step: Tensor | int) -> StepMessenger:
        """What runs guide and model on a batch of rows (R,), as step number `step` does, from 0."""
        parts = batch.split([plate.size for plate in self.plates])
        rows = {plate.name: rows for plate, rows in zip(self.plates, parts, strict=True)}
        return StepMessenger(rows, step, self.warmup, self.beta)

    def _batch(self, plate: Plate) -> Tensor:
        rest = self._rest.get(plate.name)
        if rest is None or len(rest) < plate.size:
            rest = torch.randperm(plate.full_size, generator=self._generator)
        self._rest[plate.name] = rest[plate.size :]
        return rest[: plate.size]


class StepMessenger(Messenger):
    """Runs guide and model as one step does: on its rows, its latent sites weighed.

    rows: of the subsampled plates, by name. step: its number, from 0. warmup: steps over which the weight rises as
    (step + 1) / warmup (Bowman et al. 2016); 0 for none. beta: the weight at their end (Higgins et al. 2017).
    """

    def __init__(self, rows: dict[str, Tensor], step: Tensor | int, warmup: int, beta: float = 1.0) -> None:
        super().__init__()
        self.rows, self.weighs = rows, bool(warmup) or beta != 1
        share = (step + 1) / max(warmup, 1)
        self.weight = beta * (share.clamp(max=1.0) if isinstance(share, Tensor) else min(share, 1.0))

    def _pyro_in_training(self, msg: Any) -> None:
        msg["value"] = True

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], Subsample):
            msg["value"] = self.rows.get(msg["name"], msg["value"])
        elif self.weighs and not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.weight
