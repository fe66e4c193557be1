"""What `pyrometer.svi`, uncompiled, costs a step over a batch-written loop around `pyro.infer.SVI`: same model, guide.

Both sides are timed at two lengths and the difference is a step's cost, so that neither pays for scoring or set-up.
Accuracy: the final losses, since both must have done the same work.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pyro
import pyrometer
import torch
from peers.pairs import Pairs, report, run_pairs, say
from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate
from pyro.optim import ClippedAdam
from pyrometer.guides import catalogue
from pyrometer.models import BayesianGMM

GUIDE, SHORT, LONG, LR = "auto_normal", 200, 2200, 0.01
MODEL = BayesianGMM(components=2)


def ours(steps: int) -> float:
    """Final loss of `pyrometer.svi`, mean of the last hundred steps."""
    fit = pyrometer.svi(MODEL, GUIDE, "faithful", steps=steps, lr=LR, draws=2, compile=False, progress=False)
    return float(fit.losses[-100:].mean())


def by_hand(steps: int) -> float:
    """The same of the loop that Pyro's tutorials show."""
    x = torch.tensor(pyrometer.datasets.load("faithful").to_numpy())
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    pyro.enable_validation(False)
    optimizer = ClippedAdam({"lr": LR, "lrd": 0.01 ** (1 / steps)})
    svi = SVI(config_enumerate(MODEL), catalogue(MODEL)[GUIDE](MODEL), optimizer, TraceEnum_ELBO(max_plate_nesting=1))
    losses = [svi.step(x) for _ in range(steps)]
    return sum(losses[-100:]) / 100


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the pairs, print them, and write them to `svi_overhead.json`."""
    script = str(Path(__file__))
    sides = ([script, "ours"], [script, "by_hand"])
    results = run_pairs("SVI step, uncompiled, Old Faithful", "by hand", *sides)
    return report([results], folder / "svi_overhead.json")


if __name__ == "__main__":
    torch.set_num_threads(1)
    loop = {"ours": ours, "by_hand": by_hand}[sys.argv[1]]
    times = []
    for length in (SHORT, SHORT, LONG):  # the first warms up
        began = time.perf_counter()
        loss = loop(length)
        times.append(time.perf_counter() - began)
    say(seconds=(times[2] - times[1]) / (LONG - SHORT), accuracy=loss)
