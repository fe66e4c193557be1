"""Rows that do not fit into memory: peak memory, rows a second, and what a billion rows of 8 columns would cost.

    python benchmarks/large/rows.py [rows, 10,000,000] [what, em cavi svi train compare command copy]

Prints the table of docs/howto/large_rows.md. Each figure is of a process of its own; memory is what is resident at
most, pages of the file among it, above what was resident after the imports.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS, BILLION, STEPS = 8, 1_000_000_000, 4
WHAT = ("em", "cavi", "svi", "train", "compare", "command", "copy")
SAYS = {
    "em": "a step of `em`, three components",
    "cavi": "a step of `cavi`, three components",
    "svi": "a step of `svi`, 2,048 rows at random, and the look whether it was the last",
    "draw": "log p(x, theta) at one draw, for `svi` and `compare`",
    "train": "an epoch of `train`, steps of 4,096 rows",
    "copy": "the copy of a Parquet data set, once",
    "open": "the first look at a file",
}


def made(folder: Path, rows: int) -> Path:
    """A file of so many rows: three clusters."""
    path = folder / "rows.npy"
    x = np.lib.format.open_memmap(path, mode="w+", dtype="f8", shape=(rows, COLUMNS))
    random = np.random.default_rng(0)
    locs = 3 * random.normal(size=(3, COLUMNS))
    for start in range(0, rows, 500_000):
        labels = random.integers(0, 3, size=min(500_000, rows - start))
        x[start : start + len(labels)] = locs[labels] + random.normal(size=(len(labels), COLUMNS))
    x.flush()
    return path


def resident(which: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def seconds_of(fn: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its seconds."""
    began = time.perf_counter()
    return fn(), time.perf_counter() - began


def measured(what: str, path: Path) -> dict[str, float]:
    """Seconds of a pass or step, by what they are of, and the peak above the imports; in a process of its own."""
    import pyrometer
    import sklearn.cluster  # noqa: F401 # which a start imports
    import torch
    from pyrometer.inference.cli import main as command_line
    from pyrometer.inference.data.as_data import as_data
    from pyrometer.inference.mapped.opened import opened_rows
    from pyrometer.models import GMM, VAE, BayesianGMM

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    x = np.load(path, mmap_mode="r") if path.suffix == ".npy" else None
    common: dict[str, Any] = {"progress": False}
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    if what in ("em", "cavi"):
        fit, seconds = seconds_of(lambda: _classic(pyrometer, GMM, BayesianGMM, what, x, STEPS))
        _, less = seconds_of(lambda: _classic(pyrometer, GMM, BayesianGMM, what, x, 1))
        found = {what: (seconds - less) / max(1, fit.steps - 1)}
    elif what == "svi":
        model = BayesianGMM(3)
        pyrometer.svi(model, "structured", x, starts=1, steps=50, draws=1, **common)  # compiles
        _, short = seconds_of(lambda: pyrometer.svi(model, "structured", x, starts=1, steps=50, draws=1, **common))
        _, drawn = seconds_of(lambda: pyrometer.svi(model, "structured", x, starts=1, steps=50, draws=5, **common))
        _, long = seconds_of(lambda: pyrometer.svi(model, "structured", x, starts=1, steps=5050, draws=1, **common))
        _, opened = seconds_of(lambda: as_data(x, model))
        found = {"svi": (long - short) / 5000, "draw": max(0.0, drawn - short) / 4, "open": opened}
    elif what == "train":
        vae = VAE(2, hidden=(32,))
        _, seconds = seconds_of(
            lambda: pyrometer.train(vae, "encoder", x, epochs=1, batch_size=4096, draws=5, **common)
        )
        found = {"train": seconds}
    elif what == "compare":
        options: dict[str, Any] = {"reference": "cavi", "steps": 150, "starts": 1, "draws": 5}
        _, seconds = seconds_of(lambda: pyrometer.compare(BayesianGMM(3), x, ["structured"], **options, **common))
        found = {"compare": seconds}
    elif what == "command":
        words = ["compare", str(path), "--components", "3", "--guides", "structured", "--reference", "cavi", "--quiet"]
        words += ["--steps", "150", "--starts", "1", "--draws", "5", "--holdout", "0.1"]
        _, seconds = seconds_of(lambda: command_line.main(words))
        found = {"command": seconds}
    else:
        _, seconds = seconds_of(lambda: opened_rows(path))
        found = {"copy": seconds}
    return {**found, "peak": resident("VmHWM") - before}


def _classic(pyrometer: Any, gmm: Any, bayesian: Any, what: str, x: Any, steps: int) -> Any:
    options: dict[str, Any] = {"starts": 1, "max_steps": steps, "tol": 0.0, "progress": False}
    if what == "em":
        return pyrometer.em(gmm(3), x, **options)
    return pyrometer.cavi(bayesian(3), x, draws=2, **options)


def as_parquet(path: Path) -> Path:
    """The same rows as a folder of Parquet files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, x = path.parent / "parts", np.load(path, mmap_mode="r")
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, len(x), 1_000_000)):
        part = x[start : start + 1_000_000]
        pq.write_table(pa.table({f"x{d}": part[:, d] for d in range(COLUMNS)}), folder / f"part{number:04d}.parquet")
    return folder


def main(rows: int = 10_000_000, what: tuple[str, ...] = WHAT) -> dict[str, dict[str, float]]:
    """Measure, and print the table."""
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = made(Path(folder), rows)
        for each in what:
            place = as_parquet(path) if each == "copy" else path
            words = [sys.executable, __file__, "--measure", each, str(place)]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            results[each] = json.loads(done.stdout.splitlines()[-1])
            print(f"{each}: {results[each]}", file=sys.stderr, flush=True)
    print(table(results, rows))
    return results


def table(results: dict[str, dict[str, float]], rows: int) -> str:
    """Peaks by method, and what a billion rows cost, in Markdown."""
    lines = [f"| {rows:,} x {COLUMNS}, {8 * rows * COLUMNS / 1e6:,.0f} MB | peak above the imports, MB |", "|---|---|"]
    lines += [f"| `{name}` | {found['peak'] / 1e6:,.0f} |" for name, found in results.items()]
    lines += ["", "| work | rows a second | a billion rows |", "|---|---|---|"]
    for name, says in SAYS.items():
        seconds = next((found[name] for found in results.values() if name in found), None)
        if seconds:
            whole = rows if name != "svi" else 2048
            cost = f"{seconds * 1e3:.3g} ms, as of any" if name == "svi" else _span(seconds * BILLION / rows)
            lines.append(f"| {says} | {whole / seconds:.2g} | {cost} |")
    return "\n".join(lines)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measured(sys.argv[2], Path(sys.argv[3]))))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 10_000_000, tuple(sys.argv[2:]) or WHAT)
