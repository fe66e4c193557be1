"""Markov chains side by side, in threads or in processes, watched and stopped from here."""

from __future__ import annotations

import hashlib
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import torch
from loky import get_reusable_executor
from torch import Tensor
from tqdm import std

from ...errors import InputError
from ...models.program import Promoted
from ...models.structure import model_name
from ..compilation.compiled import Compile, Tier, seconds_scripted, value_and_gradient, worth_compiling
from ..density.log_density import Density
from ..runtime.isolation import one_thread
from ..runtime.progress import progress_bar
from .engines import ENGINES, LOOK_EVERY, Chain, Task, ValueAndGradient

TRIES = 100  # at a finite starting point
IDLE = 120  # seconds that a process waits for more chains
KEPT = 4  # densities that a process keeps for them
MIN_SECONDS_FOR_PROCESSES = 10.0  # of scripted work: a process takes three to start
GRADIENTS_A_DRAW = 10  # about


@dataclass(frozen=True)
class Plan:
    """What every chain does: warmup and draws with the seed `seed + chain`, from the model's own start."""

    density: Density
    engine: str
    warmup: int
    draws: int
    seed: int
    target_accept: float
    tier: Tier = "script"


def worth_processes(draws: int, numbers: int) -> bool:
    """Whether so many draws in a row, on so many numbers of data, last longer than other processes take to start."""
    return seconds_scripted(draws * GRADIENTS_A_DRAW, numbers) >= MIN_SECONDS_FOR_PROCESSES


def tier_for(compile: Compile, density: Density, seed: int, draws: int) -> tuple[Tier, str]:
    """The tier that runs the density for so many draws in a row, and how it was made where it was made here.

    To be called within `isolated`. Inductor compiles here first, so that the chains' own processes find its work on
    disk, and so that a failure shows once.
    """
    if compile is False:
        return "eager", "eager"
    if compile == "auto" and not worth_compiling(draws * GRADIENTS_A_DRAW, density.data.numel):
        return "script", ""
    start = start_of(density, seed)
    _, how = value_and_gradient(density.log_density, start, start + 0.1, tier="inductor")
    return ("inductor" if how == "inductor" else "script"), how


def run_chains(
    plan: Plan, chains: int, jobs: int, name: str, progress: bool, threads: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray], str, str]:
    """Unconstrained draws (chains, draws, dim), their statistics, name -> (chains, draws), why they are few, and how
    the density was run.

    threads: whether several chains run in threads, not in processes.
    Ctrl-C stops the chains; what they have drawn by then is given back, without those that had hardly begun, and it is
    raised only if that is nothing.
    """
    with tempfile.TemporaryDirectory(prefix="pyrometer-") as folder:
        counts = StepCounts(Path(folder) / "counts", chains)
        with progress_bar(chains * (plan.warmup + plan.draws), name, progress, unit="draw") as bar:
            several = _in_threads if threads else _in_processes
            run = several if jobs > 1 and chains > 1 else _one_by_one
            parts = run(plan, chains, jobs, counts, bar)
        stopped = counts.stopped()
    parts, kept = _even(parts)
    if kept == 0:
        raise KeyboardInterrupt
    stats = {key: np.stack([part.stats[key][:kept] for part in parts]) for key in parts[0].stats}
    message = f"interrupted: {kept} of {plan.draws} draws a chain are kept" if stopped else ""
    return np.stack([part.draws[:kept] for part in parts]), stats, message, min(part.compiled for part in parts)


def wake(jobs: int) -> None:
    """Let the processes of the chains start now, and load what they need while something else is done here."""
    executor = _executor(jobs)
    for _ in range(jobs):
        executor.submit(_awake)


def _executor(jobs: int) -> Executor:
    """Processes for the chains, of one thread each: several would only wait for one another."""
    env = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return get_reusable_executor(max_workers=jobs, timeout=IDLE, env=env)


def _awake() -> None:
    """Nothing; but to be asked for it, a process must have loaded this file and all that it imports."""


def _even(parts: list[Chain]) -> tuple[list[Chain], int]:
    """The chains to keep, and how many draws of each, so that most draws are kept in all."""
    longest = sorted(parts, key=lambda part: -len(part.draws))
    number = max(range(1, len(parts) + 1), key=lambda n: n * len(longest[n - 1].draws))
    kept = len(longest[number - 1].draws)
    return [part for part in parts if len(part.draws) >= kept][:number], kept


def _in_processes(plan: Plan, chains: int, jobs: int, counts: StepCounts, bar: std.tqdm) -> list[Chain]:
    with _interrupt_stops(counts):
        executor = _executor(jobs)
        return _watched([executor.submit(_chain_elsewhere, plan, n, counts) for n in range(chains)], counts, bar)


