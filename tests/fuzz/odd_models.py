"""Models as people write them: sound ones, built in and their own, and their own with one deliberate fault each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyrometer.models import (
    GMM,
    VAE,
    BayesianGMM,
    CorrelatedGaussian,
    DirichletProcessGMM,
    SequenceVAE,
    UnivariateMixture,
)
from torch import Tensor
from truths import normal_mixture


def mean(x: Tensor) -> None:
    """x_n ~ Normal(loc, scale) in each entry."""
    loc, scale = pyro.sample("loc", dist.Normal(0.0, 5.0)), pyro.sample("scale", dist.HalfNormal(5.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, scale).expand(x.shape).to_event(x.dim() - 1), obs=x)


def regression(x: Tensor, y: Tensor) -> None:
    """y_n ~ Normal(slope x_n, 1)."""
    slope = pyro.sample("slope", dist.Normal(0.0, 5.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def groups(x: Tensor, y: Tensor) -> None:
    """y_n ~ Normal(level of the group x_n, 1), x whole numbers or categories."""
    with pyro.plate("levels", 3):
        level = pyro.sample("level", dist.Normal(0.0, 5.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(level[x], 1.0), obs=y)


def counts(x: Tensor) -> None:
    """x_n ~ Poisson(rate)."""
    rate = pyro.sample("rate", dist.Gamma(1.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Poisson(rate), obs=x)


def masked(x: Tensor) -> None:
    """Leaves aside what is missing."""
    loc = pyro.sample("loc", dist.Normal(0.0, 5.0))
    with pyro.plate("data", len(x)), pyro.poutine.mask(mask=~x.isnan()):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x.nan_to_num())


def no_plate(x: Tensor) -> None:
    """No plate of rows."""
    pyro.sample("x", dist.Normal(pyro.sample("loc", dist.Normal(0.0, 5.0)), 1.0).expand(x.shape).to_event(), obs=x)


def nothing_latent(x: Tensor) -> None:
    """Nothing to fit."""
    pyro.sample("x", dist.Normal(0.0, 1.0).expand(x.shape).to_event(), obs=x)


def nothing_observed(x: Tensor) -> None:
    """The posterior is the prior."""
    pyro.sample("loc", dist.Normal(0.0, 1.0))


def nothing_at_all(x: Tensor) -> None:
    """No site."""


def only_discrete(x: Tensor) -> None:
    """No continuous latent."""
    z = pyro.sample("z", dist.Bernoulli(0.5))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def branching(x: Tensor) -> None:
    """Other sites from run to run."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    if loc > 0:
        loc = loc + pyro.sample("more", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def growing(x: Tensor) -> None:
    """Other shapes from run to run."""
    loc = pyro.sample("loc", dist.Normal(torch.zeros(1 + int(3 * torch.rand(()))), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc.sum(), 1.0), obs=x)


def twice(x: Tensor) -> None:
    """One name, two sites."""
    for _ in range(2):
        pyro.sample("loc", dist.Normal(0.0, 1.0))


def wrong_shape(x: Tensor) -> None:
    """A plate of a row too many."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x) + 1):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def not_independent(x: Tensor) -> None:
    """A latent of a batch that no plate declares."""
    loc = pyro.sample("loc", dist.Normal(torch.zeros(3), 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc.sum(), 1.0), obs=x)


def nan_density(x: Tensor) -> None:
    """A density that is no number."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.factor("bad", loc * float("nan"))


def nowhere(x: Tensor) -> None:
    """A density of zero everywhere."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.factor("bad", torch.where(loc < 0, loc, loc) - float("inf"))


def infinite_density(x: Tensor) -> None:
    """A density without a bound."""
    scale = pyro.sample("scale", dist.HalfCauchy(1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(x, scale**3), obs=x)


def improper(x: Tensor) -> None:
    """A flat prior, and nothing that would bound it."""
    pyro.sample("loc", dist.ImproperUniform(dist.constraints.real, (), ()))


def negative_scale(x: Tensor) -> None:
    """A parameter outside its support."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, loc), obs=x)


def in_numpy(x: Tensor) -> None:
    """A gradient that is cut."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc.item(), 1.0), obs=x)


def moves_the_generators(x: Tensor) -> None:
    """It seeds as it likes."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    mean(x)


def leaves_a_param(x: Tensor) -> None:
    """A param beside the latent."""
    shift = pyro.param("shift", torch.tensor(0.0))
    loc = pyro.sample("loc", dist.Normal(shift, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0).expand(x.shape).to_event(x.dim() - 1), obs=x)


def raises(x: Tensor) -> None:
    """It fails, in several lines."""
    raise KeyError("out of\npaper")


def heavy_names(x: Tensor) -> None:
    """Sites whose names are no words."""
    loc = pyro.sample("a/b $x_{$ \n" + "n" * 300, dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


class Late:
    """A model that is sound for so many runs, and then raises."""

    def __init__(self, runs: int, error: Exception | None = None) -> None:
        self.left, self.error = runs, error or RuntimeError("out of\npaper")

    def __call__(self, x: Tensor) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error
        mean(x)


class LateNaN(Late):
    """A model whose density is a number for so many runs."""

    def __call__(self, x: Tensor) -> None:
        self.left -= 1
        mean(x if self.left >= 0 else x * float("nan"))


def _itself(model: Any) -> Any:
    return model


SOUND: dict[str, Callable[[], Any]] = {
    **{
        each.__name__: partial(_itself, each)
        for each in (mean, counts, normal_mixture, masked, no_plate, leaves_a_param)
    },
    "GMM": lambda: GMM(2),
    "BayesianGMM": lambda: BayesianGMM(2),
    "BayesianGMM, tied": lambda: BayesianGMM(2, covariance="tied"),
    "DirichletProcessGMM": lambda: DirichletProcessGMM(3),
    "UnivariateMixture": lambda: UnivariateMixture(2),
    "CorrelatedGaussian": CorrelatedGaussian,
}
OF_TWO: dict[str, Callable[[], Any]] = {each.__name__: partial(_itself, each) for each in (regression, groups)}
OF_ROWS: dict[str, Callable[[], Any]] = {
    "VAE": lambda: VAE(1, hidden=(3,)),
    "VAE, bernoulli": lambda: VAE(1, "mlp", "bernoulli", hidden=(3,)),
    "LabelledVAE": lambda: VAE(1, hidden=(3,), labels=2),
    "SequenceVAE": lambda: SequenceVAE(1, hidden=3),
}
FAULTY: dict[str, Callable[[], Any]] = {
    **{
        each.__name__: partial(_itself, each)
        for each in (
            nothing_latent,
            nothing_observed,
            nothing_at_all,
            only_discrete,
            branching,
            growing,
            twice,
            wrong_shape,
            not_independent,
            nan_density,
            nowhere,
            infinite_density,
            improper,
            negative_scale,
            in_numpy,
            moves_the_generators,
            raises,
            heavy_names,
        )
    },
    **{f"fails after {runs}": partial(Late, runs) for runs in (1, 4, 9, 20)},
    **{f"NaN after {runs}": partial(LateNaN, runs) for runs in (1, 8, 12)},
    "no model": lambda: "GMM",
    "None": lambda: None,
    "a class": lambda: BayesianGMM,
    "of no argument": lambda: lambda: None,
    "a distribution": lambda: dist.Normal(0.0, 1.0),
}
MODELS = {**SOUND, **OF_TWO, **OF_ROWS, **FAULTY}
