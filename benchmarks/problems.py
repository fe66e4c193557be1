"""The data that both sides of a benchmark see."""

from __future__ import annotations

import numpy as np

__all__ = ["blobs", "two_bumps"]


def blobs(n: int, d: int, k: int) -> np.ndarray:
    """Overlapping Gaussian clusters: (n, d)."""
    rng = np.random.default_rng(0)
    locs = 3 * rng.standard_normal((k, d))
    return locs[rng.integers(k, size=n)] + rng.standard_normal((n, d))


def two_bumps(n: int) -> np.ndarray:
    """Two unit-variance bumps three apart: (n,)."""
    rng = np.random.default_rng(0)
    return rng.choice([-1.0, 2.0], size=n) + rng.standard_normal(n)
