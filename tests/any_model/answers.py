"""What is known of the posteriors of `programs`: in closed form, or by sums and grids over every state. Nats."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from programs import (
    BETWEEN,
    EFFECTS,
    EMISSION,
    NOISE,
    PRIOR,
    TRANSITION,
    gp_covariance,
)
from torch import Tensor
from torch.distributions import Beta, MultivariateNormal, Normal, Poisson

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Linear:
    """y | theta ~ Normal(design theta, noise), theta ~ Normal(0, prior): all of it Gaussian (Bishop 2006, sec. 2.3.3).

    design: (N, P). prior: (P, P) and noise: (N, N), covariances.
    """

    design: Tensor
    prior: Tensor
    noise: Tensor

    def posterior(self, y: Tensor) -> MultivariateNormal:
        """theta | y: event (P,)."""
        weighted = torch.linalg.solve(self.noise, self.design).T
        covariance = torch.linalg.inv(torch.linalg.inv(self.prior) + weighted @ self.design)
        covariance = (covariance + covariance.T) / 2
        return MultivariateNormal(covariance @ weighted @ y, covariance)

    def marginal(self) -> MultivariateNormal:
        """y, theta integrated out: event (N,)."""
        return MultivariateNormal(torch.zeros_like(self.design[:, 0]), self._spread(self.prior))

    def log_evidence(self, y: Tensor) -> float:
        """log p(y)."""
        return float(self.marginal().log_prob(y))

    def predictive(self, old: Linear, y: Tensor) -> MultivariateNormal:
        """y of this design, given y of an old one with the same theta: event (N,)."""
        posterior = old.posterior(y)
        return MultivariateNormal(self.design @ posterior.mean, self._spread(posterior.covariance_matrix))

    def _spread(self, covariance: Tensor) -> Tensor:
        return self.design @ covariance @ self.design.T + self.noise


def independent(design: Tensor, prior: float | Tensor = PRIOR, noise: float = NOISE) -> Linear:
    """Independent coefficients with standard deviation prior, and rows with noise."""
    sds = torch.as_tensor(prior, dtype=design.dtype).expand(design.shape[1])
    return Linear(design, sds.square().diag(), noise**2 * torch.eye(len(design), dtype=design.dtype))


def row_by_row(design_new: Tensor, y_new: Tensor, old: Linear, y: Tensor, noise: float = NOISE) -> Tensor:
    """log p(y_new_n | y) of each new row alone: (M,)."""
    joint = independent(design_new, noise=noise).predictive(old, y)
    return Normal(joint.mean, joint.variance.sqrt()).log_prob(y_new)


def group_design(frame: pd.DataFrame) -> Tensor:
    """Columns alpha_art, alpha_law, alpha_sea, slope: (N, 4)."""
    codes = torch.tensor(frame["group"].cat.codes.to_numpy(), dtype=torch.long)
    heights = torch.tensor(frame["height"].to_numpy()).unsqueeze(-1)
    return torch.cat([torch.nn.functional.one_hot(codes, 3).double(), heights], 1)


def nested_linear(marks: Tensor) -> Linear:
    """theta = (mean, level_1, ..., level_S), y = marks laid end to end."""
    schools, pupils = marks.shape
    prior = torch.full((schools + 1, schools + 1), PRIOR**2, dtype=marks.dtype)
    prior[1:, 1:] += BETWEEN**2 * torch.eye(schools, dtype=marks.dtype)
    design = torch.cat([torch.zeros(schools, 1), torch.eye(schools)], 1).to(marks).repeat_interleave(pupils, 0)
    return Linear(design, prior, NOISE**2 * torch.eye(marks.numel(), dtype=marks.dtype))


def in_rows(shape: torch.Size, like: Tensor) -> Tensor:
    """The covariance of rows whose entries share an effect, laid end to end: (N M, N M)."""
    shared = torch.kron(torch.eye(shape[0]), torch.ones(shape[1], shape[1])).to(like)
    return BETWEEN**2 * shared + NOISE**2 * torch.eye(shape.numel(), dtype=like.dtype)


def effects_linear(doses: Tensor) -> Linear:
    """theta = (level, slope), the effects integrated out, y = answers laid end to end."""
    design = torch.stack([torch.ones(doses.numel(), dtype=doses.dtype), doses.flatten()], 1)
    return Linear(design, PRIOR**2 * torch.eye(2, dtype=doses.dtype), in_rows(doses.shape, doses))


def schools_of_one_mean(marks: Tensor) -> Linear:
    """theta = (mean,), the levels integrated out, y = marks laid end to end."""
    design = torch.ones(marks.numel(), 1, dtype=marks.dtype)
    return Linear(design, PRIOR**2 * torch.eye(1, dtype=marks.dtype), in_rows(marks.shape, marks))


def of_new_rows(new: list[Linear], rows: Tensor, old: Linear, y: Tensor) -> Tensor:
    """log p(rows_m | y) of each row of several entries, a Linear a row: (M,)."""
    return torch.stack([one.predictive(old, y).log_prob(row) for one, row in zip(new, rows, strict=True)])


def effect_posterior(doses: Tensor, answers: Tensor, level: float, slope: float) -> tuple[Tensor, float]:
    """effect_n | answers_n with known level and slope: means (N,) and the sd that all of them have."""
    precision = 1 / BETWEEN**2 + doses.shape[1] / NOISE**2
    return (answers - level - slope * doses).sum(1) / NOISE**2 / precision, precision**-0.5


def most_likely_line(doses: Tensor, answers: Tensor) -> Tensor:
    """The level and slope of highest p(answers), effects integrated out: generalised least squares, (2,)."""
    linear = effects_linear(doses)
    weighted = torch.linalg.solve(linear.noise, linear.design).T
    return torch.linalg.solve(weighted @ linear.design, weighted @ answers.flatten())


def pca_marginal(loadings: Tensor) -> MultivariateNormal:
    """x_n, z_n integrated out: event (4,)."""
    noise = NOISE**2 * torch.eye(len(loadings), dtype=loadings.dtype)
    return MultivariateNormal(torch.zeros_like(loadings[:, 0]), loadings @ loadings.T + noise)


def pca_posterior(x: Tensor, loadings: Tensor = EFFECTS) -> MultivariateNormal:
    """z_n | x_n: batch (N,), event (2,)."""
    precision = torch.eye(loadings.shape[1], dtype=x.dtype) + loadings.T @ loadings / NOISE**2
    covariance = torch.linalg.inv(precision)
    return MultivariateNormal(x @ loadings @ covariance / NOISE**2, precision_matrix=precision.expand(len(x), 2, 2))


def mean_field_gap(loadings: Tensor = EFFECTS) -> float:
    """KL(q* || p(z | x)) of the best q with independent entries, the same for each row (Bishop 2006, eq. 10.12 f.)."""
    precision = torch.eye(loadings.shape[1], dtype=loadings.dtype) + loadings.T @ loadings / NOISE**2
    return float(precision.diagonal().log().sum() - precision.logdet()) / 2


def best_pca(x: Tensor) -> float:
    """The highest sum of log p(x_n) over loadings (4, 2) (Tipping and Bishop 1999, eq. 15, sigma known)."""
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    loadings = vectors[:, -2:] * (values[-2:] - NOISE**2).clamp(min=0).sqrt()
    return float(pca_marginal(loadings).log_prob(x).sum())


def tanh_grid(x: Tensor, y: Tensor, points: int = 401) -> tuple[Tensor, Tensor, Tensor]:
    """inner, outer and their posterior probabilities on a grid, for `TanhNet`: each (points^2,)."""
    inner, outer = torch.cartesian_prod(*[torch.linspace(-9, 9, points, dtype=x.dtype)] * 2).unbind(-1)
    means = outer.unsqueeze(-1) * torch.tanh(inner.unsqueeze(-1) * x[:, 0])
    prior = Normal(0.0, PRIOR).log_prob(inner) + Normal(0.0, PRIOR).log_prob(outer)
    return inner, outer, (prior + Normal(means, NOISE).log_prob(y).sum(-1)).softmax(0)


def tanh_curve(x: Tensor, y: Tensor, x_new: Tensor, y_new: Tensor) -> tuple[Tensor, Tensor]:
    """E[outer tanh(inner x_new)] and log p(y_new | y) of each new row alone: (M,), (M,)."""
    inner, outer, weights = tanh_grid(x, y)
    means = outer.unsqueeze(-1) * torch.tanh(inner.unsqueeze(-1) * x_new[:, 0])
    density = Normal(means, NOISE).log_prob(y_new).exp()
    return weights @ means, (weights @ density).log()


@dataclass(frozen=True)
class Moments:
    """Posterior mean and sd of a vector, and log p(data) with its Monte Carlo standard error where it has one."""

    mean: Tensor
    sd: Tensor
    log_evidence: float
    log_evidence_se: float = 0.0


def gp_moments(t: Tensor, counts: Tensor, draws: int = 200_000) -> Moments:
    """Of f, by importance sampling from Laplace's Gaussian, found by Newton's method and made 1.1 times as wide."""
    precision, f = torch.linalg.inv(gp_covariance(t)), torch.zeros_like(t)
    for _ in range(100):
        f = f + torch.linalg.solve(precision + f.exp().diag(), counts - f.exp() - precision @ f) / 2
    q = MultivariateNormal(f, 1.21 * torch.linalg.inv(precision + f.exp().diag()))
    noise = torch.randn(draws, len(t), generator=torch.Generator().manual_seed(0), dtype=t.dtype)
    samples = q.mean + noise @ q.scale_tril.T
    prior = MultivariateNormal(torch.zeros_like(t), gp_covariance(t))
    log_weights = prior.log_prob(samples) + Poisson(samples.exp()).log_prob(counts).sum(-1) - q.log_prob(samples)
    weights = log_weights.softmax(0)
    mean = weights @ samples
    relative = (log_weights - log_weights.max()).exp()
    return Moments(
        mean,
        (weights @ (samples - mean).square()).sqrt(),
        float(log_weights.logsumexp(0)) - math.log(draws),
        float(relative.std() / relative.mean() / math.sqrt(draws)),
    )


def forward(y: Tensor, means: Tensor) -> Tensor:
    """log p(y | means) of `hmm` by the forward algorithm (Rabiner 1989): means (..., 2) -> (...)."""
    transition = torch.tensor(TRANSITION, dtype=y.dtype).log()
    alpha = transition[0].expand(means.shape)
    for t, value in enumerate(y):
        if t:
            alpha = (alpha.unsqueeze(-1) + transition).logsumexp(-2)
        alpha = alpha + Normal(means, EMISSION).log_prob(value)
    return alpha.logsumexp(-1)


def hmm_moments(y: Tensor, points: int = 121) -> Moments:
    """Of means, (2,), on a grid."""
    axis = torch.linspace(-4, 4, points, dtype=y.dtype)
    means = torch.cartesian_prod(axis, axis)
    log_joint = forward(y, means) + Normal(torch.tensor([-1.0, 1.0]).to(y), 0.2).log_prob(means).sum(-1)
    weights = log_joint.softmax(0)
    mean = weights @ means
    evidence = float(log_joint.logsumexp(0)) + 2 * math.log(8 / (points - 1))
    return Moments(mean, (weights @ (means - mean).square()).sqrt(), evidence)


def viterbi(y: Tensor, means: Tensor) -> list[int]:
    """The likeliest sequence of states given their means (2,) (Viterbi 1967)."""
    transition = torch.tensor(TRANSITION, dtype=y.dtype).log()
    best, back = transition[0] + Normal(means, EMISSION).log_prob(y[0]), []
    for value in y[1:]:
        best, source = (best.unsqueeze(-1) + transition).max(-2)
        best = best + Normal(means, EMISSION).log_prob(value)
        back.append(source)
    states = [int(best.argmax())]
    for source in reversed(back):
        states.append(int(source[states[-1]]))
    return states[::-1]


def smoothed(y: Tensor, means: Tensor) -> Tensor:
    """p(z_t = 1 | y, means) of each state by itself, forward and backward: (T,)."""
    transition = torch.tensor(TRANSITION, dtype=y.dtype).log()
    emission = Normal(means, EMISSION).log_prob(y.unsqueeze(-1))
    alphas, beta, betas = [transition[0] + emission[0]], torch.zeros(2, dtype=y.dtype), []
    for given in emission[1:]:
        alphas.append((alphas[-1].unsqueeze(-1) + transition).logsumexp(-2) + given)
    for given in emission.flip(0):
        betas.append(beta)
        beta = (transition + given + beta).logsumexp(-1)
    return (torch.stack(alphas) + torch.stack(betas).flip(0)).softmax(-1)[:, 1]


def lda_exact(words: Tensor, topics: int = 2, vocabulary: int = 3) -> tuple[float, np.ndarray]:
    """log p(words), and p(the next word of a document is v | words): (documents, V).

    The sum over every assignment of topics to words, theta and phi integrated out: Dirichlet and multinomial. Uniform
    Dirichlet priors on both.
    """
    documents, length = words.shape
    flat, logs, nexts = words.flatten().numpy(), [], []
    document = np.repeat(np.arange(documents), length)
    for chosen in itertools.product(range(topics), repeat=len(flat)):
        assignment = np.array(chosen)
        by_document, by_topic = np.zeros((documents, topics)), np.zeros((topics, vocabulary))
        np.add.at(by_document, (document, assignment), 1)
        np.add.at(by_topic, (assignment, flat), 1)
        logs.append(_log_urn(by_document).sum() + _log_urn(by_topic).sum())
        theta = (by_document + 1) / (by_document + 1).sum(1, keepdims=True)
        nexts.append(theta @ ((by_topic + 1) / (by_topic + 1).sum(1, keepdims=True)))
    weights = torch.tensor(np.array(logs))
    return float(weights.logsumexp(0)), np.tensordot(weights.softmax(0).numpy(), np.array(nexts), 1)


def _log_urn(counts: np.ndarray) -> np.ndarray:
    """log p(a sequence with these counts) under a uniform Dirichlet: (rows, K) -> (rows,)."""
    rows = torch.tensor(counts)
    size = torch.tensor(float(rows.shape[-1])).double()
    return (torch.lgamma(rows + 1).sum(-1) + torch.lgamma(size) - torch.lgamma(size + rows.sum(-1))).numpy()


def two_sites_likelihood(loc: np.ndarray, rate: np.ndarray, length: Tensor, eggs: Tensor) -> dict[str, np.ndarray]:
    """log sum_z p(z) p(y_n | z) of each site alone, and of both: draws (S, 2) -> (S, N)."""
    prior = torch.tensor([0.4, 0.6], dtype=torch.float64).log()
    locs, rates = (torch.tensor(values).unsqueeze(1) for values in (loc, rate))
    lengths = Normal(locs, 1.0).log_prob(length.unsqueeze(-1))
    counts = Poisson(rates).log_prob(eggs.unsqueeze(-1))
    terms = {"length": lengths, "eggs": counts, "both": lengths + counts}
    return {name: (prior + term).logsumexp(-1).numpy() for name, term in terms.items()}


def mixture_likelihood(theta: np.ndarray, mu: np.ndarray, y: Tensor) -> np.ndarray:
    """log p(y_n | theta, mu) of `beta_mixture`: draws (S,), (S, 2) -> (S, N)."""
    weights = np.log(np.stack([theta, 1 - theta], -1))[:, None]
    squares = np.square((y.numpy()[:, None] - mu[:, None]) / 0.7)
    return np.logaddexp.reduce(weights - squares / 2 - HALF_LOG_TAU - math.log(0.7), -1)


def mixture_evidence(a: float, b: float, y: Tensor, points: int = 201, thetas: int = 60) -> float:
    """log p(y) of `beta_mixture`: a grid over mu in [-4, 4]^2, Gauss and Legendre's rule over theta."""
    nodes, node_weights = np.polynomial.legendre.leggauss(thetas)
    theta = torch.tensor((nodes + 1) / 2)
    axis = torch.linspace(-4, 4, points, dtype=y.dtype)
    by_axis = Normal(axis.unsqueeze(-1), 0.7).log_prob(y).exp()
    totals = []
    for share, weight in zip(theta, torch.tensor(node_weights / 2), strict=True):
        both = share * by_axis.unsqueeze(1) + (1 - share) * by_axis
        totals.append(both.log().sum(-1) + weight.log() + Beta(a, b).log_prob(share))
    prior = Normal(0.0, 3.0).log_prob(axis)
    log_joint = torch.stack(totals) + prior.unsqueeze(-1) + prior
    return float(log_joint.flatten().logsumexp(0)) + 2 * math.log(8 / (points - 1))


def schools_log_evidence(y: Tensor, sigma: Tensor, points: int = 20_000) -> float:
    """log p(y) of eight schools: theta and mu by formula, tau = 5 tan(pi u / 2) by the midpoint rule in u."""
    u = (torch.arange(points, dtype=y.dtype) + 0.5) / points
    tau = 5 * torch.tan(math.pi * u / 2)
    variance = tau.square().unsqueeze(-1) + sigma.square()
    precision = (1 / variance).sum(-1) + 1 / 25
    centre = (y / variance).sum(-1) / precision
    log_p = Normal(0.0, variance.sqrt()).log_prob(y).sum(-1)
    log_p = log_p + precision * centre.square() / 2 - precision.log() / 2 - math.log(5)
    return float(log_p.logsumexp(0)) - math.log(points)


def schools_elpd(y: Tensor, sigma: Tensor) -> float:
    """Sum over schools of log p(y_n | the others), by quadrature: what leave-one-out estimates."""
    every = schools_log_evidence(y, sigma)
    keep = [torch.arange(len(y)) != n for n in range(len(y))]
    return sum(every - schools_log_evidence(y[rest], sigma[rest]) for rest in keep)