def _watched(futures: list[Future[Chain]], counts: StepCounts, bar: std.tqdm) -> list[Chain]:
    while wait(futures, timeout=LOOK_EVERY).not_done:
        counts.show(bar)
    counts.show(bar)
    return [future.result() for future in futures]


def _in_threads(plan: Plan, chains: int, jobs: int, counts: StepCounts, bar: std.tqdm) -> list[Chain]:
    """Chains that are over before a process would have started: TorchScript lets threads run side by side."""
    if _made_ready(plan)[1] != "script":
        return _in_processes(plan, chains, jobs, counts, bar)
    tasks = [_task(plan, chain, counts) for chain in range(chains)]
    isolated = plan.density.data.isolated(plan.seed)
    with one_thread(), isolated, _interrupt_stops(counts), ThreadPoolExecutor(jobs) as executor:
        return _watched([executor.submit(ENGINES[plan.engine], task) for task in tasks], counts, bar)


def _one_by_one(plan: Plan, chains: int, jobs: int, counts: StepCounts, bar: std.tqdm) -> list[Chain]:
    with one_thread(), _interrupt_stops(counts):
        return [_chain(plan, chain, counts, bar) for chain in range(chains)]


def _chain_elsewhere(plan: Plan, chain: int, counts: StepCounts) -> Chain:
    """A chain in a process of its own, which leaves Ctrl-C to the one that watches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    return _chain(plan, chain, counts)


def _chain(plan: Plan, chain: int, counts: StepCounts, bar: std.tqdm | None = None) -> Chain:
    task = _task(plan, chain, counts, bar)
    with plan.density.data.isolated(task.seed):
        return ENGINES[plan.engine](task)


def _task(plan: Plan, chain: int, counts: StepCounts, bar: std.tqdm | None = None) -> Task:
    """What one chain of a plan does. bar: shown at every step where nobody watches the counts."""

    def report(steps: int) -> None:
        counts.report(chain, steps)
        if bar is not None:
            counts.show(bar)

    (log_density, compiled), seed = _made_ready(plan), plan.seed + chain
    with plan.density.data.isolated(seed):
        start = start_of(plan.density, seed)
    rest = (plan.warmup, plan.draws, seed, plan.target_accept, report, counts.stopped)
    return Task(log_density, compiled, start, *rest)


_kept: dict[bytes, tuple[ValueAndGradient, str]] = {}


def _made_ready(plan: Plan) -> tuple[ValueAndGradient, str]:
    """The density of a plan, and how it runs; kept for the next chain of the same model and data in this process."""
    density = plan.density
    key = hashlib.sha256(cloudpickle.dumps((density.model, density.data.as_numpy(), plan.tier))).digest()
    if key not in _kept:

        def promoted(flat: Tensor) -> Tensor:  # in any thread: a sampler's own does not know what this one has set
            with Promoted():
                return density.log_density(flat)

        with density.data.isolated(plan.seed):
            start = start_of(density, plan.seed)
            fn = promoted if density.data.mixed else density.log_density
            made = value_and_gradient(fn, start, start + 0.1, tier=plan.tier)
        if len(_kept) >= KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = made
    return _kept[key]


def start_of(density: Density, seed: int) -> Tensor:
    """A flat unconstrained point of finite density: the model's own start, else a uniform one in [-2, 2]."""
    init = getattr(density.model, "init", None)
    for attempt in range(TRIES):
        if init and attempt == 0:
            flat = density.unconstrain(density.data.run(partial(init, seed=seed)))
        else:
            flat = torch.rand_like(density.data.like.expand(density.dim)) * 4 - 2
        if density.log_density(flat).isfinite():
            return flat
    mend = "check the priors against the data's scale, or give the model an init(x, seed)"
    raise InputError(f"model {model_name(density.model)} has no finite density at {TRIES} starting points: {mend}")


@contextmanager
def _interrupt_stops(counts: StepCounts) -> Iterator[None]:
    """Let the first Ctrl-C stop the chains, and the second interrupt as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        counts.stop()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class StepCounts:
    """How many steps each chain has taken, and whether all are to stop, in a small file mapped into memory."""

    def __init__(self, file: Path, chains: int) -> None:
        self.file, self.chains = file, chains
        self._cells = np.memmap(file, np.int64, "r+" if file.exists() else "w+", shape=(chains + 1,))

    def __reduce__(self) -> tuple[type[StepCounts], tuple[Path, int]]:
        return StepCounts, (self.file, self.chains)

    def report(self, chain: int, steps: int) -> None:
        """Say how many steps a chain has taken."""
        self._cells[chain] = steps

    def show(self, bar: std.tqdm) -> None:
        """Let a bar stand at the steps of all chains together."""
        bar.update(int(self._cells[:-1].sum()) - bar.n)

    def stop(self) -> None:
        """Ask every chain to stop at its next draw."""
        self._cells[-1] = 1

    def stopped(self) -> bool:
        """Whether chains were asked to stop."""
        return bool(self._cells[-1])
