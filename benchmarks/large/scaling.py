"""How time grows with the rows: a step of SVI on batches of 1,000, and one gradient of the density, D=8, K=10."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from peers.problems import blobs, least_seconds
from pyro.optim import ClippedAdam
from pyrometer.guides import catalogue
from pyrometer.inference.compilation.compiled import value_and_gradient
from pyrometer.inference.data.data import Data
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.mcmc.chains import start_of
from pyrometer.inference.runtime.isolation import isolated
from pyrometer.inference.runtime.progress import progress_bar
from pyrometer.inference.steps.compiled_steps import Schedule
from pyrometer.inference.steps.pairing import pair
from pyrometer.inference.svi.training import begin
from pyrometer.models import BayesianGMM
from pyrometer.models.structure import Plate
from pyrometer.models.trace import read_structure

ROWS = (1_000, 10_000, 100_000, 1_000_000)


def main(folder: Path = Path("build/bench")) -> list[dict[str, float]]:
    """Measure, print, and write to `scaling.json`."""
    print(f"{'rows':>9s} {'SVI step, ms':>13s} {'gradient, ms':>13s} {'gradient, ns a row':>19s}")
    torch.set_num_threads(1)  # what else runs on the machine would blur the line
    results = []
    for n in ROWS:
        x = torch.as_tensor(blobs(n, 8, 10))
        step, gradient = svi_step(x), density_gradient(x)
        results.append({"rows": n, "svi_step": step, "gradient": gradient})
        print(f"{n:9d} {1e3 * step:13.3f} {1e3 * gradient:13.3f} {1e9 * gradient / n:19.1f}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scaling.json").write_text(json.dumps(results, indent=1))
    return results


def svi_step(x: torch.Tensor) -> float:
    """Seconds a step of SVI on batches of 1,000 rows: what a longer fit takes more than a shorter one."""
    seconds = [_training(x, steps) for steps in (1000, 1000, 5000)][1:]  # the first warms up
    return (seconds[1] - seconds[0]) / 4000


def _training(x: torch.Tensor, steps: int) -> float:
    plate = Plate("data", -1, 1000, len(x))
    model = BayesianGMM(10, batch_size=1000 if len(x) > 1000 else None)
    data = Data((x,), rows=len(x))
    with isolated(0, torch.float64):
        make = lambda: pair(model, catalogue(model)["auto_normal"](model), "", data, read_structure(model, x), "auto")  # noqa: E731
        plates = (plate,) if len(x) > 1000 else ()
        optimizer = ClippedAdam({"lr": 0.01, "lrd": 0.999})
        start = begin(make, optimizer, data, 0, Schedule(steps, plates=plates))
        with progress_bar(steps, "", False) as bar:
            began = time.perf_counter()
            start.advance(steps, bar)
            return time.perf_counter() - began


def density_gradient(x: torch.Tensor) -> float:
    """Seconds a gradient of the log posterior of all rows."""
    with isolated(0, torch.float64):
        density = Density(BayesianGMM(10), Data((x,), rows=len(x)))
        start = start_of(density, 0)
        gradient, _ = value_and_gradient(density.log_density, start, start + 0.01, tiers=("inductor",))
        return least_seconds(lambda: gradient(start), rounds=3, seconds=1.0)
