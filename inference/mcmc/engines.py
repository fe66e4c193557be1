"""NUTS engines: one chain of one sampler, given the log density's value and gradient."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import nutpie
import torch
from nutpie.compiled_pyfunc import from_pyfunc
from pyro.infer import MCMC, NUTS
from torch import Tensor

from ..runtime.pyro_private import num_divergences, potential_energy

ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]
LOOK_EVERY = 0.1  # seconds between two looks at the chains


class Task(NamedTuple):
    """What one chain does.

    log_density: flat point (dim,) -> value (), gradient (dim,). compiled: how it runs. start: (dim,).
    """

    log_density: ValueAndGradient
    compiled: str
    start: Tensor
    warmup: int
    draws: int
    seed: int
    target_accept: float
    report: Callable[[int], None]
    stopped: Callable[[], bool]


class Chain(NamedTuple):
    """draws: (draws, dim), fewer where it was stopped. stats: name -> (draws,). compiled: how the density was run."""

    draws: np.ndarray
    stats: dict[str, np.ndarray]
    compiled: str


def with_nutpie(task: Task) -> Chain:
    """nutpie's sampler (Rust) on a Python density. A density that is not finite counts as a divergence."""
    start, steps = task.start.numpy().astype(np.float64), 0

    def log_density(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = task.log_density(torch.as_tensor(flat, dtype=task.start.dtype))
        return float(value), gradient.numpy().astype(np.float64, copy=False)

    def ready() -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        torch.set_num_threads(1)  # of the sampler's own thread, which does not know of the others' setting
        return log_density

    def expand(flat: np.ndarray) -> dict[str, np.ndarray]:
        nonlocal steps
        steps += 1
        task.report(min(steps, task.warmup + task.draws))
        return {"flat": flat}

    variable = ([start.dtype], [start.shape], ["flat"])
    model = from_pyfunc(len(start), ready, lambda *_: expand, *variable, make_initial_point_fn=lambda _: start)
    settings: dict[str, Any] = {"tune": task.warmup, "draws": task.draws, "target_accept": task.target_accept}
    sampler = nutpie.sample(model, chains=1, cores=1, seed=task.seed, progress_bar=False, blocking=False, **settings)
    trace = _awaited(sampler, task.stopped)
    kept = {"lp": "logp", "diverging": "diverging", "step_size": "step_size"}
    stats = {name: trace.sample_stats[key].values[0] for name, key in kept.items()}
    return Chain(trace.posterior["flat"].values[0], stats, task.compiled)


def _awaited(sampler: Any, stopped: Callable[[], bool]) -> Any:
    """The trace of a sampler at work, cut short where it is told to stop."""
    while True:
        try:
            return sampler.wait(timeout=LOOK_EVERY)
        except TimeoutError:
            if stopped():
                return sampler.abort()


def with_pyro(task: Task) -> Chain:
    """Pyro's own kernel."""
    draws, lp, step_size, divergences = [], [], [], []

    def potential(z: dict[str, Tensor]) -> Tensor:
        """Minus the log density, as a linear function of z whose slope is the gradient that was found along with it."""
        value, gradient = task.log_density(z["flat"].detach())
        return -(value + gradient @ (z["flat"] - z["flat"].detach()))

    def after(kernel: NUTS, samples: Any, stage: str, step: int) -> None:
        sampling = stage == "Sample"
        task.report(step + 1 + (task.warmup if sampling else 0))
        if sampling:
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
    return Chain(np.array(draws).reshape(-1, len(task.start)), stats, task.compiled)


class _Stopped(Exception):
    """Raised within Pyro's loop, which has no other way out."""


ENGINES: dict[str, Callable[[Task], Chain]] = {"nutpie": with_nutpie, "pyro": with_pyro}
