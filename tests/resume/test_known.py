"""What a fit is known by is the same in every process, and another for every change that could move a number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam
from pyrometer.inference.data.as_data import data_for
from pyrometer.inference.resume.known import digest_of, known_of, said
from pyrometer.models import BayesianGMM
from torch import Tensor

SCALE = 2.0
PROGRAM = """
def model(x):
    def inner(y):
        return y * {factor}
    if len(x) in {{7, 8, "nine"}}:
        return
    loc = pyro.sample("loc", dist.Normal(0.0, SCALE))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(inner(loc), other()), obs=x)

def other():
    return {scale}
"""


def program(factor: float = 1.0, scale: float = 1.0, constant: float = 2.0, lines: int = 0) -> Callable[..., Any]:
    """A model as a notebook has it, at whatever line of it."""
    made: dict[str, Any] = {"pyro": pyro, "dist": dist, "SCALE": constant, "__name__": "__main__"}
    exec("\n" * lines + PROGRAM.format(factor=factor, scale=scale), made)
    return made["model"]


def test_the_same_program_anywhere_in_a_file_is_the_same() -> None:
    assert said(program()) == said(program(lines=7))


@pytest.mark.parametrize("changed", [{"factor": 2.0}, {"scale": 2.0}, {"constant": 3.0}])
def test_a_program_changed_within_in_a_function_it_calls_or_in_a_constant_is_another(changed: dict[str, float]) -> None:
    assert said(program(**changed)) != said(program())


def closed_over(value: Any) -> Callable[[Tensor], Any]:
    return lambda x: x * value


class Guide:
    """A guide of a user's."""

    def __init__(self, width: float) -> None:
        self.width = width

    def __call__(self, x: Tensor) -> None:
        pyro.sample("loc", dist.Normal(0.0, self.width))


X = np.arange(6.0).reshape(3, 2)
PAIRS: dict[str, tuple[Any, Any]] = {
    "numbers": (1, 1.0),
    "words": ("1", 1),
    "a model's field": (BayesianGMM(2), BayesianGMM(3)),
    "what is closed over": (closed_over(1), closed_over(2)),
    "tensors closed over": (closed_over(torch.zeros(2)), closed_over(torch.ones(2))),
    "one bit of an array": (X, np.nextafter(X, 9)),
    "its dtype": (torch.zeros(2), torch.zeros(2).double()),
    "its shape": (X, X.reshape(2, 3)),
    "an object's attribute": (Guide(1.0), Guide(2.0)),
    "an option that is bound": (partial(pyrometer.svi, lr=0.1), partial(pyrometer.svi, lr=0.2)),
    "a method": (pyrometer.svi, pyrometer.laplace),
    "an optimizer's rate": (Adam({"lr": 0.1}), Adam({"lr": 0.2})),
    "weights of a network": (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
    "classes": (AutoNormal, Guide),
}


@pytest.mark.parametrize("what", PAIRS)
def test_what_differs_is_said_in_other_words(what: str) -> None:
    one, other = PAIRS[what]
    assert said(one) == said(one)
    assert said(one) != said(other)


def test_the_data_are_known_by_every_number_and_name() -> None:
    def digest(x: Any) -> str:
        return digest_of(data_for(BayesianGMM(1), x)[0])

    frame = pyrometer.datasets.load("faithful")
    other = frame.copy()
    other.loc[7, "eruptions"] = np.nextafter(other.loc[7, "eruptions"], 100)
    digests = {digest(frame), digest(other), digest(frame[::-1]), digest(frame.to_numpy()), digest(frame[:-1])}
    assert len(digests) == 5
    assert digest(frame) == digest(frame.copy())


def test_a_job_is_known_by_its_options_and_not_by_its_progress() -> None:
    data, _ = data_for(BayesianGMM(1), "faithful")

    def known(**options: Any) -> dict[str, str]:
        job = partial(pyrometer.svi, x=data, guide="auto_mvn", **{"name": "a", "progress": True, "seed": 0, **options})
        return known_of(job, BayesianGMM(1), data)

    assert known() == known(progress=False) == known(name="b")
    assert known(seed=1) == {**known(), "seed": "1"}
    assert known(lr=0.1) == {**known(), "lr": "0.1"}


ELSEWHERE = """
import sys
sys.path.insert(0, {folder!r})
import test_known as t
print([t.said(value) for pair in list(t.PAIRS.values())[:-2] for value in pair], t.said(t.program()))
"""


def test_another_process_finds_the_same_words() -> None:
    """Whatever the order of its sets, and wherever its objects lie."""
    command = [sys.executable, "-c", ELSEWHERE.format(folder=os.path.dirname(__file__))]
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    there = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    assert there == f"{[said(value) for pair in list(PAIRS.values())[:-2] for value in pair]} {said(program())}\n"
    assert "0x" not in there
