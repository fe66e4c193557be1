"""Deterministic ADVI: mean field on fixed draws, taken to its true optimum, with the covariances it lost given back."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.optimize import minimize

from ...errors import InputError, check_name, check_positive, check_seed
from ...models.structure import Model, model_name
from ..compilation.compiled import Compile
from ..data.as_data import DataLike
from ..fit.fit import Fit
from ..fit.idata import fit_of
from ..runtime.arviz import groups_of, idata_of
from ..runtime.progress import progress_bar
from .fitted import Found, Options, drawn, fitted, sites_at
from .gaussian import LOG_TAU, FullGaussian, inverse_factor
from .start import nearest
from .target import Target

MAX_DIM = 1000  # its Hessian has twice as many rows
ROUNDS = 20  # of Newton-CG, each in the units of the curvature where it starts
ARRIVED = 1e-8  # nats: what one more Newton step would gain
MAX_ERROR = 0.05  # of a mean, in standard deviations of the posterior by linear response
MAX_LOSS = 0.005  # nats of the ELBO a dimension, that the draws' number costs
RESPONSE_DRAWS = 4000  # of the Gaussian of the linear response
OTHER_OPTIMA, MEAN_DRAWS = 50, 100  # that other fixed draws might have led to; of each, in pairs, for its mean
HALVINGS = 30  # of the scales of a start at which the density is not finite


def dadvi(
    model: Model,
    x: DataLike,
    *,
    fixed_draws: int = 30,
    max_fixed_draws: int = 1920,
    draws: int = 1000,
    seed: int = 0,
    compile: Compile = "auto",
    dtype: torch.dtype | None = None,
    progress: bool = True,
    name: str = "dadvi",
    **unknown: Any,
) -> Fit:
    """Deterministic ADVI with linear response (Giordano, Ingram and Broderick 2024), discrete sites summed out exactly.

    q = Normal(mu, diag sigma^2) in unconstrained space maximizes the ELBO over standard normals that are drawn once, in
    pairs z and -z, so that Gaussian posteriors have their means exactly. Newton-CG goes to the optimum itself, where
    the inverse Hessian gives the covariances that mean field lacks, and with the spread of the draws' gradients the
    Monte Carlo error of the means.

    Parameters
    ----------
    model : any Pyro program; minibatches are switched off.
    x, dtype : what the model takes, as `compare` has it, in float64 by default.
    fixed_draws, max_fixed_draws : their number is doubled from the first up to the second, until the error of every
        mean is below 0.05 posterior standard deviations and they cost less than 0.005 nats of the ELBO a dimension.
    draws : of q, fresh ones; the ELBO, k-hat and posterior come from these.
    seed : the same seed gives the same numbers.
    compile : run the density as one compiled function, as `nuts` has it.
    progress : show a bar; a line every ten seconds where there is no terminal or notebook.
    name : what the Fit is called in tables.

    Returns
    -------
    Fit
        `linear_response` and `mean_errors`: the standard deviation of each variable, and the error of its mean that the
        number of fixed draws leaves. log_weights: log p(x, theta) - log q(theta), nats. losses: minus the ELBO on each
        number of fixed draws. message: that more fixed draws are wanted, or that no optimum was found.

    Raises
    ------
    InputError
        Bad data or options, a model without continuous sites or with more than 1,000 unconstrained dimensions, one
        whose discrete sites cannot be summed out, or whose density is finite nowhere it was tried.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> fit = pyrometer.dadvi(CorrelatedGaussian(), "faithful", progress=False)
    >>> own, lost = float(fit.posterior["loc"][..., 0].std()), float(fit.linear_response["loc"][0])
    >>> abs(lost * 272**0.5 - 1) < 0.01, own < 0.5 * lost  # the posterior's sd is 272^-0.5
    (True, True)
    """
    check_positive(fixed_draws=fixed_draws, max_fixed_draws=max_fixed_draws)
    seed, name = check_seed(seed), check_name(name)
    if fixed_draws < 4:
        raise InputError(f"fixed_draws={fixed_draws} must be 4 or more: an error needs two pairs of them")
    numbers = (fixed_draws, max(fixed_draws, max_fixed_draws))
    find = partial(_found, numbers=numbers, draws=draws, seed=seed, progress=progress, name=name)
    family = "a mean-field Gaussian"
    options = Options("DADVI", family, name, draws, seed, compile, dtype, 1000 * fixed_draws, unknown, MAX_DIM)
    return fitted(model, x, options, find)


class Terms(NamedTuple):
    """Minus the ELBO on each pair of draws, (P,), and its gradients in (mu, log sigma), (P, 2 dim). Nats."""

    values: np.ndarray
    gradients: np.ndarray


@dataclass(frozen=True)
class FixedDraws:
    """Minus the ELBO of Normal(mu, diag sigma^2) on fixed draws, in nats, with eta = (mu, log sigma).

    noise: z of the pairs z, -z: (P, dim).
    """

    target: Target
    noise: np.ndarray

    @property
    def both(self) -> np.ndarray:
        """z and -z: (2 P, dim)."""
        return np.concatenate([self.noise, -self.noise])

    def terms(self, eta: np.ndarray) -> Terms:
        """Pair by pair. eta: (2 dim,)."""
        loc, log_scales = np.split(eta, 2)
        moved = np.exp(log_scales) * self.both
        values, gradients = self.target(loc + moved)
        entropy = log_scales.sum() + 0.5 * len(loc) * (LOG_TAU + 1)
        each = np.hstack([-gradients, -gradients * moved - 1])
        halves = values.reshape(2, -1).mean(0), each.reshape(2, len(self.noise), -1).mean(0)
        return Terms(-halves[0] - entropy, halves[1])

    def __call__(self, eta: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean of the terms: value and gradient (2 dim,)."""
        terms = self.terms(eta)
        return float(terms.values.mean()), terms.gradients.mean(0)

    def hessian(self, eta: np.ndarray) -> np.ndarray:
        """Of the mean of the terms: (2 dim, 2 dim), by curvatures of the log density at every draw."""
        loc, log_scales = np.split(eta, 2)
        moved = np.exp(log_scales) * self.both
        points, size = loc + moved, len(loc)
        hessian = np.zeros((2 * size, 2 * size))
        for place, column in enumerate(self.target.curvature(points, np.exp(log_scales))):
            hessian[:size, place] = column.mean(0)
            hessian[:size, size + place] = (column * moved[:, place, None]).mean(0)
            hessian[size:, size + place] = (moved * column * moved[:, place, None]).mean(0)
        hessian[size:, :size] = hessian[:size, size:].T
        hessian[size:, size:] -= np.diag((self.target(points)[1] * moved).mean(0))
        return hessian


