"""One training step as a graph, held to `pyro.infer.SVI`, and kept for later fits of the same kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..compilation.compiled import Tier, compile_graph, known_to_inductor, worth_compiling
from ..compilation.graph import NoGraph, traced
from ..data.data import Data
from .adam import State, joined
from .minibatches import Minibatches
from .objective import objective
from .step import Step, Training, gap_to_pyro

__all__ = ["step_for"]

MAX_KEPT = 16  # compiled steps for later fits in this process
SAME_MODEL = 10  # times the gap of an earlier fit; further off, a constant of the model may be another
# Gaps between a graph and Pyro, relative, by sums in another order: always to be expected, and the largest that is.
ROUNDING = {torch.float32: (1e-6, 1e-3), torch.float64: (1e-12, 1e-8)}


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
    examples = (*state, batches[0]), (*moved, batches[1])
    expected, largest = ROUNDING.get(training.data.dtype, ROUNDING[torch.float32])
    if training.schedule.changing:
        return _built(training, examples, largest)[0]
    kept = _kept.get(training.kind)
    if kept and kept.data.equals(training.data):
        gap = gap_to_pyro(kept.step, training, *examples)
        if gap <= SAME_MODEL * max(kept.gap, expected):
            return kept.step
    elif len(_kept) >= MAX_KEPT:
        del _kept[next(iter(_kept))]
    _kept[training.kind] = _Kept(training.data, *_built(training, examples, largest))
    return _kept[training.kind].step


def _built(training: Training, examples: tuple[tuple[Tensor, ...], ...], largest: float) -> tuple[Step, float]:
    """A fresh step, and how far it is from Pyro's, which is at most `largest`."""
    inputs = examples[0]
    graph = traced(_step_of(training), inputs)

    def made(tier: Tier) -> tuple[Step, float]:
        step = _step_by(compile_graph(graph, tier, *inputs), training, tier)
        gap = gap_to_pyro(step, training, *examples)
        if gap > largest:
            raise NoGraph("its graph gave other numbers than pyro.infer.SVI")
        return step, gap

    if training.schedule.compile is True or known_to_inductor(graph, *inputs):
        return made("inductor")
    scripted = made("script")
    if worth_compiling(training.schedule.steps, training.numbers):
        try:
            return made("inductor")
        except NoGraph as why:
            warnings.warn(f"{why}; TorchScript takes its place", stacklevel=2)
    return scripted


def _step_of(training: Training) -> Callable[..., Any]:
    """State and rows -> loss (), gradient (P,), the next state; gradients apart and no state where Adam is in place."""
    loss = objective(training.pairing, training.data)

    def step(*inputs: Tensor) -> tuple[Tensor, ...]:
        *state, batch = inputs
        with torch.enable_grad():
            parts = {name: part.detach().requires_grad_() for name, part in training.parts(state[0]).items()}
            with training.messenger(batch, state[3].to(state[0])):
                value = loss(parts)
            gradients = torch.autograd.grad(value, list(parts.values()), materialize_grads=True)
        if training.in_place:
            return value.detach(), *gradients
        gradient = joined(gradients)
        return value.detach(), gradient, *training.adam.step(State(*state), gradient)

    return step


def _step_by(one: Callable[..., Any], training: Training, tier: Tier) -> Step:
    """The step whose graph is `one`, and several such steps in a loop."""
    if not training.in_place:
        return Step(one, _scripted_loop(one) if tier == "script" else _loop(one), tier)

    def in_place(*inputs: Tensor) -> tuple[Any, ...]:
        *state, _ = inputs
        loss, *gradients = one(*inputs)
        training.adam.descend(State(*state), gradients)
        return loss, gradients, *state

    def whole(*inputs: Tensor) -> tuple[Tensor, ...]:
        loss, gradients, *state = in_place(*(value.clone() for value in inputs))
        return loss, joined(gradients), *state

    return Step(whole, _loop(in_place), tier)


def _loop(one: Callable[..., Any]) -> Callable[..., Any]:
    def many(*inputs: Tensor) -> tuple[Tensor, ...]:
        *before, batches = inputs
        state, losses = [value.clone() for value in before], []
        for batch in batches:
            loss, _, *state = one(*state, batch)
            losses.append(loss)
        return *state, torch.stack(losses)

    return many


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
