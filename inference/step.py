"""What one training step is made from, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .adam import Adam, State
from .compiled import Tier
from .course import Course
from .data import Data
from .deck import Deck
from .pairing import Pairing

__all__ = ["Example", "Step", "Training"]

MANY = 20_000  # parameters


class Step(NamedTuple):
    """one: state, hand (R,) -> loss (), gradient (P,), next state. many: state, hands (size, R) -> state, losses."""

    one: Callable[..., Any]
    many: Callable[..., tuple[Tensor, ...]]
    tier: Tier


@dataclass(frozen=True)
class Training:
    """What is trained: a pair on data by Adam. params: the unconstrained parameters in Pyro's store, by name.

    course: of which steps, compile, warmup and changing matter here.
    """

    pairing: Pairing
    data: Data
    adam: Adam
    deck: Deck
    params: dict[str, Tensor]
    course: Course

    @property
    def kind(self) -> tuple[Any, ...]:
        """What trainings that may share a step have in common; whether they do is for a check to say."""
        sizes = tuple((name, value.shape) for name, value in self.params.items())
        model, guide = repr(self.pairing.model), type(self.pairing.guide)
        elbo = self.pairing.elbo
        work = (type(elbo), elbo.num_particles, self.adam, self.course.warmup, self.deck.plates)
        return model, guide, *work, sizes, *((value.shape, value.dtype) for value in self.data.tensors)

    @property
    def numbers(self) -> int:
        """How many numbers of the data a step looks at."""
        share = [plate.size / plate.full_size for plate in self.deck.plates if plate.full_size == self.data.rows]
        return int(self.data.numel * (share[0] if share else 1))

    @property
    def apart(self) -> bool:
        """Whether Adam works in place beside the graph rather than in it: its passes cost more than a call."""
        return sum(value.numel() for value in self.params.values()) >= MANY

    def start(self) -> State:
        """The state before the first step."""
        return self.adam.start(torch.cat([value.detach().reshape(-1) for value in self.params.values()]))

    def parts(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters in one flat vector (P,), by name."""
        pieces = flat.split([value.numel() for value in self.params.values()])
        return {name: piece.view(old.shape) for piece, (name, old) in zip(pieces, self.params.items(), strict=True)}

    def write(self, flat: Tensor) -> None:
        """Set the parameters in Pyro's store to those in a flat vector (P,)."""
        for name, value in self.parts(flat).items():
            self.params[name].data.copy_(value)


class Example(NamedTuple):
    """A state and a hand of rows that a step is traced and checked on."""

    state: State
    hand: Tensor
