"""SVI of an AutoNormal on a Bayesian Gaussian mixture: against `pyro.infer.SVI`, and against NumPyro's `SVI.run`.

A step: the difference between a long and a short fit over the difference of their steps, in a process that has made
such a fit before, so that neither compilation nor scoring count. A fit: 5,000 steps in such a process, from the call to
the end; ours is then scored, too, draws, likelihood and relabelling, which NumPyro's is not. Cold: the first fit.
Accuracy: the loss of the last hundred steps of fits equally long, nats; the optimizer and its falling rate are the same
on all sides.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from peers.pairs import Pairs, report, run_pairs, say
from peers.problems import data, locs_of

CASES = ("500,2,3", "5000,8,10")
LR, SHORT, LONG = 0.01, 500, 5000
BRIEF = (20, 220)  # steps of Pyro's, which take long


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the pairs, print them, and write them to `svi_speed.json`."""
    return report(_all(), folder / "svi_speed.json")


def _all() -> Iterator[Pairs]:
    for peer, unit in (("pyro", "step"), ("numpyro", "step"), ("numpyro", "fit")):
        for case in CASES:
            ours, theirs = ([__file__, side, case, unit, peer] for side in ("ours", peer))
            yield run_pairs(f"SVI, a {unit}, N,D,K={case}", peer, ours, theirs, cold=True)


Run = Callable[[int], tuple[float, float]]  # steps -> the loss of the last hundred, nats, and seconds


def ours(x: np.ndarray, k: int) -> Run:
    """`pyrometer.svi`."""
    import pyrometer
    from pyrometer.models import BayesianGMM

    def run(steps: int) -> tuple[float, float]:
        began = time.perf_counter()
        fit = pyrometer.svi(BayesianGMM(k), "auto_normal", x, steps=steps, lr=LR, compile=True, progress=False)
        return float(fit.losses[-100:].mean()), time.perf_counter() - began

    return run


def numpyro(x: np.ndarray, k: int) -> Run:
    """NumPyro's `SVI.run`."""
    import jax
    from numpyro.infer import SVI, Trace_ELBO, init_to_value
    from numpyro.infer.autoguide import AutoNormal
    from numpyro.optim import ClippedAdam
    from peers import numpyro_models

    jax.config.update("jax_enable_x64", True)
    model = numpyro_models.bayesian_gmm
    start = init_to_value(values={"locs": locs_of(x, k)})

    def run(steps: int) -> tuple[float, float]:
        began = time.perf_counter()
        optimizer = ClippedAdam(lambda step: LR * 0.01 ** (step / steps), clip_norm=10.0)
        svi = SVI(model, AutoNormal(model, init_loc_fn=start), optimizer, Trace_ELBO())
        result = svi.run(jax.random.PRNGKey(0), steps, x, k, progress_bar=False)
        return float(result.losses[-100:].mean()), time.perf_counter() - began

    return run


def pyro(x: np.ndarray, k: int) -> Run:
    """A loop around `pyro.infer.SVI`."""
    import pyro
    import torch
    from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate
    from pyro.optim import ClippedAdam
    from pyrometer.guides import catalogue
    from pyrometer.models import BayesianGMM

    torch.set_default_dtype(torch.float64)
    pyro.enable_validation(False)
    model, rows = BayesianGMM(k), torch.as_tensor(x)

    def run(steps: int) -> tuple[float, float]:
        began = time.perf_counter()
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        optimizer = ClippedAdam({"lr": LR, "lrd": 0.01 ** (1 / steps)})
        guide = catalogue(model)["auto_normal"](model)
        svi = SVI(config_enumerate(model), guide, optimizer, TraceEnum_ELBO(max_plate_nesting=1))
        losses = [svi.step(rows) for _ in range(steps)]
        return sum(losses[-100:]) / len(losses[-100:]), time.perf_counter() - began

    return run


def measure(run: Run, unit: str, short: int, long: int, judged: int) -> None:
    """A first fit, cold, then warm ones. The loss is that of a fit of `judged` steps."""
    _, cold = run(long if unit == "fit" else short)
    brief = min(run(short)[1] for _ in range(2))
    loss, whole = run(long)
    accuracy = loss if judged == long else run(judged)[0]
    say(seconds=whole if unit == "fit" else (whole - brief) / (long - short), cold=cold, accuracy=accuracy)


if __name__ == "__main__":
    side, case, unit, peer = sys.argv[1:]
    lengths = {"pyro": BRIEF}.get(side, (SHORT, LONG))
    judged = {"pyro": BRIEF[1]}.get(peer, LONG)
    measure({"ours": ours, "numpyro": numpyro, "pyro": pyro}[side](*data(case)), unit, *lengths, judged)
