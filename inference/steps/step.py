"""What one training step is made from, what it is, and how far it is from `pyro.infer.SVI`'s own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...models.structure import Plate
from ..compilation.compiled import Compile, Tier
from ..compilation.graph import NoGraph, first_line
from ..data.data import Data
from .adam import Adam, State
from .kl_warmup import kl_weighted
from .minibatches import Minibatches, subsampled_to
from .pairing import Pairing

__all__ = ["Example", "Schedule", "Step", "Training", "expected_gap", "gap_to_pyro", "largest_gap", "pyro_gradient"]

ADAM_BESIDE = 20_000  # parameters from which Adam works in place, beside the graph
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative, between a graph and Pyro: sums in another order
AT_LEAST = {torch.float64: 1e-12, torch.float32: 1e-6}  # the same, that is always to be expected


@dataclass(frozen=True)
class Schedule:
    """How long a training is, how compiled, and on which rows.

    steps: in all. compile: as `svi` has it. plates: those that are subsampled. warmup: steps until the divergence
    counts in full. changing: whether the data are replaced in place on the way.
    """

    steps: int
    compile: Compile = "auto"
    plates: tuple[Plate, ...] = ()
    warmup: int = 0
    changing: bool = False


class Step(NamedTuple):
    """one: state, batch (R,) -> loss (), gradient (P,), next state. many: state, batches (size, R) -> state, losses."""

    one: Callable[..., Any]
    many: Callable[..., tuple[Tensor, ...]]
    tier: Tier


@dataclass(frozen=True)
class Training:
    """What is trained: a pair on data by Adam. params: the unconstrained parameters in Pyro's store, by name.

    schedule: of which steps, compile, warmup and changing matter here.
    """

    pairing: Pairing
    data: Data
    adam: Adam
    minibatches: Minibatches
    params: dict[str, Tensor]
    schedule: Schedule

    @property
    def kind(self) -> tuple[Any, ...]:
        """What trainings that may share a step have in common; whether they do is for a check to say."""
        sizes = tuple((name, value.shape) for name, value in self.params.items())
        model, guide = repr(self.pairing.model), type(self.pairing.guide)
        elbo = self.pairing.elbo
        work = (type(elbo), elbo.num_particles, self.adam, self.schedule.warmup, self.minibatches.plates)
        return model, guide, *work, sizes, *((value.shape, value.dtype) for value in self.data.tensors)

    @property
    def numbers(self) -> int:
        """How many numbers of the data a step looks at."""
        share = [plate.size / plate.full_size for plate in self.minibatches.plates if plate.full_size == self.data.rows]
        return int(self.data.numel * (share[0] if share else 1))

    @property
    def apart(self) -> bool:
        """Whether Adam works in place beside the graph rather than in it: its passes cost more than a call."""
        return sum(value.numel() for value in self.params.values()) >= ADAM_BESIDE

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
    """A state and a batch of rows that a step is traced and checked on."""

    state: State
    batch: Tensor


def largest_gap(training: Training) -> float:
    """The gap that sums in another order explain."""
    return _by_precision(ROUNDING, training)


def expected_gap(training: Training) -> float:
    """The gap that is always to be expected."""
    return _by_precision(AT_LEAST, training)


def _by_precision(gaps: dict[torch.dtype, float], training: Training) -> float:
    return gaps[torch.float64 if training.data.dtype == torch.float64 else torch.float32]


def gap_to_pyro(step: Step, training: Training, examples: tuple[Example, ...]) -> float:
    """How far loss and gradient are from Pyro's own, relative, under the same noise."""
    state = training.start()
    try:
        return max(_gap_at(step, training, example) for example in examples)
    except (RuntimeError, ValueError, AssertionError) as error:  # a factorization that fails, say
        raise NoGraph(f"it could not be checked ({first_line(error)})") from error
    finally:
        training.write(state.flat)


def _gap_at(step: Step, training: Training, example: Example) -> float:
    training.write(example.state.flat)
    loss, gradient = pyro_gradient(training, example.batch)
    torch.manual_seed(0)
    got_loss, got_gradient = step.one(*example.state, example.batch)[:2]
    largest = gradient.abs().max().clamp(min=torch.finfo(gradient.dtype).tiny)
    of_gradient = float((got_gradient - gradient).abs().max() / largest)
    of_loss = abs(float(got_loss) - loss) / max(1.0, abs(loss))
    return max(of_gradient, of_loss) if math.isfinite(of_gradient + of_loss) else math.inf


def pyro_gradient(training: Training, batch: Tensor) -> tuple[float, Tensor]:
    """Loss, nats, and gradient, (P,), of Pyro's estimator at the parameters in its store, seed 0, the first step."""
    pairing, params = training.pairing, training.params.values()
    for value in params:
        value.grad = None
    torch.manual_seed(0)
    with (
        torch.enable_grad(),
        subsampled_to(training.minibatches.by_plate(batch)),
        kl_weighted(0, training.schedule.warmup),
    ):
        loss = float(training.data.run(partial(pairing.elbo.loss_and_grads, pairing.program, pairing.guide)))
    gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in params]
    for value in params:
        value.grad = None
    return loss, torch.cat([gradient.reshape(-1) for gradient in gradients])
