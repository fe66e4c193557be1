"""An observation that its distribution does not take is refused by its site: its `log_prob` would be any number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import InputError, laplace
from torch import Tensor

I = np.arange(6.0)  # noqa: E741
LATER = torch.arange(6) > 2
FAMILIES: dict[str, Callable[[Tensor], Any]] = {
    "Bernoulli": lambda a: dist.Bernoulli(logits=a),
    "Bernoulli, masked": lambda a: dist.Bernoulli(logits=a).mask(LATER),
    "Bernoulli, two": lambda a: dist.Bernoulli(logits=a).expand([6, 2]).to_event(1),
    "Poisson": lambda a: dist.Poisson(a.exp()),
    "Geometric": lambda a: dist.Geometric(logits=a),
    "Categorical": lambda a: dist.Categorical(logits=torch.stack([a, -a])),
    "Exponential": lambda a: dist.Exponential(a.exp()),
    "LogNormal": lambda a: dist.LogNormal(a, 1.0),
    "Beta": lambda a: dist.Beta(a.exp(), 1.0),
    "Normal": lambda a: dist.Normal(a, 1.0),
    "Uniform": lambda a: dist.Uniform(-9.0 - a.square(), 9.0 + a.square()),
}


def model_of(name: str) -> Callable[[Tensor], None]:
    """a ~ Normal(0, 1), x_n of that family, where the last rows of NaN are left aside."""

    def model(x: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=~x.reshape(len(x), -1).isnan().any(1)):
            pyro.sample("x", FAMILIES[name](a), obs=x.nan_to_num(-7.0))

    return model


@pytest.mark.parametrize(
    ("name", "x", "says"),
    [
        ("Bernoulli", 1 + I % 2, "site 'x' observes 2 in row 1, and Bernoulli takes numbers from 0 to 1: recode it"),
        ("Bernoulli, masked", 3 * (I > 2), "observes 3 in row 3, and Bernoulli takes numbers from 0 to 1"),
        ("Bernoulli, two", np.stack([I % 2, 1 + I % 2], 1), "observes 2 in entry [1, 1], and Bernoulli takes numbers"),
        ("Poisson", I + 0.5, "observes 0.5 in row 0, and Poisson takes whole numbers from 0"),
        ("Geometric", I - 1, "observes -1 in row 0, and Geometric takes whole numbers from 0"),
        ("Categorical", I % 3, "observes 2 in row 2, and Categorical takes whole numbers from 0 to 1"),
        ("Exponential", I - 1, "observes -1 in row 0, and Exponential takes numbers from 0"),
        ("LogNormal", I, "observes 0 in row 0, and LogNormal takes numbers above 0"),
        ("Beta", I / 4, "observes 1.25 in row 5, and Beta takes numbers from 0 to 1"),
    ],
)
def test_a_value_outside_of_the_support_is_refused_by_its_site_and_row(name: str, x: np.ndarray, says: str) -> None:
    with pytest.raises(InputError) as caught:
        laplace(model_of(name), x.astype(float), progress=False)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("Bernoulli", I % 2),
        ("Bernoulli", I / 5),  # labels that are not sure, as grey pixels are
        ("Bernoulli", np.where(I > 4, math.nan, I % 2)),  # masked in the model
        ("Bernoulli, masked", np.where(I > 2, 1.0, -7.0)),
        ("Bernoulli, two", np.stack([I % 2, 1 - I % 2], 1)),
        ("Poisson", I),
        ("Categorical", I % 2),
        ("Exponential", I),
        ("Normal", I - 9),
        ("Uniform", I - 6),  # whose bounds a draw decides
    ],
)
def test_what_is_in_the_support_or_left_aside_is_taken(name: str, x: np.ndarray) -> None:
    fit = laplace(model_of(name), x, draws=20, progress=False)
    assert np.isfinite(fit.draws()["a"]).all()


def test_rows_that_are_held_out_are_refused_too() -> None:
    fit = laplace(model_of("Bernoulli"), I % 2, draws=20, progress=False)
    with pytest.raises(InputError, match="observes 2 in row 1, and Bernoulli takes numbers from 0 to 1"):
        fit.log_predictive(1 + I % 2)
