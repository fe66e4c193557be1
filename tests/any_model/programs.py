"""Pyro programs as users write them, each with data: what must run unchanged. Their posteriors are in `answers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn
from torch.distributions import constraints

NOISE = 0.5  # sd of y about its mean
PRIOR = 2.0  # sd of a coefficient
BETWEEN = 0.8  # sd of a group's effect
GROUPS = ("art", "law", "sea")
EFFECTS = torch.tensor([[0.9, 0.7], [-0.4, 0.1], [0.7, 0.6], [0.2, 0.5]], dtype=torch.float64)  # loadings (4, 2)


def normals(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers, always the same: float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, X_NEW = normals(1, 24, 2), normals(2, 7, 2)
Y, Y_NEW = (x @ torch.tensor([1.0, -0.5]).double() + NOISE * normals(3, len(x)) for x in (X, X_NEW))


def regression(X: Tensor, y: Tensor) -> None:
    """beta ~ Normal(0, PRIOR), y_n ~ Normal(X_n beta, NOISE), with tensors of its own. X: (N, 2). y: (N,)."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), PRIOR).to_event(1))
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(X @ beta, NOISE), obs=y)


def expanded(X: Tensor, y: Tensor) -> None:
    """The same, its prior expanded from a number."""
    beta = pyro.sample("beta", dist.Normal(0.0, PRIOR).expand([2]).to_event(1))
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(X @ beta, NOISE), obs=y)


def forecast(X: Tensor, y: Tensor | None = None) -> None:
    """The same, to be run forward where y is not known."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), PRIOR).to_event(1))
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(X @ beta, NOISE), obs=y)


def minibatched(X: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    """The same on some rows at a time."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), PRIOR).to_event(1))
    with pyro.plate("data", len(X), subsample_size=batch_size) as rows:
        pyro.sample("y", dist.Normal(X[rows] @ beta, NOISE), obs=y[rows])


def scaled(X: Tensor, y: Tensor, scales: Tensor) -> None:
    """The same with the sd of each coefficient's prior among the data, constant from row to row: (2,)."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), scales).to_event(1))
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(X @ beta, NOISE), obs=y)


def closed_over(X32: Tensor) -> Callable[[Tensor], None]:
    """The same with X in a closure, in float32 whatever y is."""

    def model(y: Tensor) -> None:
        beta = pyro.sample("beta", dist.Normal(torch.zeros(2), PRIOR).to_event(1))
        with pyro.plate("data", len(X32)):
            pyro.sample("y", dist.Normal(X32 @ beta, NOISE), obs=y)

    return model


X32 = X.to(torch.float32)


def _earnings(rows: int, seed: int) -> pd.DataFrame:
    """Height, group and earnings; the groups' names not in the order of their first row."""
    height, codes = normals(seed, rows).numpy(), (2 - np.arange(rows) % 3)
    earnings = np.array([0.5, -1.0, 2.0])[codes] + 0.7 * height + NOISE * normals(seed + 1, rows).numpy()
    names = pd.Categorical.from_codes(codes, list(GROUPS))
    return pd.DataFrame({"height": height, "group": names, "earnings": earnings})


FRAME, FRAME_NEW = _earnings(24, 10), _earnings(5, 20)


def by_group(height: Tensor, group: Tensor, earnings: Tensor) -> None:
    """A level for each group: earnings_n ~ Normal(alpha[group_n] + slope height_n, NOISE)."""
    slope = pyro.sample("slope", dist.Normal(0.0, PRIOR))
    with pyro.plate("group", len(GROUPS)):
        alpha = pyro.sample("alpha", dist.Normal(0.0, PRIOR))
    with pyro.plate("data", len(height)):
        pyro.sample("earnings", dist.Normal(alpha[group] + slope * height, NOISE), obs=earnings)


class LinearNet(PyroModule):
    """A Bayesian network of one linear layer, in float32 as torch makes it: the regression again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = PyroModule[nn.Linear](2, 1, bias=False, dtype=torch.float32)
        self.layer.weight = PyroSample(dist.Normal(torch.tensor(0.0), torch.tensor(PRIOR)).expand([1, 2]).to_event(2))

    def forward(self, X: Tensor, y: Tensor) -> None:
        mean = self.layer(X).squeeze(-1)
        with pyro.plate("data", len(X)):
            pyro.sample("y", dist.Normal(mean, NOISE), obs=y)


class TanhNet(PyroModule):
    """A Bayesian network of one hidden unit: y_n ~ Normal(outer tanh(inner x_n), NOISE). x: (N, 1). y: (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = PyroModule[nn.Linear](1, 1, bias=False, dtype=torch.float32)
        self.outer = PyroModule[nn.Linear](1, 1, bias=False, dtype=torch.float32)
        for layer in (self.inner, self.outer):
            layer.weight = PyroSample(dist.Normal(torch.tensor(0.0), torch.tensor(PRIOR)).expand([1, 1]).to_event(2))

    def forward(self, x: Tensor, y: Tensor) -> None:
        mean = self.outer(torch.tanh(self.inner(x))).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, NOISE), obs=y)


