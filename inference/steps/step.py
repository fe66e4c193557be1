"""What one training step is made from, what it is, and how far it is from `pyro.infer.SVI`'s own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from pyro.infer.util import zero_grads
from torch import Tensor

from ...models.structure import Plate, one_line
from ..compilation.compiled import Compile, Tier
from ..compilation.graph import NoGraph
from ..data.data import Data
from .adam import Adam, State, joined
from .minibatches import Minibatches, StepMessenger
from .pairing import Pairing

MIN_PARAMS_IN_PLACE = 20_000  # from which Adam works in place, beside the graph


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
        elbo, schedule = self.pairing.elbo, self.schedule
        names = (repr(self.pairing.model), type(self.pairing.guide), type(elbo), elbo.num_particles)
        sizes = tuple((name, value.shape) for name, value in self.params.items())
        arrays = tuple((value.shape, value.dtype) for value in self.data.tensors)
        return *names, self.adam, schedule.warmup, schedule.compile, self.minibatches.plates, sizes, arrays

    @property
    def numbers(self) -> int:
        """How many numbers of the data a step looks at."""
        share = [plate.size / plate.full_size for plate in self.minibatches.plates if plate.full_size == self.data.rows]
        return int(self.data.numel * (share[0] if share else 1))

    @property
    def in_place(self) -> bool:
        """Whether Adam works in place beside the graph rather than in it: its passes cost more than a call."""
        return sum(value.numel() for value in self.params.values()) >= MIN_PARAMS_IN_PLACE

    def start(self) -> State:
        """The state before the first step."""
        return self.adam.start(joined(value.detach() for value in self.params.values()))

    def parts(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters in one flat vector (P,), by name."""
        pieces = flat.split([value.numel() for value in self.params.values()])
        return {name: piece.view(old.shape) for piece, (name, old) in zip(pieces, self.params.items(), strict=True)}

    def write(self, flat: Tensor) -> None:
        """Set the parameters in Pyro's store to those in a flat vector (P,)."""
        for name, value in self.parts(flat).items():
            self.params[name].data.copy_(value)

    def messenger(self, batch: Tensor, step: Tensor | int) -> StepMessenger:
        """What runs guide and model on a batch of rows (R,), as step number `step` does."""
        return StepMessenger(self.minibatches.by_plate(batch), step, self.schedule.warmup)


def gap_to_pyro(step: Step, training: Training, *examples: tuple[Tensor, ...]) -> float:
    """How far loss and gradient are from Pyro's own, relative, under the same noise. examples: state and batch each."""
    start, gaps = training.start().flat, []
    try:
        for flat, *others in examples:
            training.write(flat)
            loss, gradient = pyro_gradient(training, others[-1])
            torch.manual_seed(0)
            got_loss, got_gradient = step.one(flat, *others)[:2]
            largest = gradient.abs().max().clamp(min=torch.finfo(gradient.dtype).tiny)
            gaps += [
                float((got_gradient - gradient).abs().max() / largest),
                abs(got_loss.item() - loss) / max(1.0, abs(loss)),
            ]
    except (RuntimeError, ValueError, AssertionError) as error:  # a factorization that fails, say
        raise NoGraph(f"it could not be checked ({one_line(error)})") from error
    finally:
        training.write(start)
    return max(gaps) if all(map(math.isfinite, gaps)) else math.inf


def pyro_gradient(training: Training, batch: Tensor) -> tuple[float, Tensor]:
    """Loss, nats, and gradient, (P,), of Pyro's estimator at the parameters in its store, seed 0, the first step."""
    pairing, params = training.pairing, training.params.values()
    zero_grads(params)
    torch.manual_seed(0)
    with torch.enable_grad(), training.messenger(batch, 0):
        loss = float(training.data.run(partial(pairing.elbo.loss_and_grads, pairing.program, pairing.guide)))
    gradient = joined(torch.zeros_like(value) if value.grad is None else value.grad for value in params)
    zero_grads(params)
    return loss, gradient
