"""NUTS engines: one chain of one sampler, given the log density's value and gradient."""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import nutpie
import pyarrow
import torch
from nutpie import _lib
from nutpie.compiled_pyfunc import from_pyfunc
from nutpie.sample import CompiledModel
from pyro.infer import MCMC, NUTS
from torch import Tensor

from ...errors import InputError
from ..compilation.native import Native
from ..runtime.isolation import seed_torch
from ..runtime.pyro_private import num_divergences, potential_energy

ValueAndGradient = Callable[[Tensor], Sequence[Tensor]]
PRIVATE = ("LogpFunc", "ExpandFunc", "PyVariable", "PyMcModel", "PySampler")  # of nutpie; without them it calls Python
LOOK_EVERY = 0.1  # seconds between two looks at the chains


class Task(NamedTuple):
    """What one chain does.

    log_density: flat point (dim,) -> value (), gradient (dim,). start: (dim,). low_rank: whether nutpie's mass matrix
    follows correlations. steps: a view (1,) of the count of its steps, for who watches it; a step in whose middle it is
    stopped does not count.
    """

    log_density: ValueAndGradient
    start: Tensor
    warmup: int
    draws: int
    seed: int
    target_accept: float
    low_rank: bool
    steps: np.ndarray
    stopped: Callable[[], bool]


class Chain(NamedTuple):
    """draws: (draws, dim), fewer where it was stopped. stats: name -> (draws,)."""

    draws: np.ndarray
    stats: dict[str, np.ndarray]


def with_nutpie(task: Task) -> Chain:
    """nutpie's sampler (Rust), on a C function or on a Python one. A density that is not finite is a divergence."""
    settings: dict[str, Any] = {"tune": task.warmup, "draws": task.draws, "target_accept": task.target_accept}
    settings["low_rank_modified_mass_matrix"] = task.low_rank
    settings |= {"chains": 1, "cores": 1, "seed": task.seed, "progress_bar": False, "return_raw_trace": True}
    native = isinstance(task.log_density, Native) and all(hasattr(_lib, name) for name in PRIVATE)
    raised: list[Exception] = []
    model = NativeModel(task) if native else _python_model(task, raised)
    sampler = nutpie.sample(model, blocking=False, **settings)
    try:
        (draws,), (stats,) = _awaited(sampler, lambda: bool(raised) or task.stopped()).get_arrow_trace()
    except RuntimeError as error:
        if "initialization" not in str(error):
            raise
        once = "the density at the start of a chain, which was a number, is none any more"
        raise InputError(f"{once}: let the model give the same density for the same values") from error
    finally:
        if raised:  # as the density raised it, and not in the sampler's words
            raise raised[0] from None
    kept = ~_array(stats, "tuning") & (np.arange(stats.num_rows) < task.steps[0])
    names = {"lp": "logp", "diverging": "diverging", "step_size": "step_size"}
    return Chain(
        _array(draws, "flat").reshape(-1, len(task.start))[kept],
        {name: _array(stats, column)[kept] for name, column in names.items()},
    )


def _array(batch: Any, column: str) -> np.ndarray:
    """A column of what nutpie gives back, its lists end to end."""
    values = pyarrow.array(batch.column(column))
    return (values.flatten() if pyarrow.types.is_nested(values.type) else values).to_numpy(zero_copy_only=False)


