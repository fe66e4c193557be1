"""SVI without Python: ELBO, gradient and Adam in one graph, several steps a call, held to `pyro.infer.SVI` first."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.optim import PyroOptim
from torch import Tensor

from ...models.structure import sites_of
from ..compilation.compiled import Tier, compile_graph, known_to_inductor, worth_compiling
from ..compilation.graph import NoGraph, traced
from ..data.data import Data
from ..runtime.pyro_private import stored_params
from .adam import State, adam_of, joined
from .iwae import IWAE
from .minibatches import Minibatches
from .objective import objective
from .pairing import Pairing
from .step import Schedule, Step, Training, gap_to_pyro

MIN_STEPS = 100  # that make up for tracing one
MAX_KEPT = 16  # compiled steps for later fits in this process
SAME_MODEL = 10  # times the gap of an earlier fit; further off, a constant of the model may be another
# Gaps between a graph and Pyro, relative, by sums in another order: always to be expected, and the largest that is.
ROUNDING = {torch.float32: (1e-6, 1e-3), torch.float64: (1e-12, 1e-8)}


_kept: dict[Any, tuple[Data, Step, float]] = {}  # kind of training -> its data, step, and gap to Pyro


@dataclass
class CompiledSteps:
    """A training at work on the parameters in Pyro's store. state: the same, side by side in one vector."""

    training: Training
    step: Step
    state: State

    def take(self, size: int) -> list[float]:
        """Losses of so many steps, nats, up to and with the first that is not finite."""
        noise, batches = torch.get_rng_state(), self.training.minibatches.draw(size)
        try:
            *state, losses = self.step.many(*self.state, batches)
            sound = bool(losses.isfinite().all())
        except RuntimeError:  # a factorization of NaNs, say
            sound = False
        if not sound:
            torch.set_rng_state(noise)
            return self._one_by_one(batches)
        self._set(State(*state))
        return losses.tolist()

    def _one_by_one(self, batches: Tensor) -> list[float]:
        """The same steps again, no further than the first bad one."""
        state, losses = self.state, list[float]()
        for batch in batches:
            try:
                loss, _, *after = self.step.one(*state, batch)
            except RuntimeError:
                losses.append(math.nan)
                break
            state = State(*after)
            losses.append(float(loss))
            if not loss.isfinite():
                break
        self._set(state)
        return losses

    def _set(self, state: State) -> None:
        self.state = state
        self.training.write(state.flat)


def compiled_steps(
    pairing: Pairing, optimizer: PyroOptim, data: Data, minibatches: Minibatches, schedule: Schedule
) -> tuple[CompiledSteps | None, str]:
    """The steps of a training, compiled, and how; None where `pyro.infer.SVI` is to take them.

    How: script, inductor, eager; `eager (why)` where that was clear from the start, `eager: why` where it failed.
    To be called in the param store of the training, before its first step; the generator is left as it was.
    """
    if schedule.compile is False or (schedule.compile == "auto" and schedule.steps < MIN_STEPS):
        return None, "eager"
    with torch.random.fork_rng([]):
        adam, why = adam_of(optimizer), _ineligible(pairing, data)
        if adam is None or why:
            return None, f"eager ({why or 'an optimizer other than Adam'})"
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data.run(partial(pairing.elbo.loss, pairing.program, pairing.guide))  # so that all parameters are there
        params = stored_params()
        once = {id(value): name for name, value in params.items() if value.requires_grad}  # one may bear two names
        trained = {name: params[name] for name in once.values()}
        training = Training(pairing, data, adam, minibatches, trained, schedule)
        try:
            step = _step_for(training)
        except NoGraph as error:
            return None, f"eager: {error}"
    return CompiledSteps(training, step, training.start()), step.tier


def _ineligible(pairing: Pairing, data: Data) -> str:
    """Why a pair is left to Pyro; empty where nothing is known against it."""
    kind = type(pairing.elbo)
    one_draw = kind in (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO) and pairing.elbo.num_particles == 1
    if not one_draw and kind is not IWAE:
        return pairing.estimator
    if data.like.device.type != "cpu":
        return f"data on {data.like.device.type}"
    with torch.random.fork_rng([]):
        guide = sites_of(data.run(poutine.trace(pairing.guide).get_trace))
    for name, node in guide.items():
        if not (node["fn"].has_rsample or node["infer"].get("enumerate") == "parallel"):
            return f"site {name} is not reparameterised"
    return ""


def _step_for(training: Training) -> Step:
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
    data, step, gap = _kept.get(training.kind, (None, None, 0.0))
    if data and step and data.equals(training.data):
        if gap_to_pyro(step, training, *examples) <= SAME_MODEL * max(gap, expected):
            return step
    elif len(_kept) >= MAX_KEPT:
        del _kept[next(iter(_kept))]
    step, gap = _built(training, examples, largest)
    _kept[training.kind] = training.data, step, gap
    return step


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