CURVE_X, CURVE_X_NEW = torch.linspace(-2, 2, 12).double().unsqueeze(-1), torch.tensor([[-1.5], [0.5], [3.0]]).double()
CURVE_Y, CURVE_Y_NEW = (1.5 * torch.tanh(1.2 * x[:, 0]) + NOISE * normals(30, len(x)) for x in (CURVE_X, CURVE_X_NEW))


class FixedNet(nn.Module):
    """Not Bayesian: features from a float32 layer that is not trained, a regression on them. X: (N, 2). y: (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, dtype=torch.float32)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[1.0, 0.5], [-0.5, 1.0]]))
            self.layer.bias.zero_()
        self.requires_grad_(False)

    def forward(self, X: Tensor, y: Tensor) -> None:
        regression(self.layer(X), y)


PLACES = torch.linspace(0, 1, 10).double()
COUNTS = torch.tensor([1, 0, 2, 3, 5, 4, 7, 4, 3, 1]).double()


def gp_covariance(t: Tensor) -> Tensor:
    """exp(-(t - t')^2 / (2 0.15^2)), with 0.05 more on its diagonal: (N, N)."""
    return (-(t[:, None] - t).square() / (2 * 0.15**2)).exp() + 0.05 * torch.eye(len(t), dtype=t.dtype)


def gaussian_process(t: Tensor, counts: Tensor) -> None:
    """f ~ GP, counts ~ Poisson(exp f), under no plate. t, counts: (N,)."""
    f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(t)), gp_covariance(t)))
    pyro.sample("counts", dist.Poisson(f.exp()).to_event(1), obs=counts)


TRANSITION = ((0.75, 0.25), (0.25, 0.75))
EMISSION = 0.9  # sd of a reading about its state's mean


def hmm(y: Tensor) -> None:
    """Two states in turn, z_t ~ TRANSITION[z_{t-1}], y_t ~ Normal(means[z_t], EMISSION), from state 0. y: (T,)."""
    with pyro.plate("states", 2):
        means = pyro.sample("means", dist.Normal(torch.tensor([-1.0, 1.0]), 0.2))
    transition, z = torch.tensor(TRANSITION), torch.tensor(0)
    for t in pyro.markov(range(len(y))):
        z = pyro.sample(f"z_{t}", dist.Categorical(transition[z]), infer={"enumerate": "parallel"})
        pyro.sample(f"y_{t}", dist.Normal(means[z], EMISSION), obs=y[t])


# (12,), made so that the likeliest path is not that of the likeliest single states
SERIES = torch.tensor([-0.5, -1.2, -0.6, -0.2, 0.5, 2.4, 1.3, -0.4, 1.0, -0.8, 0.3, 0.4]).double()


WORDS = torch.tensor([[0, 0, 0, 0, 1, 2], [2, 2, 1, 2, 2, 0]])  # two documents of six words, three in the vocabulary


def lda(words: Tensor) -> None:
    """Latent Dirichlet allocation (Blei, Ng and Jordan 2003), two topics. words: (documents, length), codes."""
    with pyro.plate("topics", 2):
        phi = pyro.sample("phi", dist.Dirichlet(torch.ones(3)), infer={"event_dims": ["vocabulary"]})
    with pyro.plate("documents", len(words)):
        theta = pyro.sample("theta", dist.Dirichlet(torch.ones(2)), infer={"event_dims": ["topics"]})
        with pyro.plate("words", words.shape[1]):
            z = pyro.sample("z", dist.Categorical(theta), infer={"enumerate": "parallel"})
            pyro.sample("w", dist.Categorical(phi[z]), obs=words.T)


lda.exchangeable = ("topics",)  # type: ignore[attr-defined]

LENGTHS = torch.cat([normals(40, 9) - 1.5, normals(41, 15) + 1.5])
EGGS = torch.tensor([1, 0, 2, 1, 3, 0, 1, 2, 1, 5, 7, 4, 6, 8, 5, 3, 6, 5, 9, 4, 6, 7, 5, 6]).double()


def two_sites(length: Tensor, eggs: Tensor) -> None:
    """Two readings of one hidden kind, z_n: length_n ~ Normal(loc[z_n], 1), eggs_n ~ Poisson(rate[z_n]). Both (N,)."""
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(torch.tensor([2.0, 6.0]), 1.0).to_event(1))
    with pyro.plate("data", len(length)):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.4, 0.6])))
        pyro.sample("length", dist.Normal(loc[z], 1.0), obs=length)
        pyro.sample("eggs", dist.Poisson(rate[z]), obs=eggs)


HOLES = Y.clone()
HOLES[[2, 11, 12]] = torch.nan


