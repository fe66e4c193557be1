"""Rows a second of one fit by 1 and 2 processes under torchrun, a thread each: a VAE by Pyro, a mixture compiled.

The whole batch is the same for both, so that the steps and the loss at their end are too.
`torchrun --standalone --nproc-per-node 1 benchmarks/large/processes.py cuda` looks whether NCCL starts, on one GPU, and
gives the losses that are had without it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyrometer
import torch
from pyro.optim import Adam
from pyrometer.inference.distributed import group
from pyrometer.inference.distributed.group import is_first, joined
from pyrometer.inference.runtime.progress import progress_bar
from pyrometer.inference.steps.plan import planned
from pyrometer.inference.svi import shares
from pyrometer.inference.svi.shares import batches_of, begin_shared
from pyrometer.models import VAE, BayesianGMM

ROOM = Path(__file__).parent.parent  # of the benchmarks
WHOLE, ROWS = 2048, 20_480  # rows a step and in all
STEPS = {"vae": (20, 200), "mixture": (200, 2000)}  # to warm up, and timed


def problem(what: str) -> tuple[Any, str, torch.Tensor]:
    """A VAE of two hidden layers on 784 pixels; or ten Gaussians in eight dimensions. Model, guide and rows."""
    generator = np.random.default_rng(0)
    if what == "vae":
        model = VAE(10, "mlp", "bernoulli", hidden=(400, 400))
        return model, "encoder", torch.as_tensor(generator.random((ROWS, 784), dtype=np.float32))
    return BayesianGMM(10), "auto_normal", torch.as_tensor(generator.normal(size=(ROWS, 8)))


def main(folder: Path = Path("build/bench")) -> list[dict[str, Any]]:
    """Measure, print, and write to `processes.json`."""
    print(f"{'':8s} {'processes':>9s} {'ms a step':>10s} {'rows a second':>14s} {'loss':>14s}")
    found = []
    for what in ("vae", "mixture"):
        for processes in (1, 2):
            command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), __file__]
            paths = os.pathsep.join(filter(None, (str(ROOM), os.environ.get("PYTHONPATH"))))
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
            run = subprocess.run(
                [sys.executable, *command, what], env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            said = json.loads(run.stdout.splitlines()[-1])
            found.append({"what": what, "processes": processes, **said})
            seconds = said["seconds"]
            print(f"{what:8s} {processes:9d} {1e3 * seconds:10.2f} {WHOLE / seconds:14.0f} {said['loss']:14.4f}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "processes.json").write_text(json.dumps(found, indent=1))
    return found


def timed(what: str) -> None:
    """What one of the processes does and, the first, says: seconds a step, and the loss at the end."""
    model, name, x = problem(what)
    warm_up, steps = STEPS[what]
    with joined(x.device) as group, progress_bar(0, "", False) as quiet:
        plan = planned(model, name, x, None, "auto").in_batches(WHOLE // group.processes)
        batches = batches_of(group, plan)
        schedule = batches.schedule(plan.data, steps=steps, compile=what == "mixture" and "auto")
        start = begin_shared(plan, lambda: Adam({"lr": 1e-3}), 0, schedule, batches)
        start.advance(warm_up, quiet)
        began = time.perf_counter()
        start.advance(steps, quiet)
        seconds = (time.perf_counter() - began) / steps
    if is_first():
        print(json.dumps({"seconds": seconds, "loss": start.losses[-1], "steps": start.compiled}))


def on_cuda() -> None:
    """Look whether a step by NCCL is one without, on one GPU."""
    pixels = np.random.default_rng(0).random((ROWS, 784), dtype=np.float32)
    model = VAE(10, "mlp", "bernoulli", hidden=(400, 400), device="cuda")
    options: dict[str, Any] = {"steps": 50, "batch_size": 256, "draws": 1, "progress": False}
    alone = pyrometer.svi(model, "encoder", pixels, **options).losses
    group.SHARED_FROM = shares.SHARED_FROM = 1  # as if there were others
    shared = pyrometer.svi(model, "encoder", pixels, **options).losses
    gap = np.abs(alone - shared).max() / np.abs(alone).max()
    print(f"NCCL in {os.environ['WORLD_SIZE']} process: largest gap of {len(alone)} losses {gap:.1e}, relative")
    assert gap < 1e-5  # float32
    assert not torch.distributed.is_initialized()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "cuda":
        on_cuda()
    else:
        timed(sys.argv[1])
