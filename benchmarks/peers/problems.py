"""The data that both sides of a benchmark see, and where both begin."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

FAITHFUL = Path(__file__).parents[2] / "datasets" / "faithful.csv"  # read here, so that a peer need not load us

__all__ = ["blobs", "data", "least_seconds", "locs_of", "two_bumps"]


def data(name: str) -> tuple[np.ndarray, int]:
    """Rows and number of components: faithful, bumps, or N,D,K."""
    if name == "faithful":
        return np.loadtxt(FAITHFUL, delimiter=",", skiprows=1), 2
    if name == "bumps":
        return two_bumps(1000), 2
    n, d, k = (int(number) for number in name.split(","))
    return blobs(n, d, k), k


def blobs(n: int, d: int, k: int) -> np.ndarray:
    """Gaussian clusters: (n, d)."""
    rng = np.random.default_rng(0)
    locs = 3 * rng.standard_normal((k, d))
    return locs[rng.integers(k, size=n)] + rng.standard_normal((n, d))


def two_bumps(n: int) -> np.ndarray:
    """Two unit-variance bumps three apart: (n,)."""
    rng = np.random.default_rng(0)
    return rng.choice([-1.0, 2.0], size=n) + rng.standard_normal(n)


def locs_of(x: np.ndarray, k: int) -> np.ndarray:
    """Locations to begin at, by a few rounds of k-means from rows far apart: (k, D), or (k,) for a vector."""
    rows = x.reshape(len(x), -1)
    scaled = rows / rows.std(0)
    centres = scaled[:1]
    while len(centres) < k:
        centres = np.vstack([centres, scaled[_squares(scaled, centres).min(1).argmax()]])
    for _ in range(20):
        labels = _squares(scaled, centres).argmin(1)
        centres = np.stack([scaled[labels == j].mean(0) for j in range(k)])
    return (centres * rows.std(0)).reshape(k, *x.shape[1:])


def _squares(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances (N, K)."""
    return ((rows[:, None] - centres) ** 2).sum(-1)


def least_seconds(call: Callable[[], object], rounds: int = 5, seconds: float = 0.4) -> float:
    """Seconds a call: the best of some rounds, each of as many calls as fill its time."""
    began = time.perf_counter()
    call()
    number = max(1, int(seconds / (time.perf_counter() - began + 1e-9)))
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(number):
            call()
        best = min(best, (time.perf_counter() - began) / number)
    return best