def masked(X: Tensor, y: Tensor) -> None:
    """The regression with missing y, by a mask around the site."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), PRIOR).to_event(1))
    seen = ~torch.isnan(y)
    with pyro.plate("data", len(X)), poutine.mask(mask=seen):
        pyro.sample("y", dist.Normal(X @ beta, NOISE), obs=torch.where(seen, y, 0.0))


def masked_in_place(X: Tensor, y: Tensor) -> None:
    """The same, by a mask of the distribution."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), PRIOR).to_event(1))
    seen = ~torch.isnan(y)
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(X @ beta, NOISE).mask(seen), obs=y.nan_to_num())


MARKS, MARKS_NEW = (normals(50, 6, 1) * BETWEEN + NOISE * normals(51, 6, 4) + 1, normals(52, 3, 4) + 1)


def nested(marks: Tensor) -> None:
    """A plate in a plate: level_s ~ Normal(mean, BETWEEN), marks_sp ~ Normal(level_s, NOISE). marks: (S, P)."""
    mean = pyro.sample("mean", dist.Normal(0.0, PRIOR))
    with pyro.plate("schools", len(marks), dim=-2):
        level = pyro.sample("level", dist.Normal(mean, BETWEEN))
        with pyro.plate("pupils", marks.shape[1], dim=-1):
            pyro.sample("marks", dist.Normal(level, NOISE), obs=marks)


DOSES, DOSES_NEW = normals(60, 10, 3), normals(61, 4, 3)
ANSWERS, ANSWERS_NEW = (
    0.5 + 0.9 * x + BETWEEN * normals(62 + len(x), len(x), 1) + NOISE * normals(80 + len(x), *x.shape)
    for x in (DOSES, DOSES_NEW)
)


def random_effects(doses: Tensor, answers: Tensor) -> None:
    """A patient a row: effect_n ~ Normal(0, BETWEEN), answers_n ~ Normal(level + slope doses_n + effect_n, NOISE).

    doses, answers: (N, 3).
    """
    level, slope = (pyro.sample(name, dist.Normal(0.0, PRIOR)) for name in ("level", "slope"))
    with pyro.plate("data", len(doses)):
        effect = pyro.sample("effect", dist.Normal(0.0, BETWEEN))
        mean = level + slope * doses + effect.unsqueeze(-1)
        pyro.sample("answers", dist.Normal(mean, NOISE).to_event(1), obs=answers)


def random_effects_by_params(doses: Tensor, answers: Tensor) -> None:
    """The same with level and slope as params, so that nothing but the effects is latent."""
    level, slope = (pyro.param(name, lambda: torch.zeros(())) for name in ("level", "slope"))
    with pyro.plate("data", len(doses)):
        effect = pyro.sample("effect", dist.Normal(0.0, BETWEEN))
        mean = level + slope * doses + effect.unsqueeze(-1)
        pyro.sample("answers", dist.Normal(mean, NOISE).to_event(1), obs=answers)


POINTS, POINTS_NEW = (normals(s, n, 2) @ EFFECTS.T + NOISE * normals(s + 1, n, 4) for s, n in ((70, 60), (72, 8)))


def pca(x: Tensor) -> None:
    """Probabilistic PCA, its loadings params: z_n ~ Normal(0, I), x_n ~ Normal(loadings z_n, NOISE). x: (N, 4)."""
    loadings = pyro.param("loadings", lambda: 0.5 * torch.eye(4, 2))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ loadings.T, NOISE).to_event(1), obs=x)


def pca_known(x: Tensor) -> None:
    """The same with known loadings, EFFECTS, whose columns are not orthogonal."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ EFFECTS.T, NOISE).to_event(1), obs=x)


SCHOOLS_Y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]).double()
SCHOOLS_SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18]).double()


def centred(y: Tensor, sigma: Tensor) -> None:
    """Eight schools (Rubin 1981; Gelman et al. 2013, sec. 5.5). y, sigma: (8,)."""
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("data", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def non_centred(y: Tensor, sigma: Tensor) -> None:
    """The same with theta = mu + tau eta."""
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("data", len(y)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)


MIXED = torch.cat([0.7 * normals(90, 12) - 2.0, 0.7 * normals(91, 28) + 2.0])


def beta_mixture(a: float, b: float) -> Callable[[Tensor], None]:
    """A mixture whose weights (theta, 1 - theta), theta ~ Beta(a, b), are outside its plate of components. y: (N,)."""

    def model(y: Tensor) -> None:
        theta = pyro.sample("theta", dist.Beta(a, b))
        with pyro.plate("components", 2):
            mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Categorical(torch.stack([theta, 1 - theta])))
            pyro.sample("y", dist.Normal(mu[z], 0.7), obs=y)

    return model


def swapped(theta: Any, order: Any) -> Any:
    """What an order of the two components does to theta: theta, or 1 - theta. theta: (...). order: (..., 2)."""
    return theta + (order[..., 0] != 0) * (1 - 2 * theta)


def flat(y: Tensor) -> None:
    """mu with no prior, y_n ~ Normal(mu, 1): mu | y ~ Normal(mean y, 1 / N). y: (N,)."""
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def normal_mean(y: Tensor) -> None:
    """mu ~ Normal(0, PRIOR), y_n ~ Normal(mu, 1). y: (N,)."""
    mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
