"""What differs from step to step of SVI: the rows of a minibatch, and the weight of the divergence."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ...models.structure import Plate
from ..distributed.share import Share
from ..runtime.pyro_private import Subsample

LISTED = 2**25  # rows, whose order is held in memory: 256 MB
ROUNDS = 6  # of what shuffles more


class Minibatches:
    """Rows of every subsampled plate, each once an epoch: a batch costs what it holds, where Pyro shuffles all rows.

    A row is in a batch with the same probability as any other, so that estimates stay unbiased. Rows left at the end of
    an epoch, too few for a batch, sit that one out. warmup: steps until the divergence counts by its weight, beta.
    share: of a whole batch, which is drawn alike in all processes, where several take the steps together.
    """

    def __init__(
        self, plates: tuple[Plate, ...], seed: int, warmup: int = 0, beta: float = 1.0, share: Share | None = None
    ) -> None:
        self.plates, self.warmup, self.beta, self.share = plates, warmup, beta, share
        self._generator = torch.Generator().manual_seed(seed)
        self._rest: dict[str, Tensor] = {}
        self._order: dict[str, tuple[int, Tensor]] = {}

    def draw(self, number: int) -> Tensor:
        """The rows of so many steps, all plates side by side: (number, R)."""
        batches = [self._batch(plate) for _ in range(number) for plate in self.plates]
        width = sum(plate.size for plate in self.plates)
        return torch.cat([torch.empty(0, dtype=torch.long), *batches]).reshape(number, width)

    def messenger(self, batch: Tensor, step: Tensor | int) -> StepMessenger:
        """What runs guide and model on a batch of rows (R,), as step number `step` does, from 0."""
        parts = batch.split([plate.size for plate in self.plates])
        rows = {plate.name: rows for plate, rows in zip(self.plates, parts, strict=True)}
        return StepMessenger(rows, step, self.warmup, self.beta, self.share)

    def _batch(self, plate: Plate) -> Tensor:
        share = self.share if self.share and self.share.plate == plate.name else None
        size = share.whole if share else plate.size
        if plate.full_size > LISTED:
            return self._batch_of_many(plate, size, share)
        rest = self._rest.get(plate.name)
        if size == plate.full_size:
            rest = torch.arange(size)  # as one process takes them
        elif rest is None or len(rest) < size:
            rest = torch.randperm(plate.full_size, generator=self._generator)
        self._rest[plate.name] = rest[size:]
        return rest[share.start : share.stop] if share else rest[:size]

    def _batch_of_many(self, plate: Plate, size: int, share: Share | None) -> Tensor:
        """The same where a list of all rows would fill the memory: their order is computed, not kept."""
        start, keys = self._order.get(plate.name, (plate.full_size, torch.empty(0)))
        if start + size > plate.full_size:
            start, keys = 0, torch.randint(2**62, (ROUNDS,), generator=self._generator)
        self._order[plate.name] = start + size, keys
        found = shuffled(torch.arange(start, start + size), plate.full_size, keys)
        return found[share.start : share.stop] if share else found


def shuffled(places: Tensor, number: int, keys: Tensor) -> Tensor:
    """Where a permutation of 0, ..., number - 1 that follows from the keys takes some of them: int64, of their shape.

    A Feistel network on the bits of a place (Luby and Rackoff 1988), gone through again from where it leads outside.
    """
    half = ((number - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1

    def once(place: Tensor) -> Tensor:
        left, right = place >> half, place & mask
        for key in keys:
            mixed = (right + key) * 0x9E3779B97F4A7C1 ^ (right + key) >> 7
            left, right = right, left ^ ((mixed ^ mixed >> 31) & mask)
        return left << half | right

    found = once(places)
    while (outside := found >= number).any():
        found = torch.where(outside, once(found), found)
    return found


class StepMessenger(Messenger):
    """Runs guide and model as one step does: on its rows, its latent sites weighed.

    rows: of the subsampled plates, by name. step: its number, from 0. warmup: steps over which the weight rises as
    (step + 1) / warmup (Bowman et al. 2016); 0 for none. beta: the weight at their end (Higgins et al. 2017). share:
    whose noise is drawn.
    """

    def __init__(
        self, rows: dict[str, Tensor], step: Tensor | int, warmup: int, beta: float = 1.0, share: Share | None = None
    ) -> None:
        super().__init__()
        self.noise = share.noise() if share else None
        self.rows, self.weighs = rows, bool(warmup) or beta != 1
        share = (step + 1) / max(warmup, 1)
        self.weight = beta * (share.clamp(max=1.0) if isinstance(share, Tensor) else min(share, 1.0))

    def __enter__(self) -> Any:
        if self.noise:
            self.noise.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self.noise:
            self.noise.__exit__(*error)

    def _pyro_in_training(self, msg: Any) -> None:
        msg["value"] = True

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], Subsample):
            msg["value"] = self.rows.get(msg["name"], msg["value"])
        elif self.weighs and not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.weight
        if self.noise:
            self.noise.site = msg

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.noise:
            self.noise.site = None
