"""A Gaussian to start from, found in well under a second: where other methods begin, and on which scale."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..compilation.compiled import seconds_scripted
from ..compilation.native import Native
from ..density.ascent import Path, ascend
from ..density.log_density import Density
from ..mapped.blocks import evenly_spaced
from ..runtime.isolation import one_thread_if_small
from .gaussian import FullGaussian, Gaussian, update
from .mode import gaussians, newton
from .target import Target, ValueAndGradient, target_of

ASCENTS = 3  # at most, until one has come to a Gaussian
STEPS = 200  # of an ascent
MAX_DIM = 2000  # of a matrix
NEWTON_UP_TO = 100  # dimensions: the curvature takes two gradients for each
TRIED = 20  # Gaussians of a path, at most
AS_GOOD = 0.01  # nats
SAME, CLOSE = 0.1, 1.0  # nats by which log p - log q varies: of a Gaussian that needs no updates, and of one near it
FEW, MANY = 64, 256  # draws an update, where a gradient takes its time and where it does not
UPDATES, MOST_UPDATES = 15, 300  # after which it is asked whether they gained, and at most
MAX_DIM_OF_MANY, MAX_SECONDS_OF_MANY = 200, 60.0  # above which many take their time; seconds of TorchScript
EASY, HARD = 1000, 50_000  # gradients, about, where the posterior is close to Gaussian, and where not
COMPARED = 1000  # draws of each ascent's Gaussian, where there are several
DRAWS = 10  # of each, in pairs about its mean, for its ELBO


def gaussian_start(
    density: Density, seed: int = 0, value_and_gradient: ValueAndGradient | None = None
) -> tuple[Tensor, Tensor] | None:
    """A Gaussian near the posterior in unconstrained space: the best of a Pathfinder's and Laplace's, by the ELBO.

    Parameters
    ----------
    density : of a model on all rows.
    seed : the same seed gives the same Gaussian.
    value_and_gradient : of the density at a point (dim,), where it has been compiled already; else TorchScript's, and
        a C function where the posterior turns out to be far from Gaussian.

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
            if value_and_gradient:
                q = nearest(Target(density, value_and_gradient), seed)
            else:
                q = nearest(target_of(density, seed, EASY), seed, partial(target_of, density, seed, HARD))
            if q is None:
                return None
            loc, scale = (torch.as_tensor(part).to(density.data.like) for part in (q.loc, q.scale_tril))
            return (loc, scale) if _sound(loc, scale) else None
    except (InputError, RuntimeError, ValueError, ArithmeticError, LookupError, np.linalg.LinAlgError):
        return None  # a start is a convenience: who asks for one goes on without it


def nearest(target: Target, seed: int, faster: Callable[[], Target] | None = None) -> FullGaussian | None:
    """The best Gaussian of up to three ascents, or None; to be called within `isolated`.

    The first that is close ends the search: others are sought where the posterior is far from Gaussian, for there it
    depends on the start what an ascent comes to. faster: makes the target that does this work.
    """
    rng, found = np.random.default_rng(seed), list[FullGaussian]()
    for start in target.starts(seed, ASCENTS):
        begun, elbo = best(target, [*_candidates(target, ascend(target.at, start, STEPS))], DRAWS, rng)
        if begun is None or not np.isfinite(elbo):
            continue
        q, batch = FullGaussian(begun.loc, begun.scale_tril), _scored(target, begun, FEW, rng)
        off = batch.off(q)
        if off < SAME:
            return q
        if off > CLOSE and faster is not None:
            target, faster = faster(), None
        q = _improved(target, q, batch, rng)
        if off < CLOSE:
            return q
        found.append(q)
    kept = best(target, found, COMPARED, rng)[0]
    return None if kept is None else FullGaussian(kept.loc, kept.scale_tril)


class Batch(NamedTuple):
    """Points of a Gaussian, (B, dim), log p there, nats (B,), and the scores (B, dim)."""

    points: np.ndarray
    values: np.ndarray
    scores: np.ndarray

    def off(self, q: Gaussian) -> float:
        """The standard deviation of log p - log q at these points of q, nats: zero where q is p."""
        return float((self.values - q.log_prob(self.points)).std())

    def finite(self) -> "Batch":
        """Without the points where log p is not finite."""
        sound = np.isfinite(self.values)
        return Batch(*(part[sound] for part in self))


def _scored(target: Target, q: Gaussian, number: int, rng: np.random.Generator) -> Batch:
    points = q.draw(rng.standard_normal((number, target.dim)))
    return Batch(points, *target(points))


def _improved(target: Target, q: FullGaussian, batch: Batch, rng: np.random.Generator) -> FullGaussian:
    """A Gaussian after updates that match scores, for as long as these raise the ELBO.

    A mode may be far from the mass: where log p - log q varies by more than a nat or two, the curvature is no guide.
    """
    seconds = seconds_scripted(MANY * MOST_UPDATES, target.density.data.numel)
    fast = isinstance(target.both, Native) and target.dim <= MAX_DIM_OF_MANY and seconds < MAX_SECONDS_OF_MANY
    number, most = (MANY, MOST_UPDATES) if fast else (FEW, UPDATES)
    for done in range(0, most, UPDATES):
        tried = [q]
        for step in range(done + 1, done + UPDATES + 1):
            sound = batch.finite()
            if len(sound.points) < 2:
                break
            strength = len(batch.points) * target.dim / step
            tried.append(update(tried[-1], sound.points, sound.scores, strength))
            batch = _scored(target, tried[-1], number, rng)
        kept = best(target, tried[::-1], number, rng)[0]
        if kept is None or kept is q:
            break
        q = FullGaussian(kept.loc, kept.scale_tril)
        batch = _scored(target, q, number, rng)
    return q


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


def _sound(loc: Tensor, scale: Tensor) -> bool:
    return bool(loc.isfinite().all() and scale.isfinite().all() and (scale.diagonal() > 0).all())
