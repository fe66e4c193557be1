"""SVI without Python: ELBO, gradient and Adam in one traced function, several steps a call.

`pyro.infer.SVI` remains the judge: `step_check` holds loss and gradient to it before a step is trusted.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.optim import PyroOptim
from torch import Tensor

from ...models.structure import sites_of
from ..compilation.graph import NoGraph
from ..data.data import Data
from ..runtime.pyro_private import stored_params
from .adam import State, adam_of
from .iwae import IWAE
from .minibatches import Minibatches
from .pairing import Pairing
from .step import Schedule, Step, Training
from .step_graph import step_for

__all__ = ["CompiledSteps", "compiled_steps"]

MIN_STEPS = 100  # steps that make up for tracing one


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
            step = step_for(training)
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
