"""SVI without Pyro at work: ELBO and gradient in one graph, held to `pyro.infer.SVI` first, and Adam in place."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.util import zero_grads
from pyro.optim import PyroOptim
from torch import Tensor

from ...models.structure import Plate, one_line
from ...models.trace import sites_of
from ..compilation.compiled import Compile, Tier, compile_graph, known_to_inductor, worth_compiling
from ..compilation.graph import NoGraph, traced
from ..data.data import Data
from ..distributed.share import Share
from ..runtime.isolation import seed_torch
from ..runtime.pyro_private import stored_params
from .adam import Adam, adam_of
from .iwae import IWAE
from .minibatches import Minibatches
from .objective import objective
from .pairing import Pairing

MIN_STEPS = 100  # that make up for tracing one
MAX_KEPT = 16  # compiled gradients for later fits in this process
SAME_MODEL = 10  # times the gap of an earlier fit; further off, a constant of the model may be another
# Gaps between a graph and Pyro, relative, by sums in another order: always to be expected, and the largest that is.
ROUNDING = {torch.float32: (1e-6, 1e-3), torch.float64: (1e-12, 1e-8)}

Gradient: TypeAlias = Callable[..., Any]  # parameters, batch (R,), number of the step () -> loss (), a gradient each


@dataclass(frozen=True)
class Schedule:
    """How long a training is, how compiled, and on which rows.

    steps: in all. compile: as `svi` has it. plates: those that are subsampled. warmup: steps until the divergence
    counts in full. changing: whether the data are replaced in place on the way. beta: the divergence's weight. share:
    of this process in every batch, None where it takes the steps alone.
    """

    steps: int
    compile: Compile = "auto"
    plates: tuple[Plate, ...] = ()
    warmup: int = 0
    changing: bool = False
    beta: float = 1.0
    share: Share | None = None


@dataclass(frozen=True)
class Training:
    """What is trained: a pair on data. params: the unconstrained parameters in Pyro's store, by name."""

    pairing: Pairing
    data: Data
    minibatches: Minibatches
    schedule: Schedule
    params: dict[str, Tensor]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What trainings that may share a graph have in common; whether they do is for a check to say."""
        elbo, batches = self.pairing.elbo, self.minibatches
        names = (repr(self.pairing.model), type(self.pairing.guide), type(elbo), elbo.num_particles)
        sizes = tuple((name, value.shape, value.dtype) for name, value in self.params.items())
        arrays = tuple((value.shape, value.dtype) for value in self.data.tensors)
        return *names, batches.warmup, batches.beta, self.schedule.compile, batches.plates, sizes, arrays

    @property
    def numbers(self) -> int:
        """How many numbers of the data a step looks at."""
        share = [plate.size / plate.full_size for plate in self.minibatches.plates if plate.full_size == self.data.rows]
        return int(self.data.numel * (share[0] if share else 1))

    @cached_property
    def values(self) -> list[Tensor]:
        """The parameters, to be read and changed in place where no gradient is taken."""
        return [value.detach() for value in self.params.values()]

    def inputs(self, batch: Tensor, step: int = 0) -> tuple[Tensor, ...]:
        """What the gradient of a step is taken at."""
        return *self.values, batch, torch.tensor(float(step))


@dataclass
class CompiledSteps:
    """A training at work on the parameters in Pyro's store."""

    training: Training
    gradient: Gradient
    adam: Adam

    def in_units(self, units: Mapping[str, Tensor]) -> None:
        """Move parameters in units of their own, by name; those of others are 1."""
        if units:
            params = self.training.params
            self.adam.units = [units.get(name, torch.ones_like(value)) for name, value in params.items()]

    def take(self, batch: Tensor, step: int) -> float:
        """Take step number `step`, from 0, on a batch of rows (R,); minus the ELBO before it, nats."""
        loss, *gradients = self.gradient(*self.training.inputs(batch, step))
        self.adam.step(self.training.values, gradients)
        return float(loss)


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
        training = Training(pairing, data, minibatches, schedule, trained)
        try:
            gradient, tier = _gradient_for(training)
        except NoGraph as error:
            return None, f"eager: {error}"
    return CompiledSteps(training, gradient, adam), tier


def _ineligible(pairing: Pairing, data: Data) -> str:
    """Why a pair is left to Pyro; empty where nothing is known against it."""
    kind = type(pairing.elbo)
    one_draw = kind in (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO) and pairing.elbo.num_particles == 1
    if not one_draw and kind is not IWAE:
        return pairing.estimator
    if data.like.device.type != "cpu":
        return f"data on {data.like.device.type}"
    guide = sites_of(data.run(poutine.trace(pairing.guide).get_trace))
    for name, node in guide.items():
        if not (node["fn"].has_rsample or node["infer"].get("enumerate") == "parallel"):
            return f"site {name} is not reparameterised"
    return ""


