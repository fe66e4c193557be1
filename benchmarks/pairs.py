"""Two programs timed in turn, each run in a fresh process: ours, theirs, ours, theirs ..."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
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
    work: str, peer: str, ours: Sequence[str], theirs: Sequence[str], pairs: int = 5, threads: int = 1
) -> Pairs:
    """Run both programs in turn, one pair uncounted first; each one's last line is its numbers as JSON."""
    counted: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for number in range(1 + pairs):
        for results, command in zip(counted, (ours, theirs), strict=True):
            numbers = _run(command, threads)
            if number > 0:
                results.append(numbers)
    return Pairs(work, peer, *counted)


def _run(command: Sequence[str], threads: int) -> dict[str, float]:
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(results: Sequence[Pairs], file: Path) -> None:
    """Print medians, ratios with their range and peak memory, and write every number to a JSON file."""
    print(f"{'work':50s} {'peer':16s} {'ours':>9s} {'theirs':>9s} {'theirs/ours (min to max)':>26s} {'peak MB':>13s}")
    for pairs in results:
        ours, theirs = (statistics.median(run["seconds"] for run in side) for side in (pairs.ours, pairs.theirs))
        ratios = sorted(pairs.ratios())
        span = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        peaks = "/".join(f"{max(run['peak_bytes'] for run in side) / 2**20:.0f}" for side in (pairs.ours, pairs.theirs))
        print(f"{pairs.work:50s} {pairs.peer:16s} {ours:9.4g} {theirs:9.4g} {span:>26s} {peaks:>13s}")
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"work": p.work, "peer": p.peer, "ours": p.ours, "theirs": p.theirs} for p in results]
    file.write_text(json.dumps(rows, indent=1))
