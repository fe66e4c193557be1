"""Two samplers, one posterior: whatever the engine, the draws, the divergences and the way out are the same."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import Fit, nuts
from pyrometer.models import BayesianGMM, CorrelatedGaussian, UnivariateMixture
from torch import Tensor
from truths import COVARIANCES, normal_mean, two_clusters

X = two_clusters()
WIDE = 300.0
SOON = 2.0  # seconds
MODELS: list[Any] = [  # of what an engine runs, a density, one kind of mixture has all that others have
    *(pytest.param(BayesianGMM(2, name), X, marks=[pytest.mark.slow] * (name != "full")) for name in COVARIANCES),
    (UnivariateMixture(2), X[:, 0]),
    (CorrelatedGaussian(), X),
]


@pytest.mark.parametrize(("model", "x"), MODELS, ids=[*COVARIANCES, "univariate", "correlated"])
def test_both_engines_draw_from_one_posterior(model: Any, x: Tensor) -> None:
    options: dict[str, Any] = {"warmup": 300, "draws": 300, "chains": 2, "jobs": 1, "progress": False}
    one, other = (nuts(model, x, engine=engine, seed=5, **options) for engine in ("nutpie", "pyro"))
    assert set(one.idata["sample_stats"]) == set(other.idata["sample_stats"])
    for name in one.posterior:
        for power in (1, 2):
            a, b = (fit.posterior[name] ** power for fit in (one, other))
            error = np.hypot(*(az.mcse(draws)[name].values for draws in (a, b)))
            gap = np.abs(a.mean(("chain", "draw")).values - b.mean(("chain", "draw")).values)
            assert (gap <= 5 * np.nan_to_num(error) + 1e-9).all(), name


def undefined_below_zero(x: Tensor) -> None:
    """loc ~ Normal(0, 1) with no density below zero, where its logarithm is not a number."""
    loc = pyro.sample("loc", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0 * loc.log(), 1.0), obs=x)


@pytest.mark.parametrize("engine", ["nutpie", "pyro"])
def test_a_density_that_is_not_finite_is_a_divergence_and_not_a_crash(engine: Any) -> None:
    x = torch.tensor([-0.5, -2.0]).double()
    fit = nuts(undefined_below_zero, x, engine=engine, warmup=100, draws=300, chains=1, progress=False)
    assert int(fit.idata["sample_stats"]["diverging"].sum()) > 0
    assert (fit.draws()["loc"] > 0).all()


@pytest.mark.parametrize("engine", ["nutpie", "pyro"])
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("compile", [True, False])
def test_ctrl_c_gives_back_the_draws_so_far(engine: Any, jobs: int, compile: bool) -> None:
    options: dict[str, Any] = {"engine": engine, "chains": 2, "jobs": jobs, "compile": compile, "progress": False}
    nuts(normal_mean, X[:, 0], warmup=5, draws=5, **options)  # compiles
    before = signal.getsignal(signal.SIGINT)
    fit = interrupted(lambda: nuts(normal_mean, X[:, 0], warmup=50, draws=10**6, **options))
    assert 0 < fit.posterior.sizes["draw"] < 10**6
    assert fit.message.startswith("interrupted: ")
    assert signal.getsignal(signal.SIGINT) is before


class Slowed:
    """A normal, 1 wide in one direction and WIDE in the other, so that trajectories are of hundreds of gradients.

    Once it is asked to, it takes a tenth of a second a run.
    """

    def __init__(self) -> None:
        self.slow, self.asked = threading.Event(), 0.0

    def __call__(self, x: Tensor) -> None:
        time.sleep(0.1 * self.slow.is_set())
        narrow, _ = (pyro.sample(name, dist.Normal(0.0, sd)) for name, sd in (("narrow", 1.0), ("wide", WIDE)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(narrow, 1.0), obs=x)

    def ask(self) -> None:
        """Be slow, and ask for the end in the middle of a trajectory."""
        self.slow.set()
        time.sleep(0.5)
        self.asked = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("engine", ["nutpie", "pyro"])
def test_ctrl_c_ends_the_chains_in_the_middle_of_a_trajectory_and_keeps_whole_draws_alone(engine: Any) -> None:
    x, options = X[:, 0], {"engine": engine, "chains": 4, "compile": False, "mass_matrix": "diagonal"}
    model = Slowed()
    fit = interrupted(lambda: nuts(model, x, warmup=2, draws=10**6, progress=False, **options), model.ask)
    assert time.monotonic() - model.asked < SOON
    draws = {name: torch.as_tensor(values) for name, values in fit.draws().items()}
    expected = dist.Normal(0.0, 1.0).log_prob(draws["narrow"]) + dist.Normal(0.0, WIDE).log_prob(draws["wide"])
    expected += dist.Normal(draws["narrow"][:, None], 1.0).log_prob(x).sum(1)
    np.testing.assert_allclose(fit.idata["sample_stats"]["lp"].values.ravel(), expected, rtol=1e-9)
    assert fit.steps == 2 + fit.posterior.sizes["draw"]


def interrupted(fit: Callable[[], Fit], interrupt: Callable[[], None] | None = None) -> Fit:
    """What a fit gives back on Ctrl-C; one that a slow machine had not yet begun to draw is run again, for longer."""
    for seconds in (1.0, 4.0, 16.0, 64.0):
        timer = threading.Timer(seconds, interrupt or partial(os.kill, os.getpid(), signal.SIGINT))
        timer.start()
        try:
            return fit()
        except KeyboardInterrupt:
            continue
        finally:
            timer.cancel()
    pytest.fail("no draw within a minute")


STOPPED = """
import os, signal, sys
import pyro, pyro.distributions as dist, pyrometer, torch

def normal_mean(x):
    global runs, before
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)
    runs += 1
    if runs == 2000:  # in the middle of the draws
        before = set(sys.modules)
        os.kill(os.getpid(), signal.SIGINT)

runs = 0
fit = pyrometer.nuts(normal_mean, torch.ones(20).double(), warmup=5, draws=10**6, compile=False, progress=False)
assert fit.message.startswith("interrupted: "), fit.message
print(len(set(sys.modules) - before))
"""


def test_what_is_made_of_draws_waits_for_no_import_once_the_chains_are_stopped() -> None:
    """torch loads a thousand modules as it traces for the first time, which takes seconds."""
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 20
