"""The verdicts in a sentence, and advice that follows from what went wrong."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import Comparison, compare
from pyrometer.inference.compare.summary import Step, _of_use
from pyrometer.models.gallery import GALLERY
from torch import Tensor

SCHOOLS = GALLERY["eight_schools-eight_schools_centered"]
BRIEF: dict[str, Any] = {"starts": 1, "warmup": 300, "draws": 500, "chains": 2, "progress": False}
COVARIANCE = torch.tensor([[1.0, 0.95], [0.95, 1.0]]).double()


def correlated(x: Tensor) -> None:
    """Two scalars that the prior ties together and the data hardly part."""
    theta = pyro.sample("theta", dist.MultivariateNormal(torch.zeros(2).double(), COVARIANCE))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(theta.sum(), 5.0), obs=x)


@pytest.fixture(scope="module")
def schools() -> Comparison:
    """A funnel, which no short run gets to the bottom of."""
    return compare(SCHOOLS.model, SCHOOLS.data(), {"normal": "auto_normal"}, steps=300, **BRIEF)


@pytest.fixture(scope="module")
def tied() -> Comparison:
    x = torch.linspace(-1, 1, 20).double()
    return compare(correlated, x, ["auto_normal", "auto_mvn", "auto_delta"], **BRIEF)


def said(steps: list[Step]) -> str:
    return "\n".join(step.what for step in steps)


def test_the_headline_names_every_fit_by_its_verdict(tied: Comparison) -> None:
    tone, sentence = tied.headline()
    assert "means and spreads can be trusted of auto_mvn" in sentence
    assert "means alone can be trusted of auto_normal" in sentence
    assert "auto_delta is a point and no distribution" in sentence
    assert sentence.endswith("held to nuts.")
    assert tone == "good"
    assert sentence in repr(tied)
    assert sentence in tied._repr_html_()


def test_a_reference_that_did_not_converge_is_in_the_headline(schools: Comparison) -> None:
    assert schools.headline().sentence.endswith("; the reference nuts did not converge.")
    assert schools.headline().tone == "bad"


def test_a_lost_correlation_is_named_and_a_guide_with_correlations_offered(tied: Comparison) -> None:
    steps = tied.advice()
    true = COVARIANCE - torch.outer(COVARIANCE.sum(0), COVARIANCE.sum(0)) / (25 / 20 + COVARIANCE.sum())
    expected = (true[0, 1] / true.diagonal().prod().sqrt()).item()
    line = next(step.what for step in steps if "correlates" in step.what)
    words = line.replace(",", "").split()
    assert words[:5] == ["nuts", "correlates", "theta[0]", "and", "theta[1]"]
    np.testing.assert_allclose(float(words[6]), expected, atol=0.15)
    np.testing.assert_allclose(float(words[9].rstrip(":")), 0.0, atol=0.2)
    assert "auto_mvn can be trusted" in said(steps)
    assert steps[0].code == "comparison['auto_mvn'].idata"


def test_a_funnel_is_told_to_be_uncentred_and_the_code_runs(schools: Comparison) -> None:
    step = next(step for step in schools.advice() if "non-centred" in step.what)
    assert "The scale of theta is itself unknown" in step.what
    lines = step.code.replace("pyrometer.compare(noncentred, data)", "noncentred")
    made: dict[str, Any] = {"pyro": pyro, "model": SCHOOLS.model}
    exec(lines, made)
    found = compare(made["noncentred"], SCHOOLS.data(), [], **BRIEF)
    assert (
        found["nuts"].idata["sample_stats"]["diverging"].sum()
        < schools["nuts"].idata["sample_stats"]["diverging"].sum()
    )


def test_training_that_did_not_end_gets_more_steps_and_chains_a_longer_warmup(schools: Comparison) -> None:
    codes = "\n".join(step.code for step in schools.advice())
    assert "{'nuts': partial(pyrometer.nuts, warmup=600, " in codes
    undone = replace(schools["normal"], converged=False, why="far from it")
    table = schools.table.assign(verdict=["not to be trusted", "not trained"])
    fresh = replace(schools, fits={**schools.fits, "normal": undone}, table=table)
    assert "normal was not trained to its end (far from it)" in said(fresh.advice())
    assert "steps=600" in "\n".join(step.code for step in fresh.advice())


def test_starts_that_end_apart_ask_for_more_starts(tied: Comparison) -> None:
    fit = replace(tied["auto_mvn"], start_losses=np.array([10.0, 30.0, np.inf]))
    found = replace(tied, fits={**tied.fits, "auto_mvn": fit}).advice()
    assert "The starts of auto_mvn ended 20 nats apart" in said(found)
    assert "starts=8" in found[-1].code


def test_without_a_reference_nuts_is_offered() -> None:
    x = torch.linspace(-1, 1, 20).double()
    found = compare(correlated, x, ["auto_mvn"], reference=None, **BRIEF)
    assert found.headline().sentence.endswith(", without a reference.")
    assert "NUTS on the same model would settle it" in said(found.advice())


def test_of_rows_the_smallest_gap_is_advised_and_not_the_quickest() -> None:
    words = {"encoder": "means and spreads", "free": "means and spreads", "poor": "means"}
    table = pd.DataFrame({"gap": [0.05, 0.02, 0.01], "seconds": [1.0, 9.0, 0.1]}, index=list(words))
    shown: Any = SimpleNamespace(fits={name: SimpleNamespace(is_mcmc=False) for name in words}, table=table)
    (step,) = _of_use(shown, words)
    assert step.what == "free can be trusted, and has the smallest gap, 0.02 nats a row: use it."
    (step,) = _of_use(SimpleNamespace(fits=shown.fits, table=table[["seconds"]]), words)  # type: ignore[arg-type]
    assert step.what == "encoder can be trusted, and took 1.0 s: use it."
