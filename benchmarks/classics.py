"""EM and CAVI against scikit-learn: time an iteration, and peak memory.

Both sides start from the same responsibilities, run the same numbers of iterations, and have the same threads; that
they compute the same is held by the tests. Time an iteration is the difference between a long and a short run over the
difference of their iterations, so that what is done once cancels. The data and the start are made on both sides alike
and count towards the peak of both.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers.pairs import PAIRS, Pairs, report, run_pairs, say

CASES = ((100_000, 2, 5), (100_000, 8, 10), (100_000, 32, 20))
MEMORY = (1_000_000, 8, 10)
SHORT = 2  # iterations of the short run


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the pairs, print them, and write them to `classics.json`."""
    return report(_all(), folder / "classics.json")


def _all() -> Iterator[Pairs]:
    for method in ("em", "cavi"):
        for case in CASES:
            yield _pairs(method, case, pairs=PAIRS)
        yield _pairs(method, MEMORY, pairs=1)


def _pairs(method: str, case: tuple[int, int, int], pairs: int) -> Pairs:
    work = f"{method.upper()}, seconds an iteration, N={case[0]} D={case[1]} K={case[2]}"
    ours, theirs = ([__file__, side, method, *map(str, case)] for side in ("ours", "theirs"))
    return run_pairs(work, "scikit-learn", ours, theirs, pairs=pairs, threads=os.cpu_count() or 1)


def _measure(side: str, method: str, n: int, d: int, k: int) -> None:
    """In a process of its own: run one side and say what it took."""
    x, start = _problem(n, d, k)
    run = _ours(method, x, start, k) if side == "ours" else _peers(method, x, start, k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(1)  # libraries load, threads start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        long = SHORT + min(40, max(6, 600_000_000 // (n * d * d * k)))
        seconds = [_timed(run, steps) for steps in (SHORT, long)]
    say(seconds=(seconds[1] - seconds[0]) / (long - SHORT), peak_bytes=peak)


def _problem(n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters, on which neither side converges at once; and the responsibilities both start from."""
    rng = np.random.default_rng(0)
    locs = 1.5 * rng.standard_normal((k, d))
    z = rng.integers(k, size=n)
    x = rng.standard_normal((n, d))
    x += locs[z]
    start = np.full((n, k), 0.5 / k)
    start[np.arange(n), np.where(rng.random(n) < 0.5, z, rng.integers(k, size=n))] += 0.5
    return x, start


def _ours(method: str, x: np.ndarray, start: np.ndarray, k: int) -> Callable[[int], None]:
    from pyrometer.inference.closed_form import cavi, em
    from pyrometer.models import GMM, BayesianGMM

    same: dict[str, Any] = {"responsibilities": start, "tol": 0.0, "progress": False}
    if method == "em":
        return lambda steps: _checked(em(GMM(k), x, max_steps=steps, **same).steps, steps)
    return lambda steps: _checked(cavi(BayesianGMM(k), x, max_steps=steps, draws=2, **same).steps, steps)


def _peers(method: str, x: np.ndarray, start: np.ndarray, k: int) -> Callable[[int], None]:
    from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

    kind = GaussianMixture if method == "em" else BayesianGaussianMixture

    class Started(kind):  # type: ignore[valid-type, misc]
        def _initialize_parameters(self, X: np.ndarray, *args: Any, **kwargs: Any) -> None:
            self._initialize(X, start)

    own = {} if method == "em" else {"weight_concentration_prior_type": "dirichlet_distribution"}

    def run(steps: int) -> None:
        _checked(Started(n_components=k, max_iter=steps, tol=0.0, **own).fit(x).n_iter_, steps)

    return run


def _checked(taken: int, steps: int) -> None:
    if taken != steps:
        raise RuntimeError(f"{taken} iterations instead of {steps}: the times would not compare")


def _timed(run: Callable[[int], None], steps: int) -> float:
    began = time.perf_counter()
    run(steps)
    return time.perf_counter() - began


if __name__ == "__main__":
    _measure(sys.argv[1], sys.argv[2], *(int(number) for number in sys.argv[3:]))
