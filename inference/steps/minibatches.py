"""Which rows each step of SVI sees: a shuffle of all of them, cut into minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from ...models.structure import Plate

__all__ = ["Minibatches", "subsampled_to"]


@dataclass
class Minibatches:
    """Rows of every subsampled plate, each once an epoch: a batch costs what it holds, where Pyro shuffles all rows.

    A row is in a batch with the same probability as any other, so that estimates stay unbiased. Rows left at the end of
    an epoch, too few for a batch, sit that one out.
    """

    plates: tuple[Plate, ...]
    seed: int
    generator: torch.Generator = field(init=False, repr=False)
    rest: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    @property
    def width(self) -> int:
        """Rows in a batch, all plates together."""
        return sum(plate.size for plate in self.plates)

    def draw(self, number: int) -> Tensor:
        """The rows of so many steps: (number, width)."""
        empty = torch.empty(0, dtype=torch.long)
        each = [torch.cat([self._batch(plate) for plate in self.plates] or [empty]) for _ in range(number)]
        return torch.stack(each) if each else empty.reshape(0, self.width)

    def by_plate(self, batch: Tensor) -> dict[str, Tensor]:
        """A batch (width,), plate by plate."""
        sizes = [plate.size for plate in self.plates]
        return dict(zip((plate.name for plate in self.plates), batch.split(sizes), strict=True)) if sizes else {}

    def _batch(self, plate: Plate) -> Tensor:
        rest = self.rest.get(plate.name)
        if rest is None or len(rest) < plate.size:
            rest = torch.randperm(plate.full_size, generator=self.generator)
        self.rest[plate.name] = rest[plate.size :]
        return rest[: plate.size]


@contextmanager
def subsampled_to(rows: dict[str, Tensor]) -> Iterator[None]:
    """Let the subsampled plates take these rows, in guide and model alike."""
    with _Subsampled(rows):
        yield


class _Subsampled(Messenger):
    def __init__(self, rows: dict[str, Tensor]) -> None:
        super().__init__()
        self.rows = rows

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], _Subsample) and msg["name"] in self.rows:
            msg["value"] = self.rows[msg["name"]]
