"""A simulation study: one model fitted by NUTS to many simulated data sets, in one loop of one process.

A linear regression of 50 rows, 4 x (250 + 250) draws; every Fit is scored. Accuracy: the share of 90 % intervals of the
slope that hold the truth.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import torch
from peers.pairs import PAIRS

FITS = 200 * PAIRS
SLOPE = 0.5


def regression(x: torch.Tensor, y: torch.Tensor) -> None:
    """alpha, beta ~ Normal(0, 5),   sigma ~ HalfNormal(5),   y_n ~ Normal(alpha + beta x_n, sigma)."""
    alpha, beta = pyro.sample("alpha", dist.Normal(0.0, 5.0)), pyro.sample("beta", dist.Normal(0.0, 5.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(5.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)


def main(folder: Path = Path("build/bench")) -> dict[str, float]:
    """Measure, print, and write to `simulation.json`."""
    rng = np.random.default_rng(0)
    seconds, held = [], []
    for seed in range(FITS):
        x = rng.normal(size=50)
        y = 1 + SLOPE * x + rng.normal(size=50)
        began = time.perf_counter()
        fit = pyrometer.nuts(regression, (x, y), warmup=250, draws=250, seed=seed, progress=False)
        seconds.append(time.perf_counter() - began)
        low, high = np.quantile(fit.posterior["beta"], [0.05, 0.95])
        held.append(low < SLOPE < high)
    found = {"fits": FITS, "first": seconds[0], "each": float(np.median(seconds)), "accuracy": float(np.mean(held))}
    first, each, share = found["first"], found["each"], found["accuracy"]
    print(f"{FITS} fits: the first {first:.2f} s, then {each:.3f} s each; coverage {share:.3f}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "simulation.json").write_text(json.dumps(found, indent=1))
    return found
