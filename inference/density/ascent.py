"""Climbing a density that has a gradient, by L-BFGS."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

MAX_STEPS = 1000
HISTORY = 60  # pairs of steps and changes of the gradient: as many as dimensions, where these are few, are BFGS itself
LEAST_GAIN = 1e-13  # relative, of the density in one step


class Path(NamedTuple):
    """Where an ascent went: points (L + 1, dim), log densities (L + 1,) and their gradients (L + 1, dim)."""

    points: np.ndarray
    values: np.ndarray
    gradients: np.ndarray


def ascend(
    log_density: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, max_steps: int = MAX_STEPS
) -> Path:
    """Climb from a point by L-BFGS (Nocedal and Wright 2006, section 7.2).

    log_density: value and gradient (dim,) at a point (dim,). A start at which these are not finite is the whole path.
    """
    at = np.array(start, np.float64)
    points, seen, worst = [at], dict[bytes, tuple[float, np.ndarray]](), 1.0

    def descent(point: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal worst
        value, gradient = log_density(point)
        if np.isfinite(value) and np.isfinite(gradient).all():
            worst = max(worst, -value)
            seen[point.tobytes()] = value, gradient
            return -value, -gradient
        return 1.0 + 2.0 * worst, np.zeros_like(point)  # worse than all that was seen, so that the step is shortened

    options = {"maxcor": HISTORY, "maxiter": max_steps, "maxfun": 4 * max_steps, "ftol": LEAST_GAIN, "gtol": 1e-9}
    keep = lambda point: points.append(point.copy())  # noqa: E731
    minimize(descent, at, jac=True, method="L-BFGS-B", callback=keep, options=options)
    kept = [point for point in points if point.tobytes() in seen]
    if not kept:
        return Path(at[None], np.array([-np.inf]), np.zeros((1, len(at))))
    values, gradients = zip(*(seen[point.tobytes()] for point in kept), strict=True)
    return Path(np.stack(kept), np.array(values), np.stack(gradients))
