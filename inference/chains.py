"""Markov chains side by side: one process each, their draws and progress on a board that all of them see."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from pyro.infer import MCMC, NUTS
from torch import Tensor

from ..errors import InputError
from ..models.structure import Model, model_name
from .compiled import graph_of
from .density import Density
from .isolation import isolated
from .progress import progress_bar

__all__ = ["Plan", "run_chains"]

TRIES = 100  # at a finite starting point
POLL = 0.2  # seconds between two looks at the board


@dataclass(frozen=True)
class Plan:
    """What every chain does: warmup and draws with the seed `seed + chain`, from the model's own start."""

    model: Model
    x: Tensor
    warmup: int
    draws: int
    seed: int
    target_accept: float


def run_chains(
    plan: Plan, chains: int, jobs: int, name: str, progress: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Unconstrained draws (chains, draws, dim), and their statistics, name -> (chains, draws)."""
    with tempfile.TemporaryDirectory(prefix="pyrometer-") as folder:
        board = np.memmap(Path(folder) / "steps", np.int64, "w+", shape=(chains,))
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(board, chains, plan, name, progress, stop), daemon=True)
        watcher.start()
        try:
            run = Parallel(n_jobs=jobs, mmap_mode=None) if jobs > 1 and chains > 1 else Parallel(n_jobs=1)
            parts = run(delayed(_chain)(plan, chain, str(Path(folder) / "steps")) for chain in range(chains))
        finally:
            stop.set()
            watcher.join()
            del board
    draws, stats = zip(*parts, strict=True)
    return np.stack(draws), {key: np.stack([part[key] for part in stats]) for key in stats[0]}


def _watch(board: np.ndarray, chains: int, plan: Plan, name: str, progress: bool, stop: threading.Event) -> None:
    """Keep a bar at what the chains have written on the board."""
    with progress_bar(chains * (plan.warmup + plan.draws), name, progress, unit="draw") as bar:
        while not stop.wait(POLL):
            bar.update(int(board.sum()) - bar.n)


def _chain(plan: Plan, chain: int, board: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One chain, in whatever process this is: (draws, dim), name -> (draws,)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with isolated(plan.seed + chain, plan.x.dtype):
            density = Density(plan.model, plan.x)
            start = _start(density, plan.seed + chain)
            steps = np.memmap(board, np.int64, "r+")

            def report(step: int) -> None:
                steps[chain] = step

            return _pyro_nuts(_potential(density, start), start, plan, report)
    finally:
        torch.set_num_threads(threads)


def _start(density: Density, seed: int) -> Tensor:
    """A flat unconstrained point of finite density: the model's own start, or a uniform one in [-2, 2]."""
    init = getattr(density.model, "init", None)
    size = sum(t.inverse_shape(s.shape).numel() for s, t in zip(density.structure.latent, density.transforms.values()))
    for attempt in range(TRIES):
        if init and attempt == 0:
            flat = density.unconstrain(init(density.x, seed))
        else:
            flat = torch.rand(size, dtype=density.x.dtype, device=density.x.device) * 4 - 2
        if density.log_density(flat).isfinite():
            return flat
    mend = "check the priors against the data's scale, or give the model an init(x, seed)"
    raise InputError(f"model {model_name(density.model)} has no finite density at {TRIES} starting points: {mend}")


def _potential(density: Density, start: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
    """Minus the log density, for Pyro's kernel: traced once where it can be."""
    eager = lambda flat: -density.log_density(flat)  # noqa: E731
    value = graph_of(eager, (start,), (start + 0.1,))
    both = value and graph_of(torch.func.grad_and_value(value), (start,), (start + 0.1,))
    if both is None:
        return lambda z: eager(z["flat"])

    class Potential(torch.autograd.Function):
        """Value and gradient from one pass over the graph."""

        @staticmethod
        def forward(ctx: Any, flat: Tensor) -> Tensor:
            gradient, potential = both(flat)
            ctx.save_for_backward(gradient)
            return potential

        @staticmethod
        def backward(ctx: Any, *outputs: Tensor) -> Tensor:
            return outputs[0] * ctx.saved_tensors[0]

    return lambda z: Potential.apply(z["flat"])


def _pyro_nuts(
    potential: Callable[[dict[str, Tensor]], Tensor], start: Tensor, plan: Plan, report: Callable[[int], None]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pyro's own kernel."""
    lp, step_size = [], []

    def after(kernel: NUTS, samples: Any, stage: str, step: int) -> None:
        sampling = stage == "Sample"
        report(step + 1 + (plan.warmup if sampling else 0))
        if sampling:
            lp.append(-float(kernel._fetch_from_cache()[1]))
            step_size.append(float(kernel.step_size))

    kernel = NUTS(potential_fn=potential, target_accept_prob=plan.target_accept)
    mcmc = MCMC(
        kernel,
        num_samples=plan.draws,
        warmup_steps=plan.warmup,
        initial_params={"flat": start},
        hook_fn=after,
        disable_progbar=True,
    )
    mcmc.run()
    diverging = np.zeros(plan.draws, bool)
    diverging[kernel._divergences] = True
    draws = mcmc.get_samples()["flat"].cpu().numpy()
    return draws, {"lp": np.array(lp), "diverging": diverging, "step_size": np.array(step_size)}
