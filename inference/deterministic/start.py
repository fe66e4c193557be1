"""A Gaussian to start from, found in well under a second: where other methods begin, and on which scale."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..compilation.compiled import value_and_gradient
from ..data.data import evenly_spaced
from ..density.ascent import Path, ascend
from ..density.log_density import Density
from ..density.start import start_of
from ..runtime.isolation import one_thread_if_small
from .gaussian import FullGaussian, Gaussian, update
from .mode import gaussians, newton
from .target import Target, ValueAndGradient

ASCENTS = 3  # at most, until one has come to a Gaussian
STEPS = 200  # of an ascent
MAX_DIM = 2000  # of a matrix
NEWTON_UP_TO = 100  # dimensions: the curvature takes two gradients for each
TRIED = 20  # Gaussians of a path, at most
AS_GOOD = 0.01  # nats
CLOSE = 1.0  # nats: the spread of log p - log q of a Gaussian that needs no updates
MATCHED, UPDATES = 64, 15  # draws an update, and updates
DRAWS = 10  # of each, in pairs about its mean, for its ELBO


def gaussian_start(
    density: Density, seed: int = 0, value_and_gradient: ValueAndGradient | None = None
) -> tuple[Tensor, Tensor] | None:
    """A Gaussian near the posterior in unconstrained space: the best of a Pathfinder's and Laplace's, by the ELBO.

    Parameters
    ----------
    density : of a model on all rows.
    seed : the same seed gives the same Gaussian.
    value_and_gradient : of the density at a point (dim,), where it has been compiled already; else TorchScript's.

    Returns
    -------
    tuple or None
        loc (dim,) and scale_tril (dim, dim), like the data; None where nothing was found, whatever the reason, or
        above 2,000 dimensions.
    """
    try:
        if density.dim > MAX_DIM:
            return None
        quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is left aside
        with quiet, one_thread_if_small(density.data.numel), density.data.isolated(seed):
            target = Target(density, value_and_gradient or _scripted(density, seed))
            q = nearest(target, seed)
            if q is None:
                return None
            loc, scale = (torch.as_tensor(part).to(density.data.like) for part in (q.loc, q.scale_tril))
            return (loc, scale) if _sound(loc, scale) else None
    except (RuntimeError, ValueError, ArithmeticError, IndexError, NotImplementedError, np.linalg.LinAlgError):
        return None  # a start is a convenience: who asks for one goes on without it


def nearest(target: Target, seed: int) -> FullGaussian | None:
    """The best Gaussian of up to three ascents, or None; to be called within `isolated`."""
    rng = np.random.default_rng(seed)
    for start in target.starts(seed, ASCENTS):
        found, elbo = best(target, [*_candidates(target, ascend(target.at, start, STEPS))], DRAWS, rng)
        if found is not None and np.isfinite(elbo):
            return _improved(target, FullGaussian(found.loc, found.scale_tril), rng)
    return None


def _improved(target: Target, q: FullGaussian, rng: np.random.Generator) -> FullGaussian:
    """A Gaussian after a few updates that match scores, where those have raised the ELBO.

    A mode may be far from the mass: where log p - log q varies by more than a nat or two, the curvature is no guide.
    """
    points = q.draw(rng.standard_normal((MATCHED, target.dim)))
    values, scores = target(points)
    if (values - q.log_prob(points)).std() < CLOSE:
        return q
    tried = [q]
    for step in range(1, UPDATES + 1):
        sound = np.isfinite(values)
        if sound.sum() < 2:
            break
        tried.append(update(tried[-1], points[sound], scores[sound], MATCHED * target.dim / step))
        points = tried[-1].draw(rng.standard_normal((MATCHED, target.dim)))
        values, scores = target(points)
    kept = best(target, tried[::-1], MATCHED, rng)[0]
    return q if kept is None else FullGaussian(kept.loc, kept.scale_tril)


def best(
    target: Target, candidates: Sequence[Gaussian], draws: int, rng: np.random.Generator
) -> tuple[Gaussian | None, float]:
    """The first Gaussian whose ELBO, in nats, is the highest or as good; None of an empty list.

    All by the same noise, in pairs about the mean.
    """
    if not candidates:
        return None, -np.inf
    half = rng.standard_normal((draws // 2, target.dim))
    points = [q.draw(np.concatenate([half, -half])) for q in candidates]
    values = target(np.concatenate(points))[0].reshape(len(candidates), -1)
    log_q = np.stack([q.log_prob(at) for q, at in zip(candidates, points, strict=True)])
    elbos = np.nan_to_num((values - log_q).mean(1), nan=-np.inf)
    first = int((elbos >= elbos.max() - AS_GOOD).argmax())
    return candidates[first], float(elbos[first])


def _candidates(target: Target, path: Path) -> Iterator[Gaussian]:
    """Laplace's where there is a mode, then those of the path, the last first."""
    if target.dim <= NEWTON_UP_TO:
        mode = newton(target, path)
        if mode.found:
            yield mode.gaussian
    along = [*gaussians(path)][::-1]
    yield from (along[place] for place in evenly_spaced(len(along), TRIED).tolist() if along)


def _scripted(density: Density, seed: int) -> ValueAndGradient:
    start = start_of(density, seed)
    return value_and_gradient(density.of_data("log_density"), start, start + 0.1)[0]


def _sound(loc: Tensor, scale: Tensor) -> bool:
    return bool(loc.isfinite().all() and scale.isfinite().all() and (scale.diagonal() > 0).all())
