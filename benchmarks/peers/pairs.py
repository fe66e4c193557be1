"""Programs timed in turn: ours, theirs, ours, theirs ... each run in a fresh process, or all kept and asked in turn.

What a run says: `seconds` of the work when all is warm, `cold` seconds of the first time in a process whose compilers
find nothing on disk, `accuracy`, a number that tells whether both sides did the same, `peak_bytes` of memory; `wall`
seconds of the whole process are added here. BENCH_PAIRS sets how many pairs there are, 5 by default; the first, which
is not counted, is left out where there is one. BENCH_UNTIL is the time, in seconds since 1970, from which no further
line is begun.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

__all__ = ["PAIRS", "Pairs", "ask_in_turn", "report", "run_pairs", "say"]

PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))
UNTIL = float(os.environ.get("BENCH_UNTIL", "inf"))
BENCHMARKS = Path(__file__).parents[1]  # what a program of a room imports from
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "PYROMETER_CACHE", "NUMBA_CACHE_DIR")  # of compiled code

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
    print(json.dumps({"peak_bytes": peak, **numbers}), flush=True)


def run_pairs(
    work: str,
    peer: str,
    ours: Sequence[str],
    theirs: Sequence[str],
    pairs: int = (PAIRS + 1) // 2,
    threads: int | None = 1,
    cold: bool = False,
) -> Pairs:
    """Run both programs in turn, one pair uncounted first; each one's last line is its numbers as JSON.

    threads: of each side; None leaves them to it. cold: every run begins with an empty cache of compiled code.
    """
    counted: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    uncounted = 0 if cold or pairs == 1 else 1
    for number in range(uncounted + pairs):
        for results, command in zip(counted, (ours, theirs), strict=True):
            numbers = _run(command, threads, cold)
            if number >= uncounted:
                results.append(numbers)
    return Pairs(work, peer, *counted)


def ask_in_turn(work: str, sides: Mapping[str, Sequence[str]], rounds: int) -> Iterator[Pairs]:
    """Keep a process a side, with empty caches of compiled code, and let each run in turn; ours is the first side.

    A process gets a line a run, its number from 0, and answers with a line of JSON. Run 0 says what is `cold`; it and
    one more are not counted.
    """
    with tempfile.TemporaryDirectory() as empty, ExitStack() as running:
        answers: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        processes = {}
        for side, command in sides.items():
            environment = _environment() | _caches(Path(empty) / side) | {"BEGAN": str(time.time())}
            process = subprocess.Popen(
                [sys.executable, *command], env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True
            )
            processes[side] = running.enter_context(process)
            answers[side].append(_ask(process, 0, command))  # alone: nobody else compiles meanwhile
        for number in range(1, 2 + rounds):
            for side, process in processes.items():
                answers[side].append(_ask(process, number, sides[side]))
        for process in processes.values():
            process.stdin.close()  # type: ignore[union-attr]
    counted = {side: [{**first, **run} for run in runs] for side, (first, _, *runs) in answers.items()}
    ours, *peers = counted
    for peer in peers:
        yield Pairs(work, peer, counted[ours], counted[peer])


def _ask(process: Popen[str], number: int, command: Sequence[str]) -> dict[str, float]:
    print(number, file=process.stdin, flush=True)
    for line in process.stdout or ():
        if line.startswith("{"):
            return json.loads(line)
    raise RuntimeError(f"{' '.join(command)} ended without an answer")


def _environment() -> dict[str, str]:
    """Of a program that is timed, which stands in a room of the benchmarks."""
    path = os.pathsep.join(filter(None, [str(BENCHMARKS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def _caches(empty: Path) -> dict[str, str]:
    """Where compilers keep their work: nowhere that has anything."""
    return {**dict.fromkeys(CACHES, str(empty)), "PYTENSOR_FLAGS": f"base_compiledir={empty}"}


def _run(command: Sequence[str], threads: int | None, cold: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as empty:
        environment = _environment() | ({} if threads is None else dict.fromkeys(THREADS, str(threads)))
        environment |= _caches(Path(empty)) if cold else {}
        began = time.perf_counter()
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return {"wall": wall, **json.loads(done.stdout.strip().splitlines()[-1])}


def report(results: Iterable[Pairs], file: Path) -> list[Pairs]:
    """Print a line as each pairing is known: medians, ratios with their range, and what else the runs said.

    Every number goes to a JSON file besides.
    """
    print(f"{'work':44s} {'against':9s} {'warm: ratio (min to max), ours, theirs':>44s} {'cold':>36s}", end="")
    print(f" {'accuracy, ours / theirs':>25s} {'peak MB':>11s} {'ESS/s':>36s} {'us a gradient':>30s}", flush=True)
    known, lines = [], iter(results)
    while True:
        if time.time() > UNTIL:
            print("no time is left for further lines")
            break
        if (pairs := next(lines, None)) is None:
            break
        peaks = "/".join(f"{max(run['peak_bytes'] for run in side) / 2**20:.0f}" for side in (pairs.ours, pairs.theirs))
        cells = [_times(pairs, "seconds"), _times(pairs, "cold"), _accuracy(pairs), peaks]
        print(
            f"{pairs.work:44s} {pairs.peer:9s} {cells[0]:>44s} {cells[1]:>36s} {cells[2]:>25s} {cells[3]:>11s}", end=""
        )
        print(f" {_times(pairs, 'rate', 1, inverse=True):>36s} {_times(pairs, 'gradient', 1e6):>30s}", flush=True)
        known.append(pairs)
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"work": p.work, "peer": p.peer, "ours": p.ours, "theirs": p.theirs} for p in known]
        file.write_text(json.dumps(rows, indent=1))
    return known


def _times(pairs: Pairs, key: str, unit: float = 1.0, inverse: bool = False) -> str:
    """How far ahead we are with its range, and the medians of both; inverse: of a rate, whose more is better."""
    if key not in pairs.ours[0] or key not in pairs.theirs[0]:
        return "-"
    ours, theirs = (unit * statistics.median(run[key] for run in side) for side in (pairs.ours, pairs.theirs))
    ratios = sorted(1 / ratio if inverse else ratio for ratio in pairs.ratios(key))
    return f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}) {ours:.3g}, {theirs:.3g}"


def _accuracy(pairs: Pairs) -> str:
    if "accuracy" not in pairs.ours[0]:
        return "-"
    return " / ".join(
        f"{statistics.median(run['accuracy'] for run in side):.6g}" for side in (pairs.ours, pairs.theirs)
    )
