"""Markov chains side by side in threads, watched and stopped from here."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ...models.program import Promoted
from ..compilation.compiled import Compile, tiers_for, value_and_gradient
from ..density.log_density import Density
from ..density.start import start_of
from ..runtime.interrupts import signals_stop
from ..runtime.isolation import one_thread
from ..runtime.progress import progress_bar
from ..workers.task import in_a_worker
from .engines import ENGINES, LOOK_EVERY, Chain, Task, ValueAndGradient

ASIDE = 1e-3  # in unconstrained space
GRADIENTS_A_DRAW = 10  # about
LOW_RANK_UP_TO = 64  # dimensions: its own work grows with their cube, and is soon more than the density's


@dataclass(frozen=True)
class Plan:
    """What every chain does: warmup and draws with the seed `seed + chain`. See `nuts`.

    starts: unconstrained points (chains, dim); None is the model's own start, or a point drawn for each chain.
    """

    density: Density
    engine: str
    warmup: int
    draws: int
    seed: int
    target_accept: float = 0.9
    mass_matrix: str = "auto"
    compile: Compile = "auto"
    starts: Tensor | None = None

    def task(self, chain: int, log_density: ValueAndGradient, *watched: Any) -> Task:
        """What that chain does; watched: its start, the count of its steps, and whether it is to stop."""
        start, steps, stopped = watched
        low_rank = self.mass_matrix == "low_rank" or (self.mass_matrix == "auto" and len(start) <= LOW_RANK_UP_TO)
        work = (self.warmup, self.draws, self.seed + chain, self.target_accept, low_rank)
        return Task(log_density, start, *work, steps, stopped)


class Chains(NamedTuple):
    """draws: unconstrained (chains, draws, dim). stats: name -> (chains, draws). message: why they are few, or empty.

    compiled: how the density was run, see `value_and_gradient`.
    """

    draws: np.ndarray
    stats: dict[str, np.ndarray]
    message: str
    compiled: str


def run_chains(plan: Plan, chains: int, jobs: int | None, name: str, progress: bool) -> Chains:
    """Run the chains of a plan, `jobs` at once; None and -1 are one a core, of which a worker has one.

    Ctrl-C stops the chains; what they have drawn by then is given back, without those that had hardly begun, and it is
    raised only if that is nothing.
    """
    steps, stop = np.zeros((chains, 1), np.int64), threading.Event()
    with plan.density.data.isolated(plan.seed), one_thread():
        log_density, compiled = _made_ready(plan, chains)
        starts = [
            start_of(plan.density, plan.seed + n) if plan.starts is None else plan.starts[n] for n in range(chains)
        ]
        starts = [_beside_a_mode(log_density, start) for start in starts]
        tasks = [plan.task(n, log_density, start, steps[n], stop.is_set) for n, start in enumerate(starts)]
        total = chains * (plan.warmup + plan.draws)
        cores = jobs if jobs is not None and jobs > 0 else 1 if in_a_worker() else os.cpu_count() or 1
        alone = plan.engine == "pyro" or compiled.startswith("eager")  # Pyro's handlers are one stack for all threads
        pool = ThreadPoolExecutor(1 if alone else min(cores, chains))
        with progress_bar(total, name, progress, unit="draw") as bar, pool, signals_stop(stop), _stopped_by_any(stop):
            futures = [pool.submit(ENGINES[plan.engine], task) for task in tasks]
            while wait(futures, timeout=LOOK_EVERY).not_done:
                bar.update(min(int(steps.sum()), total) - bar.n)
                if stop.is_set():  # what has not begun never does
                    futures = [future for future in futures if not future.cancel()]
    parts, kept = _even([future.result() for future in futures])
    if kept == 0:
        raise KeyboardInterrupt
    stats = {key: np.stack([part.stats[key][:kept] for part in parts]) for key in parts[0].stats}
    message = f"interrupted: {kept} of {plan.draws} draws a chain are kept" if stop.is_set() else ""
    return Chains(np.stack([part.draws[:kept] for part in parts]), stats, message, compiled)


def _made_ready(plan: Plan, chains: int) -> tuple[ValueAndGradient, str]:
    """The density of a plan as its chains call it, and how it runs."""
    density = plan.density

    def promoted(flat: Tensor) -> Tensor:  # in any thread: a sampler's own does not know what this one has set
        with Promoted():
            return density.log_density(flat)

    start = start_of(density, plan.seed)
    tiers = tiers_for(plan.compile, chains * (plan.warmup + plan.draws) * GRADIENTS_A_DRAW, density.data.numel)
    fn = promoted if density.data.mixed else density.of_data("log_density")
    return value_and_gradient(fn, start, start + 0.1, tiers=tiers)


def _beside_a_mode(log_density: ValueAndGradient, start: Tensor) -> Tensor:
    """The start, a little aside in every direction without a slope: nutpie scales by slopes, and refuses a zero."""
    return (start + ASIDE).where(log_density(start)[1] == 0, start)


def _even(parts: list[Chain]) -> tuple[list[Chain], int]:
    """The chains to keep, and how many draws of each, so that most draws are kept in all."""
    longest = sorted([len(part.draws) for part in parts], reverse=True)
    number = max(range(1, len(parts) + 1), key=lambda n: n * longest[n - 1], default=0)
    kept = longest[number - 1] if number else 0
    return [part for part in parts if len(part.draws) >= kept][:number], kept


@contextmanager
def _stopped_by_any(stop: threading.Event) -> Iterator[None]:
    """Stop the chains where something is raised here meanwhile, for the pool waits for them."""
    try:
        yield
    except BaseException:
        stop.set()
        raise