class NativeModel(CompiledModel):
    """A C function as nutpie's sampler calls it, with no Python between: it offers what its own compiled models do."""

    def __init__(self, task: Task) -> None:
        super().__init__(dims={})
        self._task = task

    n_dim = property(lambda self: len(self._task.start))
    shapes = property(lambda self: {"flat": (self.n_dim,)})
    coords = property(lambda self: {})

    def _make_sampler(self, settings: Any, _: Any, cores: int, progress: Any, store: Any) -> Any:
        native: Any = self._task.log_density
        dim, sizes = self.n_dim, {"flat_dim_0": self.n_dim}
        log_density = _lib.LogpFunc(native.address("log_density"), ctypes.addressof(native.pointers), self)
        expand = _lib.ExpandFunc(dim, dim, native.address("expand"), self._task.steps.ctypes.data, self)
        variables = _lib.PyVariable.new_variables(["flat"], ["float64"], [[dim]], sizes, {"flat": ["flat_dim_0"]})
        start = lambda _: self._task.start.numpy().astype(np.float64)  # noqa: E731
        model = _lib.PyMcModel(log_density, expand, variables, dim, sizes, {}, start, lambda *_, **__: None)
        return _lib.PySampler.from_pymc(settings, cores, model, progress, store)


def _python_model(task: Task, raised: list[Exception]) -> CompiledModel:
    """A Python function as nutpie's sampler calls it. raised: to be filled with what it raises."""

    def log_density(flat: np.ndarray) -> tuple[float, np.ndarray]:
        if not (raised or task.stopped()):
            try:
                value, gradient = task.log_density(torch.as_tensor(flat, dtype=task.start.dtype))
                return float(value), gradient.numpy().astype(np.float64, copy=False)
            except Exception as error:  # which the sampler would panic at: it is told to stop
                raised.append(error)
        return 0.0, np.ones(len(flat))  # soon over: the sampler itself stops between two steps alone

    def ready() -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        torch.set_num_threads(1)  # of the sampler's own thread, which does not know of the others' setting
        return log_density

    def expand(flat: np.ndarray) -> dict[str, np.ndarray]:
        task.steps[0] += not task.stopped()
        return {"flat": flat}

    start = task.start.numpy().astype(np.float64)
    variable = ([start.dtype], [start.shape], ["flat"])
    return from_pyfunc(len(start), ready, lambda *_: expand, *variable, make_initial_point_fn=lambda _: start)


def _awaited(sampler: Any, stopped: Callable[[], bool]) -> Any:
    """The trace of a sampler at work, cut short where it is told to stop."""
    while True:
        try:
            return sampler.wait(timeout=LOOK_EVERY)
        except TimeoutError:
            if stopped():
                return sampler.abort()


def with_pyro(task: Task) -> Chain:
    """Pyro's own kernel. It draws from torch's generator, so that its chains run one after the other."""
    draws, lp, step_size, divergences = [], [], [], []
    torch.set_num_threads(1)
    seed_torch(task.seed)

    def potential(z: dict[str, Tensor]) -> Tensor:
        """Minus the log density, as a linear function of z whose slope is the gradient that was found along with it."""
        if task.stopped():
            raise _Stopped
        value, gradient = task.log_density(z["flat"].detach())
        return -(value + gradient @ (z["flat"] - z["flat"].detach()))

    def after(kernel: NUTS, samples: Any, stage: str, step: int) -> None:
        task.steps[0] += 1
        if stage == "Sample":
            draws.append(samples["flat"].detach().cpu().numpy().copy())
            lp.append(-float(potential_energy(kernel)))
            step_size.append(float(kernel.step_size))
            divergences.append(num_divergences(kernel))
        if task.stopped():
            raise _Stopped

    kernel = NUTS(potential_fn=potential, target_accept_prob=task.target_accept)
    mcmc = MCMC(kernel, task.draws, task.warmup, {"flat": task.start}, hook_fn=after, disable_progbar=True)
    with suppress(_Stopped):
        mcmc.run()
    diverging = np.diff(divergences, prepend=0) > 0
    stats = {"lp": np.array(lp), "diverging": diverging, "step_size": np.array(step_size)}
    return Chain(np.array(draws).reshape(-1, len(task.start)), stats)


class _Stopped(Exception):
    """Raised within Pyro's loop, which has no other way out."""


ENGINES: dict[str, Callable[[Task], Chain]] = {"nutpie": with_nutpie, "pyro": with_pyro}
