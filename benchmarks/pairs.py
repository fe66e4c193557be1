"""Two programs timed in turn, each run in a fresh process: ours, theirs, ours, theirs ...

What a run says: `seconds` of the work when all is warm, `cold` seconds of the first time in a process whose compilers
find nothing on disk, `accuracy`, a number that tells whether both sides did the same, `peak_bytes` of memory; `wall`
seconds of the whole process are added here.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Pairs", "report", "run_pairs", "say"]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Pairs:
    """What the runs of one pairing said: a dict of numbers a run, `seconds` among them."""

    work: str
    peer: str
    ours: list[dict[str, float]]
    theirs: list[dict[str, float]]

    def ratios(self, key: str = "seconds") -> list[float]:
        """Theirs over ours, pair by pair: above 1 we are ahead."""
        return [b[key] / a[key] for a, b in zip(self.ours, self.theirs, strict=True)]


def say(**numbers: float) -> None:
    """What a timed program prints at its end; its peak memory in bytes is added."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak, **numbers}))


def run_pairs(
    work: str,
    peer: str,
    ours: Sequence[str],
    theirs: Sequence[str],
    pairs: int = 5,
    threads: int | None = 1,
    cold: bool = False,
) -> Pairs:
    """Run both programs in turn, one pair uncounted first; each one's last line is its numbers as JSON.

    threads: of each side; None leaves them to it. cold: every run begins with an empty cache of compiled code.
    """
    counted: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for number in range(1 + pairs):
        for results, command in zip(counted, (ours, theirs), strict=True):
            numbers = _run(command, threads, cold)
            if number > 0:
                results.append(numbers)
    return Pairs(work, peer, *counted)


def _run(command: Sequence[str], threads: int | None, cold: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | ({} if threads is None else dict.fromkeys(THREADS, str(threads)))
        environment |= {"TORCHINDUCTOR_CACHE_DIR": empty} if cold else {}
        began = time.perf_counter()
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return {"wall": wall, **json.loads(done.stdout.strip().splitlines()[-1])}


def report(results: Sequence[Pairs], file: Path) -> None:
    """Print medians, ratios with their range, accuracy and peak memory, and write every number to a JSON file."""
    print(f"{'work':44s} {'against':18s} {'warm: ratio (min to max), ours, theirs':>44s} {'cold':>36s}", end="")
    print(f" {'accuracy, ours / theirs':>25s} {'peak MB':>11s}")
    for pairs in results:
        peaks = "/".join(f"{max(run['peak_bytes'] for run in side) / 2**20:.0f}" for side in (pairs.ours, pairs.theirs))
        cells = [_times(pairs, "seconds"), _times(pairs, "cold"), _accuracy(pairs), peaks]
        print(f"{pairs.work:44s} {pairs.peer:18s} {cells[0]:>44s} {cells[1]:>36s} {cells[2]:>25s} {cells[3]:>11s}")
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"work": p.work, "peer": p.peer, "ours": p.ours, "theirs": p.theirs} for p in results]
    file.write_text(json.dumps(rows, indent=1))


def _times(pairs: Pairs, key: str) -> str:
    """Theirs over ours with its range, and the medians of both in seconds."""
    if key not in pairs.ours[0]:
        return "-"
    ours, theirs = (statistics.median(run[key] for run in side) for side in (pairs.ours, pairs.theirs))
    ratios = sorted(pairs.ratios(key))
    return f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}) {ours:.3g}, {theirs:.3g}"


def _accuracy(pairs: Pairs) -> str:
    if "accuracy" not in pairs.ours[0]:
        return "-"
    return " / ".join(
        f"{statistics.median(run['accuracy'] for run in side):.6g}" for side in (pairs.ours, pairs.theirs)
    )
