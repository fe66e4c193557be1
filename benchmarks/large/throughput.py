"""How many fits a minute by 1, 2 and more processes: guides of a comparison, and simulations of a calibration.

Eight guides of Old Faithful, 2,000 steps each; 100 simulations of a regression, 50 rows, NUTS of 300 + 400 draws.
The processes are warm: they have done the same work once. Each number of them has to give the same figures.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib
import pyro
import pyro.distributions as dist
import pyrometer
import torch
from pyrometer.models import BayesianGMM

GUIDES = ("mean_field", "structured", "auto_normal", "auto_mvn")
SIMULATIONS, ROWS = 100, 50
ROUNDS = int(os.environ.get("BENCH_PAIRS", "5"))  # of which the fastest is told
JOBS = [jobs for jobs in (1, 2, 4, 8, 16) if jobs <= joblib.cpu_count()]


def main(folder: Path = Path("build/bench")) -> list[dict[str, float | str]]:
    """Measure, print, and write to `throughput.json`."""
    print(f"{'':12s} {'processes':>9s} {'seconds':>8s} {'fits a minute':>14s}")
    found: list[dict[str, float | str]] = []
    for what, fits, work in (("guides", 2 * len(GUIDES), guides), ("simulations", SIMULATIONS, simulations)):
        first: object = None
        for jobs in JOBS:
            work(jobs)
            seconds, figures = min(timed(work, jobs) for _ in range(ROUNDS))
            first = first or figures
            assert figures == first, f"{what}: {jobs} processes give other figures than one"
            rate = 60 * fits / seconds
            found.append({"what": what, "processes": jobs, "seconds": seconds, "fits_a_minute": rate})
            print(f"{what:12s} {jobs:9d} {seconds:8.1f} {rate:14.0f}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "throughput.json").write_text(json.dumps(found, indent=1))
    return found


def regression(x: torch.Tensor, y: torch.Tensor) -> None:
    """alpha, beta ~ Normal(0, 5),   sigma ~ HalfNormal(5),   y_n ~ Normal(alpha + beta x_n, sigma)."""
    alpha, beta = pyro.sample("alpha", dist.Normal(0.0, 5.0)), pyro.sample("beta", dist.Normal(0.0, 5.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(5.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)


def timed(work: Callable[[int], str], jobs: int) -> tuple[float, str]:
    """Seconds, and the figures."""
    began = time.perf_counter()
    figures = work(jobs)
    return time.perf_counter() - began, figures


def guides(jobs: int) -> str:
    """The table of the guides, the time left out."""
    each = {f"{name}, {lr}": partial(pyrometer.svi, guide=name, lr=lr) for name in GUIDES for lr in (0.01, 0.02)}
    fits = {name: partial(method, steps=2000) for name, method in each.items()}
    table = pyrometer.compare(BayesianGMM(2), "faithful", fits, reference=None, jobs=jobs, progress=False).table
    return str(table.drop(columns="seconds").to_csv())


def simulations(jobs: int) -> str:
    """The ranks of the truths."""
    x = torch.linspace(-1, 1, ROWS, dtype=torch.float64)
    found = pyrometer.calibrate(regression, "nuts", (x, x), simulations=SIMULATIONS, jobs=jobs, progress=False)
    return str(found.ranks.to_csv())


if __name__ == "__main__":
    main()
