"""One training step as a graph, held to `pyro.infer.SVI`, and kept for later fits of the same kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..compilation.compiled import Tier, inducted, known_to_inductor, scripted, worth_compiling
from ..compilation.graph import NoGraph, traced
from ..data.data import Data
from .adam import State
from .kl_warmup import kl_weighted
from .minibatches import Minibatches
from .objective import objective
from .step import Example, Step, Training, expected_gap, gap_to_pyro, largest_gap

__all__ = ["step_for"]

KEPT = 16  # compiled steps for later fits in this process
AGAIN = 10  # times the gap of an earlier fit; further off, a constant of the model may be another


class _Kept(NamedTuple):
    data: Data
    step: Step
    gap: float


_kept: dict[Any, _Kept] = {}


def step_for(training: Training) -> Step:
    """The compiled step of a training, from an earlier fit where it fits.

    The parameters are left as they were. Raises NoGraph where there is none that gives what Pyro gives.
    """
    if not training.params:
        raise NoGraph("there is nothing to train")
    state, batches = training.start(), Minibatches(training.minibatches.plates, 0).draw(2)
    moved = state._replace(flat=state.flat + 0.01 * torch.randn_like(state.flat))
    examples = (Example(state, batches[0]), Example(moved, batches[1]))
    if training.schedule.changing:
        return _built(training, examples)[0]
    key = (*training.kind, training.schedule.compile)
    kept = _kept.get(key)
    if (
        kept
        and kept.data.equals(training.data)
        and gap_to_pyro(kept.step, training, examples) <= AGAIN * max(kept.gap, expected_gap(training))
    ):
        return kept.step
    step, found = _built(training, examples)
    if len(_kept) >= KEPT:
        del _kept[next(iter(_kept))]
    _kept[key] = _Kept(training.data, step, found)
    return step


def _built(training: Training, examples: tuple[Example, ...]) -> tuple[Step, float]:
    """A fresh step, and how far it is from Pyro's."""
    inputs = (*examples[0].state, examples[0].batch)
    graph = traced(_step_of(training), inputs)
    if training.schedule.compile is True or known_to_inductor(graph, *inputs):
        return _trusted(_step_by(inducted(graph, *inputs), training, "inductor"), training, examples)
    step, found = _trusted(_step_by(scripted(graph, *inputs), training, "script"), training, examples)
    if not worth_compiling(training.schedule.steps, training.numbers):
        return step, found
    try:
        return _trusted(_step_by(inducted(graph, *inputs), training, "inductor"), training, examples)
    except NoGraph as why:
        warnings.warn(f"{why}; TorchScript takes its place", stacklevel=2)
        return step, found


def _step_of(training: Training) -> Callable[..., Any]:
    """State and rows -> loss (), gradient (P,), the next state; a plain function."""
    loss = objective(training.pairing, training.data)

    def step(*inputs: Tensor) -> tuple[Tensor, ...]:
        *state, batch = inputs
        with torch.enable_grad():
            parts = {name: part.detach().requires_grad_() for name, part in training.parts(state[0]).items()}
            with kl_weighted(state[3].to(state[0]), training.schedule.warmup):
                value = loss(parts, training.minibatches.by_plate(batch))
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
        *state, batch = inputs
        after = State(*(value.clone() for value in state))
        loss, *gradients = one(*after, batch)
        gradient = torch.cat([each.reshape(-1) for each in gradients])
        adam.descend(after, gradients)
        return loss, gradient, *after

    def many(*inputs: Tensor) -> tuple[Tensor, ...]:
        *state, batches = inputs
        after, losses = State(*(value.clone() for value in state)), []
        for batch in batches:
            loss, *gradients = one(*after, batch)
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
        self, flat: Tensor, mean: Tensor, square: Tensor, step: Tensor, schedule: Tensor, batches: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        losses: list[Tensor] = []
        for batch in batches:
            loss, _gradient, flat, mean, square, step, schedule = self.step(flat, mean, square, step, schedule, batch)
            losses.append(loss)
        return flat, mean, square, step, schedule, torch.stack(losses)


def _loop(one: Callable[..., Any]) -> Callable[..., Any]:
    def many(*inputs: Tensor) -> tuple[Tensor, ...]:
        *now, batches = inputs
        losses = []
        for batch in batches:
            loss, _gradient, *now = one(*now, batch)
            losses.append(loss)
        return *now, torch.stack(losses)

    return many


def _trusted(step: Step, training: Training, examples: tuple[Example, ...]) -> tuple[Step, float]:
    found = gap_to_pyro(step, training, examples)
    if found > largest_gap(training):
        raise NoGraph("its graph gave other numbers than pyro.infer.SVI")
    return step, found
