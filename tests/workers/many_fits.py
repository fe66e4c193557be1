"""Small work whose numbers are to be the same wherever it is done, of a model and guides that only a script knows."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal
from pyrometer.models import UnivariateMixture
from torch import Tensor

Y = np.random.default_rng(0).normal(1.0, 1.0, 12)
GROUPS = np.array([-5.1, -4.9, -4.0, 3.2, 4.1, 5.0])


def model_and_guides(scale: float = 10.0) -> tuple[Any, dict[str, Any]]:
    """A closure; a class, a function of a closure's and a lambda."""

    def height(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, scale))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    class Normal:
        def __init__(self, model: Any) -> None:
            self.start = 0.1 * scale

        def __call__(self, y: Tensor) -> None:
            loc = pyro.param("loc", torch.tensor(self.start).to(y))
            pyro.sample("mu", dist.Normal(loc, 0.3))

    def by_hand(y: Tensor) -> None:
        pyro.sample("mu", dist.Normal(pyro.param("loc", y.new_tensor(0.1 * scale)), 0.5))

    return height, {"class": Normal, "function": by_hand, "lambda": lambda model: AutoMultivariateNormal(model)}


def table(jobs: int | None, **options: Any) -> Any:
    """A comparison, the time left out."""
    model, guides = model_and_guides()
    how = {"reference": "laplace", "steps": 30, "starts": 2, "compile": False, "progress": False}
    return pyrometer.compare(model, Y, guides, jobs=jobs, **{**how, **options}).table.drop(columns="seconds")


def selection(jobs: int | None, **options: Any) -> Any:
    """K = 2 and 1, the time left out."""
    how = {"starts": 2, "folds": 2, "draws": 50, "progress": False}
    chosen = pyrometer.choose_components(GROUPS, [2, 1], UnivariateMixture, jobs=jobs, **{**how, **options})
    return chosen.table.drop(columns="seconds")


def ranks(jobs: int | None, **options: Any) -> Any:
    """A calibration's."""
    model, _ = model_and_guides(1.0)
    method = partial(pyrometer.laplace, starts=1, draws=20)
    how = {"simulations": 50, "draws": 9, "progress": False}
    return pyrometer.calibrate(model, method, 4, jobs=jobs, **{**how, **options}).ranks


def draws(jobs: int | None, **options: Any) -> Any:
    """Of the best of several starts."""
    model, guides = model_and_guides()
    how = {"starts": 3, "steps": 60, "draws": 20, "compile": False, "progress": False}
    fit = pyrometer.svi(model, guides["lambda"], Y, jobs=jobs, **{**how, **options})
    return fit.posterior.to_dataframe().assign(loss=fit.losses[-1])


@cache
def alone(name: str) -> Any:
    """What such work gives in one process."""
    return WORK[name](1)


WORK: dict[str, Callable[..., Any]] = {"compare": table, "choose": selection, "calibrate": ranks, "svi": draws}


def some_slow(*slow: str) -> list[Any]:
    """The names of such work, some of it for `make test-all` alone."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in WORK]


def frail(folder: Path, dies: Callable[[int, int], bool]) -> Callable[[int], int]:
    """A function whose worker is killed in the middle of the calls that die. dies: of a number and how often it ran."""

    def square(number: int) -> int:
        with (folder / str(number)).open("a") as runs:
            runs.write(".")
        if dies(number, (folder / str(number)).stat().st_size):
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number

    return square


def runs(folder: Path) -> dict[int, int]:
    """How often each call ran."""
    return {int(path.name): path.stat().st_size for path in folder.iterdir()}
