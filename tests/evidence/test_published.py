"""Evidences of real data that are known: Old Faithful by independent samplers, the galaxies by the literature."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import datasets, log_evidence, nuts, svi, thames
from pyrometer.models import BayesianGMM
from torch import Tensor

FAITHFUL = {1: (-1308.52, 0.005), 2: (-1161.578, 0.002), 3: (-1158.66, 0.03), 4: (-1160.2, 0.2)}  # and their errors
CHAINS: dict[str, Any] = {"warmup": 500, "draws": 1000, "chains": 4, "progress": False}


def near(found: Any, truth: float, error: float) -> None:
    """Within three errors of both, or 0.01 nats."""
    assert abs(found.value - truth) < 3 * (found.se**2 + error**2) ** 0.5 + 0.01, f"{found} is not {truth} +- {error}"


@pytest.mark.parametrize("components", [1, 2])
def test_old_faithful_by_a_guide_and_by_chains(components: int) -> None:
    model, (truth, error) = BayesianGMM(components), FAITHFUL[components]
    by_guide = log_evidence(svi(model, "structured", "faithful", steps=1500, draws=2000, progress=False))
    by_chains = log_evidence(nuts(model, "faithful", **CHAINS))
    for found in (by_guide, by_chains):
        near(found, truth, error)
        assert found.se < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("components", [3, 4])
def test_old_faithful_with_more_components_than_clusters(components: int) -> None:
    model, (truth, error) = BayesianGMM(components), FAITHFUL[components]
    chains = nuts(model, "faithful", **{**CHAINS, "draws": 4000})
    near(log_evidence(chains), truth, error)
    near(thames(chains), truth, error)
    near(log_evidence(svi(model, "auto_mvn", "faithful", starts=5, draws=10_000, progress=False)), truth, error)


class Galaxies:
    """Richardson and Green (1997, section 2.4) with three components.

    mu_k ~ Normal(midrange, range^2), C0 ~ Gamma(0.2, 10 / range^2), sigma_k^2 ~ InverseGamma(2, C0), equal weights a
    priori. y: (N,), thousands of km/s.
    """

    components = 3

    def __call__(self, y: Tensor) -> None:
        width, middle = y.max() - y.min(), (y.max() + y.min()) / 2
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(self.components)))
        rate = pyro.sample("rate", dist.Gamma(0.2, 10 / width**2))
        with pyro.plate("components", self.components):
            locs = pyro.sample("locs", dist.Normal(middle, width))
            variances = pyro.sample("variances", dist.InverseGamma(torch.tensor(2.0), rate))
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Categorical(weights))
            pyro.sample("y", dist.Normal(locs[z], variances[z].sqrt()), obs=y)


@pytest.mark.slow
def test_the_galaxies_in_the_model_of_richardson_and_green() -> None:
    velocities = torch.as_tensor(datasets.load("galaxies").to_numpy()[:, 0] / 1000).double()
    chains = nuts(Galaxies(), velocities, **{**CHAINS, "draws": 4000})
    found = log_evidence(chains)
    assert abs(found.value - -226.68) < 0.3
    assert found.se < 0.1
