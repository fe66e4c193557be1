"""Where the posterior is Gaussian every method is exact, in whatever units; and formulas against what they solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import Fit, bam, dadvi, laplace, pathfinder
from pyrometer.inference.density.ascent import Path, ascend
from pyrometer.inference.deterministic.dadvi import FixedDraws, optimum
from pyrometer.inference.deterministic.gaussian import FullGaussian, averaged, inverse_factor, kl, update
from pyrometer.inference.deterministic.mode import gaussians, mode_from
from pyrometer.inference.deterministic.target import Target
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

RNG = np.random.default_rng(1)
NOTHING = torch.zeros(1).double()
SCALES = np.array([1e-4, 0.3, 1.0, 20.0, 1e4])


def covariance(correlation: float = 0.9) -> np.ndarray:
    """Strong correlations, scales eight powers of ten apart: (5, 5)."""
    ones = np.full((5, 5), correlation) + (1 - correlation) * np.eye(5)
    return np.outer(SCALES, SCALES) * ones


LOC = SCALES * np.array([3.0, -2.0, 1.0, 5.0, -4.0])


@dataclass(frozen=True)
class Exact:
    """A Gaussian posterior: theta under a flat prior, a factor Normal(loc, covariance), and x ~ Normal(0, 1)."""

    def __call__(self, x: Tensor) -> None:
        real = dist.constraints.real_vector
        theta = pyro.sample("theta", dist.ImproperUniform(real, (), (len(LOC),)))
        scaled = (theta - torch.as_tensor(LOC)) / torch.as_tensor(SCALES)
        unit = torch.as_tensor(covariance() / np.outer(SCALES, SCALES))
        pyro.factor("density", dist.MultivariateNormal(torch.zeros(len(LOC)), unit).log_prob(scaled))
        pyro.sample("x", dist.Normal(0.0, 1.0).expand([1]).to_event(1), obs=x)


LOG_MASS = np.log(SCALES).sum() - 0.5 * np.log(2 * np.pi)  # of exp(factor) over theta, and of x


@pytest.mark.parametrize("method", [laplace, bam])
def test_a_gaussian_posterior_is_found_exactly(method: Callable[..., Fit]) -> None:
    fit = method(Exact(), NOTHING, progress=False)
    assert fit.message == ""
    np.testing.assert_allclose(fit.log_weights, LOG_MASS, atol=1e-5)  # q is p, at every draw


def test_pathfinder_is_close_to_a_gaussian_posterior_and_its_resampled_draws_are_of_it() -> None:
    fit = pathfinder(Exact(), NOTHING, progress=False)
    assert fit.log_weights.mean() == pytest.approx(LOG_MASS, abs=0.2)  # by L-BFGS alone
    moved = (fit.draws()["theta"] - LOC) / SCALES
    assert (np.abs(moved.mean(0)) < 5 / 1000**0.5).all()
    np.testing.assert_allclose(np.cov(moved.T), covariance() / np.outer(SCALES, SCALES), atol=5 * (2 / 1000) ** 0.5)


def test_dadvi_has_the_means_and_by_linear_response_the_covariances_of_a_gaussian_posterior() -> None:
    fit = dadvi(Exact(), NOTHING, progress=False)
    assert fit.message == ""
    assert (fit.mean_errors["theta"] < 1e-4 * SCALES).all()
    np.testing.assert_allclose(fit.linear_response["theta"], SCALES, rtol=5 * (0.5 / 4000) ** 0.5)
    precision = np.linalg.inv(covariance())
    mean_field = 1 / np.sqrt(precision.diagonal())
    np.testing.assert_allclose(fit.draws()["theta"].std(0), mean_field, rtol=0.15)  # what mean field must lose


class Analytic(Target):
    """A density in NumPy, points (S, dim) -> values, gradients."""

    def __init__(self, dim: int, fn: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
        data = SimpleNamespace(dtype=torch.float64)
        density: Any = SimpleNamespace(dim=dim, data=data)
        super().__init__(density, lambda point: [point, point])
        object.__setattr__(self, "fn", fn)

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.fn(points)  # type: ignore[attr-defined]


def gaussian_target(loc: np.ndarray, cov: np.ndarray) -> Analytic:
    precision = np.linalg.inv(cov)

    def fn(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slopes = -(points - loc) @ precision
        return 0.5 * ((points - loc) * slopes).sum(1), slopes

    return Analytic(len(loc), fn)


def skewed() -> Analytic:
    """log p = a z - exp z, a = 3, in each of two coordinates that are tied: z ~ log Gamma, not Gaussian."""

    def fn(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        grown, between = np.exp(points), points[:, 0] - points[:, 1]
        values = (3 * points - grown).sum(1) - 2 * between**2
        return values, 3 - grown - 4 * np.stack([between, -between], 1)

    return Analytic(2, fn)


def test_the_optimum_on_a_gaussian_has_exact_means_and_exact_linear_response() -> None:
    target = gaussian_target(LOC, covariance())
    noise = RNG.standard_normal((15, 5))
    end = optimum(FixedDraws(target, noise), np.concatenate([LOC + 0.5 * SCALES, np.log(0.2 * SCALES)]))
    assert end.gain < 1e-8
    np.testing.assert_allclose(end.q.loc, LOC, atol=1e-5 * SCALES.min(), rtol=1e-6)
    response = end.response.scale_tril @ end.response.scale_tril.T
    np.testing.assert_allclose(response / np.outer(SCALES, SCALES), np.full((5, 5), 0.9) + 0.1 * np.eye(5), atol=1e-5)


def test_the_hessian_is_the_derivative_of_the_gradient() -> None:
    objective = FixedDraws(skewed(), RNG.standard_normal((7, 2)))
    eta = np.array([0.4, 0.9, -0.7, -0.3])
    steps = 1e-5 * np.eye(4)
    numeric = [(objective(eta + step)[1] - objective(eta - step)[1]) / 2e-5 for step in steps]
    np.testing.assert_allclose(objective.hessian(eta), np.stack(numeric, 1), atol=1e-6)
    numeric = [(objective(eta + step)[0] - objective(eta - step)[0]) / 2e-5 for step in steps]
    np.testing.assert_allclose(objective(eta)[1], numeric, atol=1e-8)


def test_the_errors_are_how_far_the_means_move_under_other_draws() -> None:
    target, start, runs = skewed(), np.array([1.0, 1.0, -0.7, -0.7]), 100
    ends = [optimum(FixedDraws(target, RNG.standard_normal((30, 2))), start) for _ in range(runs)]
    found = np.stack([end.eta for end in ends]).std(0)
    predicted = np.mean([np.linalg.norm(end.sandwich, axis=1) for end in ends], 0)
    np.testing.assert_allclose(predicted, found, rtol=5 * (0.5 / runs) ** 0.5)
    best = optimum(FixedDraws(target, RNG.standard_normal((20_000, 2))), start)
    costs = [best.objective(end.eta)[0] - best.objective(best.eta)[0] for end in ends]
    assert np.mean([end.loss for end in ends]) == pytest.approx(np.mean(costs), rel=0.3)


@pytest.mark.parametrize("batch", [3, 40])
def test_an_update_matches_scores_under_its_penalty(batch: int) -> None:
    """It minimizes mean |score of q - score of p|^2 in q's covariance + 2 KL(old | q) / strength: its gradient is 0."""
    old = FullGaussian(RNG.standard_normal(5), np.linalg.cholesky(np.cov(RNG.standard_normal((5, 20)))))
    points, scores, strength = old.draw(RNG.standard_normal((batch, 5))), RNG.standard_normal((batch, 5)), 3.7
    new = update(old, points, scores, strength)
    before = MultivariateNormal(torch.as_tensor(old.loc), scale_tril=torch.as_tensor(old.scale_tril))
    loc = torch.as_tensor(new.loc).requires_grad_()
    cov = torch.as_tensor(new.scale_tril @ new.scale_tril.T).requires_grad_()
    own = -torch.linalg.solve(cov, (torch.as_tensor(points) - loc).T).T
    apart = own - torch.as_tensor(scores)
    q = MultivariateNormal(loc, (cov + cov.T) / 2)
    objective = ((apart @ cov) * apart).sum(1).mean() + 2 / strength * kl_divergence(before, q)
    gradients = torch.autograd.grad(objective, [loc, cov])
    for gradient in gradients:
        symmetric = gradient if gradient.dim() == 1 else gradient + gradient.T
        assert symmetric.abs().max() < 1e-8