@dataclass(frozen=True)
class Optimum:
    """Where the optimizer ended. eta: (2 dim,). factor: F, F F^T the inverse Hessian there, (2 dim, 2 dim).

    gain: of one more Newton step, nats. steps: of Newton-CG.
    """

    objective: FixedDraws
    eta: np.ndarray
    factor: np.ndarray
    gain: float
    steps: int

    @property
    def q(self) -> FullGaussian:
        """Normal(mu, diag sigma^2)."""
        loc, log_scales = np.split(self.eta, 2)
        return FullGaussian(loc, np.diag(np.exp(log_scales)))

    @property
    def response(self) -> FullGaussian:
        """Normal(mu, the block of the inverse Hessian that belongs to mu): linear response."""
        size = len(self.eta) // 2
        return FullGaussian(self.eta[:size], np.linalg.cholesky(self.factor[:size] @ self.factor[:size].T))

    @property
    def sandwich(self) -> np.ndarray:
        """G, G G^T = H^-1 cov(gradients) H^-1 / P: how far other draws would have led, by the delta method."""
        return self.factor @ (self.factor.T @ self._spread.T)

    @property
    def error(self) -> float:
        """The largest Monte Carlo error of a mean, in standard deviations of the posterior by linear response."""
        size = len(self.eta) // 2
        spreads = np.linalg.norm(self.factor[:size], axis=1)
        return float((np.linalg.norm(self.sandwich[:size], axis=1) / spreads).max())

    @property
    def loss(self) -> float:
        """What the optimum for these draws lacks of the ELBO's own, nats: half of tr H^-1 cov(gradients) / P."""
        return 0.5 * float(((self._spread @ self.factor) ** 2).sum())

    @cached_property
    def _spread(self) -> np.ndarray:
        """Rows whose sum of squares is the covariance of the mean gradient: (P, 2 dim)."""
        gradients = self.objective.terms(self.eta).gradients
        return (gradients - gradients.mean(0)) / np.sqrt(len(gradients) * (len(gradients) - 1))


def optimum(objective: FixedDraws, eta: np.ndarray) -> Optimum:
    """Newton-CG from a point of finite ELBO to the optimum, in units of the curvature, which is renewed on the way."""
    steps = 0
    for _ in range(ROUNDS):
        factor, _ = inverse_factor(objective.hessian(eta))
        slope = factor.T @ objective(eta)[1]
        gain = 0.5 * float(slope @ slope)
        if gain < ARRIVED:
            break
        eta, taken = _newton_cg(objective, eta, factor)
        steps += taken
    return Optimum(objective, eta, factor, gain, steps)


