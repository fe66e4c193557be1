"""Chains that stay in different modes are told apart, and their modes weighed."""

import re
import sys
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import Fit, nuts
from pyrometer.inference.compilation import graph
from pyrometer.inference.mcmc.modes import modes, told
from torch import Tensor
from truths import two_clusters

X = two_clusters(40, gap=8.0)[:, 0]


def two_modes(x: Tensor) -> None:
    """A mean that is Normal(-10, 1/2) with weight 0.8 and Normal(10, 1/2) with 0.2, whatever the data."""
    at = pyro.sample("at", dist.Normal(0.0, 1e3))
    parts = dist.Normal(torch.tensor([-10.0, 10.0]).to(x), torch.tensor([0.5, 0.5]).to(x))
    pyro.factor("truth", (parts.log_prob(at) + torch.tensor([0.8, 0.2]).to(x).log()).logsumexp(-1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def two_modes_of_a_mixture(x: Tensor) -> None:
    """The same beside two components that may swap their labels."""
    at = pyro.sample("at", dist.Normal(0.0, 1e3))
    parts = dist.Normal(torch.tensor([-10.0, 10.0]).to(x), torch.tensor([0.5, 0.5]).to(x))
    pyro.factor("truth", (parts.log_prob(at) + torch.tensor([0.8, 0.2]).to(x).log()).logsumexp(-1))
    with pyro.plate("components", 2):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.ones(2).to(x)))
        pyro.sample("x", dist.Normal(locs[z], 1.0), obs=x)


@pytest.mark.parametrize("model", [two_modes, two_modes_of_a_mixture])
def test_the_modes_that_chains_stay_in_are_weighed(model: Any) -> None:
    fit = nuts(model, X, chains=6, draws="auto", seed=3, progress=False)
    assert fit.converged is False
    (said,) = [remark for remark in fit.remarks if "modes" in remark]
    weights = [float(weight) for weight in re.findall(r"weight ([\d.]+)", said)]
    assert weights == pytest.approx([0.8, 0.2], abs=0.05), said
    assert chains_in(said) == [chains_at(fit, -10.0), chains_at(fit, 10.0)], said


def chains_in(said: str) -> list[list[int]]:
    """The chains of each mode that a remark names."""
    return [[int(chain) for chain in chains.split(", ")] for chains in re.findall(r"chains? ([\d, ]+) in one", said)]


def chains_at(fit: Fit, place: float) -> list[int]:
    """Those whose `at` lies there."""
    means = fit.posterior["at"].mean("draw").values
    return np.flatnonzero(np.abs(means - place) < 1).tolist()


def test_chains_of_one_mode_have_nothing_to_tell() -> None:
    draws = np.random.default_rng(0).standard_normal((4, 500, 3))
    assert told(modes(draws, -0.5 * (draws**2).sum(-1))) == ""


def test_chains_that_begin_anew_may_not_pass_over_a_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["pyrometer.inference.mcmc.nuts"]
    monkeypatch.setattr(module, "_starts_near", lambda plan, chains: torch.full((chains, 1), -10.0).double())
    fit = nuts(two_modes, X, chains=6, draws="auto", seed=3, progress=False)
    assert fit.converged is False
    assert any("the chains stay in 2 modes" in remark for remark in fit.remarks)


def test_chains_on_other_data_of_the_same_shape_have_nothing_traced_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"chains": 2, "warmup": 20, "draws": 20, "jobs": 1, "progress": False}
    first = nuts(two_modes_of_a_mixture, X, **options)
    assert first.labels
    assert first.converged is False
    recorded = Mock(wraps=graph._recorded)
    monkeypatch.setattr(graph, "_recorded", recorded)
    assert nuts(two_modes_of_a_mixture, X + 0.5, **options).converged is False
    assert recorded.call_count == 0