def test_the_average_and_the_divergence_of_gaussians() -> None:
    some = [FullGaussian(RNG.standard_normal(3), np.linalg.cholesky(np.cov(RNG.standard_normal((3, 9))))) for _ in "ab"]
    mean = averaged(some)
    np.testing.assert_allclose(mean.loc, (some[0].loc + some[1].loc) / 2)
    covariances = [each.scale_tril @ each.scale_tril.T for each in (*some, mean)]
    np.testing.assert_allclose(covariances[2], (covariances[0] + covariances[1]) / 2)
    q, p = (MultivariateNormal(torch.as_tensor(g.loc), scale_tril=torch.as_tensor(g.scale_tril)) for g in some)
    assert kl(*some) == pytest.approx(float(kl_divergence(q, p)), rel=1e-10)


def test_the_inverse_hessian_of_a_path_is_that_of_bfgs() -> None:
    """Against the dense update of Nocedal and Wright (2006), equation 6.17, from the same diagonal."""
    path = ascend(skewed().at, np.array([-1.0, 2.0]))
    pairs = [*zip(np.diff(path.points, axis=0), -np.diff(path.gradients, axis=0), strict=True)][:4]
    short = Path(path.points[:5], path.values[:5], path.gradients[:5])
    q = [*gaussians(short)][-1]
    dense = np.diag(q.scales**2)
    for step, change in pairs:
        rho = 1 / (step @ change)
        left = np.eye(2) - rho * np.outer(step, change)
        dense = left @ dense @ left.T + rho * np.outer(step, step)
    np.testing.assert_allclose(q.scale_tril @ q.scale_tril.T, dense, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(q.loc, short.points[-1] + dense @ short.gradients[-1], rtol=1e-8)
    points = q.draw(RNG.standard_normal((6, 2)))
    np.testing.assert_allclose(q.log_prob(points), multivariate_normal(q.loc, dense).logpdf(points), rtol=1e-8)
    np.testing.assert_allclose(q.draw(np.eye(2)) - q.loc, q.draw(np.eye(2)) - q.draw(np.zeros((1, 2))), atol=1e-12)


def test_a_factor_of_an_inverse() -> None:
    precision = np.linalg.inv(covariance())
    factor, positive = inverse_factor(precision)
    assert positive
    np.testing.assert_allclose(factor @ factor.T / np.outer(SCALES, SCALES), np.full((5, 5), 0.9) + 0.1 * np.eye(5))
    assert (np.triu(factor, 1) == 0).all()
    turned, positive = inverse_factor(np.diag([4.0, -1.0]))
    assert not positive
    np.testing.assert_allclose(turned @ turned.T, np.diag([0.25, 1.0]))


def test_the_mode_of_what_is_not_gaussian() -> None:
    """Where the gradient 3 - exp z is zero in both, z = log 3, and the curvature is 3 + 4, -4."""
    mode = mode_from(skewed(), np.array([-1.0, 2.0]))
    assert mode.found
    np.testing.assert_allclose(mode.point, np.log([3.0, 3.0]), atol=1e-6)
    covariance = mode.gaussian.scale_tril @ mode.gaussian.scale_tril.T
    np.testing.assert_allclose(np.linalg.inv(covariance), [[7.0, -4.0], [-4.0, 7.0]], rtol=1e-6)