_kept: dict[Any, tuple[Data, float, Gradient, Tier]] = {}  # kind of training -> its data, gap to Pyro, and graph


def _gradient_for(training: Training) -> tuple[Gradient, Tier]:
    """The compiled gradient of a training, from an earlier fit where it fits, and how it is compiled.

    The parameters are left as they were. Raises NoGraph where there is none that gives what Pyro gives.
    """
    if not training.params:
        raise NoGraph("there is nothing to train")
    if len({value.dtype for value in training.values}) > 1:
        raise NoGraph("its parameters are of several precisions")
    batches = Minibatches(training.minibatches.plates, 0).draw(2)
    expected, largest = ROUNDING.get(training.data.dtype, ROUNDING[torch.float32])
    kind, inputs = training.kind, training.inputs(batches[0])
    if not training.schedule.changing and kind in _kept and _kept[kind][0].equals(training.data):
        _, gap, gradient, tier = _kept[kind]
        if gap_to_pyro(gradient, training, *batches) <= SAME_MODEL * max(gap, expected):
            return gradient, tier
    graph = traced(_eager_gradient(training), inputs)

    def made(tier: Tier) -> tuple[Gradient, Tier]:
        gradient = compile_graph(graph, tier, *inputs)
        gap = gap_to_pyro(gradient, training, *batches)
        if gap > largest:
            raise NoGraph("its graph gave other numbers than pyro.infer.SVI")
        if not training.schedule.changing:
            if kind not in _kept and len(_kept) >= MAX_KEPT:
                del _kept[next(iter(_kept))]
            _kept[kind] = training.data, gap, gradient, tier
        return gradient, tier

    if training.schedule.compile is True or known_to_inductor(graph, *inputs):
        return made("inductor")
    scripted = made("script")
    if worth_compiling(training.schedule.steps, training.numbers):
        try:
            return made("inductor")
        except NoGraph as why:
            warnings.warn(f"{why}; TorchScript takes its place", stacklevel=2)
    return scripted


def _eager_gradient(training: Training) -> Gradient:
    loss = objective(training.pairing, training.data)

    def gradient(*inputs: Tensor) -> tuple[Tensor, ...]:
        *values, batch, step = inputs
        with torch.enable_grad():
            params = {name: part.detach().requires_grad_() for name, part in zip(training.params, values, strict=True)}
            with training.minibatches.messenger(batch, step):
                value = loss(params)
            return value.detach(), *torch.autograd.grad(value, list(params.values()), materialize_grads=True)

    return gradient


def gap_to_pyro(gradient: Gradient, training: Training, *batches: Tensor) -> float:
    """How far loss and gradient are from Pyro's own, relative, under the same noise: the largest of all batches (R,).

    The first is looked at where the parameters are, each further one a little way off.
    """
    before, gaps = [value.clone() for value in training.values], []
    try:
        for batch in batches:
            loss, expected = pyro_gradient(training, batch)
            seed_torch(0)
            got_loss, *gradients = gradient(*training.inputs(batch))
            largest = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
            gaps += [
                float((joined(gradients) - expected).abs().max() / largest),
                abs(got_loss.item() - loss) / max(1.0, abs(loss)),
            ]
            for value in training.values:
                value.add_(0.01 * torch.randn_like(value))
    except (RuntimeError, ValueError, AssertionError) as error:  # a factorization that fails, say
        raise NoGraph(f"it could not be checked ({one_line(error)})") from error
    finally:
        for value, old in zip(training.values, before, strict=True):
            value.copy_(old)
    return max(gaps) if all(map(math.isfinite, gaps)) else math.inf


def pyro_gradient(training: Training, batch: Tensor) -> tuple[float, Tensor]:
    """Loss, nats, and gradient, (P,), of Pyro's estimator at the parameters in its store, seed 0, the first step."""
    pairing, params = training.pairing, training.params.values()
    zero_grads(params)
    seed_torch(0)
    with torch.enable_grad(), training.minibatches.messenger(batch, 0):
        loss = float(training.data.run(partial(pairing.elbo.loss_and_grads, pairing.program, pairing.guide)))
    gradient = joined([torch.zeros_like(value) if value.grad is None else value.grad for value in params])
    zero_grads(params)
    return loss, gradient


def joined(parts: list[Tensor]) -> Tensor:
    """Tensors as one flat vector, end to end: (P,)."""
    return torch.cat([part.reshape(-1) for part in parts])