def _newton_cg(objective: FixedDraws, eta: np.ndarray, factor: np.ndarray) -> tuple[np.ndarray, int]:
    """Where Newton-CG comes to in a trust region, from eta, in units of a factor (2 dim, 2 dim); and its steps."""

    def value(moved: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = objective(eta + factor @ moved)
        return found, factor.T @ gradient

    def product(moved: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The Hessian's with a direction, by a central difference of gradients."""
        width = objective.target.step / max(float(np.linalg.norm(direction)), 1e-300)
        ahead, behind = (value(moved + side * width * direction)[1] for side in (1, -1))
        return (ahead - behind) / (2 * width)

    options = {"max_trust_radius": 100.0, "gtol": 0.1 * np.sqrt(2 * ARRIVED), "maxiter": 50}
    end = minimize(value, np.zeros_like(eta), jac=True, hessp=product, method="trust-ncg", options=options)
    return eta + factor @ end.x, int(end.nit)


def _found(
    target: Target,
    rng: np.random.Generator,
    *,
    numbers: tuple[int, int],
    draws: int,
    seed: int,
    progress: bool,
    name: str,
) -> Found:
    noise = rng.standard_normal((numbers[0] // 2, target.dim))
    eta, losses, steps = _start(FixedDraws(target, noise), seed), [], 0
    rounds = 1 + int(np.log2(numbers[1] / numbers[0]))
    with progress_bar(rounds, name, progress, unit="round") as bar:
        for _ in range(rounds):
            end = optimum(FixedDraws(target, noise), eta)
            eta, steps = end.eta, steps + end.steps
            losses.append(end.objective(eta)[0])
            bar.update()
            if end.error < MAX_ERROR and end.loss < MAX_LOSS * target.dim:
                break
            noise = np.concatenate([noise, rng.standard_normal(noise.shape)])
    rest: dict[str, Any] = {"steps": steps, "losses": np.array(losses), "message": _message(end)}
    return Found(*drawn(end.q, draws, rng), after=partial(_responded, end=end, rng=rng), **rest)


def _start(objective: FixedDraws, seed: int) -> np.ndarray:
    """(mu, log sigma) of a Gaussian found by other means, its sigma such that mean field would have it."""
    target = objective.target
    q = nearest(target, seed)
    if q is None:
        eta = np.concatenate([target.starts(seed)[0], np.zeros(target.dim)])
    else:
        precisions = np.linalg.norm(np.linalg.inv(q.scale_tril), axis=0)
        eta = np.concatenate([q.loc, -np.log(precisions)])
    for _ in range(HALVINGS):
        if np.isfinite(objective(eta)[0]):
            return eta
        eta[target.dim :] -= np.log(2)
    what = f"the density of model {model_name(target.density.model)} is not finite around the point where it starts"
    raise InputError(f"{what}: check the priors against the data's scale, or take svi or nuts")


def _message(end: Optimum) -> str:
    if end.gain >= ARRIVED:
        return f"no optimum was found: one more Newton step would gain {end.gain:.2g} nats"
    if end.error >= MAX_ERROR or end.loss >= MAX_LOSS * end.objective.target.dim:
        number = 2 * len(end.objective.noise)
        what = f"{number} fixed draws leave an error of {end.error:.2f} sd and cost {end.loss:.2f} nats"
        return f"{what}: give a larger max_fixed_draws"
    return ""


def _responded(fit: Fit, *, end: Optimum, rng: np.random.Generator) -> Fit:
    """The Fit with the group `linear_response`: of each variable sd and mean_error, along the dim `moment`."""
    density, dim = end.objective.target.density, end.objective.target.dim
    points = end.response.draw(rng.standard_normal((RESPONSE_DRAWS, dim)))
    sds = fit_of("", "", density, sites_at(density, points), likelihood=None).posterior.std(("chain", "draw"))
    others = end.eta + rng.standard_normal((OTHER_OPTIMA, end.sandwich.shape[1])) @ end.sandwich.T
    locs, log_scales = np.split(others[:, None], 2, axis=-1)
    half = rng.standard_normal((MEAN_DRAWS // 2, dim))
    many = locs + np.exp(log_scales) * np.concatenate([half, -half])
    means = fit_of("", "", density, sites_at(density, many), likelihood=None).posterior.mean("draw")
    moments = xr.concat([sds, means.std("chain")], pd.Index(["sd", "mean_error"], name="moment"))
    return replace(fit, idata=idata_of({**groups_of(fit.idata), "linear_response": moments}))
