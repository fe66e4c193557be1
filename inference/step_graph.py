"""One training step as a graph, held to `pyro.infer.SVI`, and kept for later fits of the same kind."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .adam import Adam, State
from .compiled import Tier, inducted, known_to_inductor, scripted
from .course import Course
from .deck import Deck, dealt
from .effort import pays
from .graph import NoGraph, first_line, traced
from .objective import objective
from .pairing import Pairing
from .warmup import warmed

__all__ = ["Step", "Training", "reference", "step_for"]

KEPT = 16  # compiled steps for later fits in this process
MANY = 20_000  # parameters
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative, between a graph and Pyro: sums in another order
AT_LEAST = {torch.float64: 1e-12, torch.float32: 1e-6}  # the same, that is always to be expected
AGAIN = 10  # times the gap of an earlier fit; further off, a constant of the model may be another


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
    x: Tensor
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
        return model, guide, *work, sizes, self.x.shape, self.x.dtype

    @property
    def numbers(self) -> int:
        """How many numbers of the data a step looks at."""
        share = [plate.size / plate.full_size for plate in self.deck.plates if plate.name == "data"]
        return int(self.x.numel() * (share[0] if share else 1))

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


class _Kept(NamedTuple):
    x: Tensor
    step: Step
    gap: float


_kept: dict[Any, _Kept] = {}


def step_for(training: Training) -> Step:
    """The compiled step of a training, from an earlier fit where it fits.

    The parameters are left as they were. Raises NoGraph where there is none that gives what Pyro gives.
    """
    if not training.params:
        raise NoGraph("there is nothing to train")
    state, hands = training.start(), Deck(training.deck.plates, 0).hands(2)
    moved = state._replace(flat=state.flat + 0.01 * torch.randn_like(state.flat))
    examples = (Example(state, hands[0]), Example(moved, hands[1]))
    if training.course.changing:
        return _built(training, examples)
    key = (*training.kind, training.course.compile)
    kept = _kept.get(key)
    if kept and torch.equal(kept.x, training.x):
        expected = max(kept.gap, AT_LEAST[_precision(training.x)])
        if _gap(kept.step, training, examples) <= AGAIN * expected:
            return kept.step
    step = _built(training, examples)
    if len(_kept) >= KEPT:
        del _kept[next(iter(_kept))]
    _kept[key] = _Kept(training.x, step, _gap(step, training, examples))
    return step


def _built(training: Training, examples: tuple[Example, ...]) -> Step:
    inputs = (*examples[0].state, examples[0].hand)
    graph = traced(_step_of(training), inputs)
    if training.course.compile is True or known_to_inductor(graph, *inputs):
        return _trusted(_step_by(inducted(graph, *inputs), training, "inductor"), training, examples)
    step = _trusted(_step_by(scripted(graph, *inputs), training, "script"), training, examples)
    if not pays(training.course.steps, training.numbers):
        return step
    try:
        return _trusted(_step_by(inducted(graph, *inputs), training, "inductor"), training, examples)
    except NoGraph as why:
        warnings.warn(f"{why}; TorchScript takes its place", stacklevel=2)
        return step


def _step_of(training: Training) -> Callable[..., Any]:
    """State and rows -> loss (), gradient (P,), the next state; a plain function."""
    loss = objective(training.pairing, training.x)

    def step(*inputs: Tensor) -> tuple[Tensor, ...]:
        *state, hand = inputs
        with torch.enable_grad():
            parts = {name: part.detach().requires_grad_() for name, part in training.parts(state[0]).items()}
            with warmed(state[3].to(state[0]), training.course.warmup):
                value = loss(parts, training.deck.by_plate(hand))
            gradients = torch.autograd.grad(value, list(parts.values()), materialize_grads=True)
        if training.apart:
            return value.detach(), *gradients
        gradient = torch.cat([each.reshape(-1) for each in gradients])
        return value.detach(), gradient, *training.adam.step(State(*state), gradient)

    return step


def _step_by(one: Callable[..., Any], training: Training, tier: Tier) -> Step:
    """The step whose graph is `one`, and several such steps in a loop."""
    if not training.apart:
        return Step(one, _scripted_loop(one) if tier == "script" else _loop(one), tier)
    adam = training.adam

    def whole(*inputs: Tensor) -> tuple[Tensor, ...]:
        *state, hand = inputs
        after = State(*(value.clone() for value in state))
        loss, *gradients = one(*after, hand)
        gradient = torch.cat([each.reshape(-1) for each in gradients])
        adam.descend(after, gradients)
        return loss, gradient, *after

    def many(*inputs: Tensor) -> tuple[Tensor, ...]:
        *state, hands = inputs
        after, losses = State(*(value.clone() for value in state)), []
        for hand in hands:
            loss, *gradients = one(*after, hand)
            adam.descend(after, gradients)
            losses.append(loss)
        return *after, torch.stack(losses)

    return Step(whole, many, tier)


def _scripted_loop(one: Any) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript as a whole
        return torch.jit.script(_Loop(one))


class _Loop(torch.nn.Module):
    """A step taken again and again without a return to Python."""

    def __init__(self, step: torch.jit.ScriptFunction) -> None:
        super().__init__()
        self.step = step

    def forward(
        self, flat: Tensor, mean: Tensor, square: Tensor, step: Tensor, schedule: Tensor, hands: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        losses: list[Tensor] = []
        for hand in hands:
            loss, _gradient, flat, mean, square, step, schedule = self.step(flat, mean, square, step, schedule, hand)
            losses.append(loss)
        return flat, mean, square, step, schedule, torch.stack(losses)


def _loop(one: Callable[..., Any]) -> Callable[..., Any]:
    def many(*inputs: Tensor) -> tuple[Tensor, ...]:
        *now, hands = inputs
        losses = []
        for hand in hands:
            loss, _gradient, *now = one(*now, hand)
            losses.append(loss)
        return *now, torch.stack(losses)

    return many


def _trusted(step: Step, training: Training, examples: tuple[Example, ...]) -> Step:
    if not _gap(step, training, examples) <= ROUNDING[_precision(training.x)]:
        raise NoGraph("its graph gave other numbers than pyro.infer.SVI")
    return step


def _gap(step: Step, training: Training, examples: tuple[Example, ...]) -> float:
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
    loss, gradient = reference(training, example.hand)
    torch.manual_seed(0)
    got_loss, got_gradient = step.one(*example.state, example.hand)[:2]
    largest = gradient.abs().max().clamp(min=torch.finfo(gradient.dtype).tiny)
    of_gradient = float((got_gradient - gradient).abs().max() / largest)
    gap = max(of_gradient, abs(float(got_loss) - loss) / max(1.0, abs(loss)))
    return gap if math.isfinite(gap) else math.inf


def _precision(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def reference(training: Training, hand: Tensor) -> tuple[float, Tensor]:
    """Loss, nats, and gradient, (P,), of Pyro's estimator at the parameters in its store, seed 0, the first step."""
    pairing, params = training.pairing, training.params.values()
    for value in params:
        value.grad = None
    torch.manual_seed(0)
    with torch.enable_grad(), dealt(training.deck.by_plate(hand)), warmed(0, training.course.warmup):
        loss = float(pairing.elbo.loss_and_grads(pairing.program, pairing.guide, training.x))
    gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in params]
    for value in params:
        value.grad = None
    return loss, torch.cat([gradient.reshape(-1) for gradient in gradients])
