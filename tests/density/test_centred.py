"""Sites whose scale is itself latent are found, and no others."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.reparam import LocScaleReparam
from pyrometer.inference.data.as_data import data_for
from pyrometer.inference.density.centred import centred_sites
from pyrometer.models import BayesianGMM
from pyrometer.models.gallery import GALLERY
from torch import Tensor

CENTRED = GALLERY["eight_schools-eight_schools_centered"]
NONCENTRED = GALLERY["eight_schools-eight_schools_noncentered"]
X = torch.linspace(-1, 1, 12).double()


def fixed_scale(x: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("data", len(x)):
        theta = pyro.sample("theta", dist.Normal(mu, 1.0))
        pyro.sample("x", dist.Normal(theta, sigma), obs=x)


def walk(x: Tensor) -> None:
    sigma = pyro.sample("sigma", dist.Uniform(0.0, 5.0))
    steps = pyro.sample("steps", dist.StudentT(3.0, torch.zeros(len(x)), sigma).to_event(1))
    pyro.sample("x", dist.Normal(steps.cumsum(-1), 0.1).to_event(1), obs=x)


def rates(x: Tensor) -> None:
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", dist.LogNormal(torch.zeros(()), scale))
        pyro.sample("x", dist.Poisson(rate), obs=x.abs().round())


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        (CENTRED.model, CENTRED.data(), ["theta"]),
        (NONCENTRED.model, NONCENTRED.data(), []),
        (pyro.poutine.reparam(CENTRED.model, {"theta": LocScaleReparam(0.0)}), CENTRED.data(), []),
        (fixed_scale, X, []),
        (walk, X, ["steps"]),
        (rates, X, []),
        (BayesianGMM(2), X, []),
    ],
    ids=["centred", "non-centred", "made non-centred", "fixed scale", "walk", "rates", "mixture"],
)
def test_sites_of_an_unknown_scale_are_centred(model: Any, data: Any, expected: list[str]) -> None:
    assert centred_sites(model, data_for(model, data, None)[0]) == expected
