"""Climbing a density: L-BFGS, the Gaussian that its curvature gives at each step, and Newton's method to the mode."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import qr, solve_triangular
from scipy.optimize import minimize

from .gaussian import FullGaussian, PathGaussian, inverse_factor
from .target import Target

MAX_STEPS = 1000
HISTORY = 10  # pairs of steps and changes of the gradient that are kept
LEAST_GAIN = 1e-13  # relative, of the density in one step
FLATTEST = 1e-10  # cosine between a step and the gradient's change: what is less is rounding
NEWTON_STEPS = 30
ARRIVED = 1e-3  # nats: what one more Newton step would gain
SETTLED = 1e-12  # nats: no more steps are taken
HALVINGS = 2.0 ** -np.arange(20.0)  # of a Newton step


class Path(NamedTuple):
    """Where an ascent went: points (L + 1, dim), log densities (L + 1,) and their gradients (L + 1, dim)."""

    points: np.ndarray
    values: np.ndarray
    gradients: np.ndarray


def ascend(target: Target, start: np.ndarray, max_steps: int = MAX_STEPS) -> Path:
    """Climb from a point of finite density by L-BFGS (Nocedal and Wright 2006, section 7.2)."""
    seen: dict[bytes, tuple[float, np.ndarray]] = {}
    lowest = np.inf

    def descent(point: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal lowest
        (value,), (gradient,) = target(point[None])
        if np.isfinite(value):
            lowest = min(lowest, value)
            seen[point.tobytes()] = value, gradient
            return -value, -gradient
        return 1.0 - 2.0 * min(lowest, -1.0), gradient  # worse than all that was seen, so that the step is shortened

    at = np.array(start, np.float64)
    points = [at]
    options = {"maxcor": HISTORY, "maxiter": max_steps, "maxfun": 4 * max_steps, "ftol": LEAST_GAIN, "gtol": 1e-9}
    keep = lambda point: points.append(point.copy())  # noqa: E731
    minimize(descent, at, jac=True, method="L-BFGS-B", callback=keep, options=options)
    kept = [point for point in points if point.tobytes() in seen]
    values, gradients = zip(*(seen[point.tobytes()] for point in kept), strict=True)
    return Path(np.stack(kept), np.array(values), np.stack(gradients))


def gaussians(path: Path) -> Iterator[PathGaussian]:
    """The Gaussian of each step of an ascent, by its inverse Hessian (Zhang et al. 2022, algorithms 3 and 4).

    loc: a Newton step from the point. The diagonal is that of Gilbert and Lemaréchal (1989), the rest the last pairs'.
    """
    variances, pairs = np.ones(path.points.shape[1]), list[tuple[np.ndarray, np.ndarray]]()
    for step, change, point, gradient in zip(
        np.diff(path.points, axis=0), -np.diff(path.gradients, axis=0), path.points[1:], path.gradients[1:], strict=True
    ):
        if step @ change > FLATTEST * np.linalg.norm(step) * np.linalg.norm(change):
            variances = _diagonal(variances, step, change)
            pairs = [*pairs, (step, change)][-HISTORY:]
        if pairs:
            try:
                yield _gaussian(point, gradient, variances, *(np.stack(each, 1) for each in zip(*pairs, strict=True)))
            except (np.linalg.LinAlgError, ValueError):
                continue  # rounding has left it no Gaussian


def _diagonal(variances: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The diagonal of the inverse Hessian after one more pair (Zhang et al. 2022, algorithm 3)."""
    a, b, c = change @ (variances * change), change @ step, step @ (step / variances)
    return 1 / (a / (b * variances) + change**2 / b - a * step**2 / (b * c * variances**2))


def _gaussian(
    point: np.ndarray, gradient: np.ndarray, variances: np.ndarray, steps: np.ndarray, changes: np.ndarray
) -> PathGaussian:
    """Inverse Hessian diag(variances) + beta gamma beta^T by Byrd et al. (1994), theorem 2.2. steps, changes: (dim, J).

    In units of the diagonal's roots, so that it does not matter in which units the point is.
    """
    scales = np.sqrt(variances)
    steps, changes = steps / scales[:, None], changes * scales[:, None]
    products = steps.T @ changes
    inverse = solve_triangular(np.triu(products), np.eye(len(products)))
    middle = inverse.T @ (np.diag(products.diagonal()) + changes.T @ changes) @ inverse
    gamma = np.block([[np.zeros_like(inverse), -inverse], [-inverse.T, middle]])
    basis, upper = qr(np.hstack([changes, steps]), mode="economic")
    inner = np.linalg.cholesky(np.eye(len(upper)) + upper @ gamma @ upper.T)
    if not (np.isfinite(inner).all() and np.isfinite(scales).all()):
        raise np.linalg.LinAlgError("the inverse Hessian is not finite")
    slope = scales * gradient
    within = slope @ basis
    newton = slope + basis @ (inner @ (inner.T @ within) - within)
    return PathGaussian(point + scales * newton, scales, basis, inner)


class Mode(NamedTuple):
    """Where a search ended. point: (dim,). value: log density, nats. gain: of one more Newton step, nats.

    gaussian: the Gaussian with the density's curvature there. curved: whether that is a maximum's, in every direction;
    where it is not, the nearest that is has been taken. steps: of L-BFGS and Newton's method.
    """

    point: np.ndarray
    value: float
    gain: float
    gaussian: FullGaussian
    curved: bool
    steps: int

    @property
    def found(self) -> bool:
        """Whether this is a mode."""
        return self.curved and self.gain < ARRIVED


def mode_from(target: Target, start: np.ndarray) -> Mode:
    """Climb from a point of finite density to the mode, or as far as a search comes."""
    return newton(target, ascend(target, start))


def newton(target: Target, path: Path) -> Mode:
    """Newton's method with halved steps from the end of an ascent."""
    point, value, gradient = path.points[-1], path.values[-1], path.gradients[-1]
    scales = _scales(path)
    for step in range(NEWTON_STEPS):
        columns = [column[0] for column in target.curvature(point[None], scales)]
        factor, curved = inverse_factor(np.stack(columns, 1))
        slope = factor.T @ gradient
        gain = 0.5 * float(slope @ slope)
        if gain < SETTLED and step > 0:  # the curvature's own steps were not yet of its scale at first
            break
        trials = point + HALVINGS[:, None] * (factor @ slope)
        values, gradients = target(trials)
        best = int(values.argmax())
        if values[best] >= value:
            point, value, gradient = trials[best], values[best], gradients[best]
        elif step > 0:
            break
        scales = np.linalg.norm(factor, axis=1)
    return Mode(point, float(value), gain, FullGaussian(point, factor), curved, len(path.points) - 1 + step)


def _scales(path: Path) -> np.ndarray:
    """About the standard deviation of each coordinate at the end of an ascent, where that tells them."""
    made = [*gaussians(path)]
    return np.linalg.norm(made[-1].scale_tril, axis=1) if made else np.ones(path.points.shape[1])


def distinct(modes: Sequence[Mode]) -> list[Mode]:
    """Modes apart from one another, the highest first: two are the same within a tenth of a standard deviation."""
    kept: list[Mode] = []
    for mode in sorted(modes, key=lambda mode: -mode.value):
        far = [np.abs((mode.point - other.point) / np.linalg.norm(other.gaussian.scale_tril, axis=1)) for other in kept]
        if all(distance.max() > 0.1 for distance in far):
            kept.append(mode)
    return kept
