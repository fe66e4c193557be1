"""Calls of the public functions: a model, data, and options, most of them in order, each now and then odd."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyrometer
import torch
from fuzz.data_of_all_kinds import Given, Several, given_data, several_data
from fuzz.odd_models import FAULTY, MODELS, OF_ROWS, OF_TWO, SOUND
from hypothesis import strategies as st
from pyrometer.models import GMM, BayesianGMM, UnivariateMixture
from torch import Tensor

NUMBERS: list[Any] = [
    None,
    -1,
    0,
    1,
    2,
    1.5,
    0.0,
    np.nan,
    np.inf,
    -np.inf,
    True,
    np.int64(3),
    np.float32(0.5),
    10**18,
    10**400,
]
NUMBERS += [-(2**63), np.array(2), np.array([1, 2]), torch.tensor(2), Decimal("0.1"), 1e-320, 1e300]
WORDS: list[Any] = [
    "",
    "auto",
    "nope",
    "$x_{$",
    "a\nb",
    "n" * 400,
    b"x",
    object,
    pd.NA,
    [],
    {},
    (),
    {1},
    lambda: None,
    1j,
]
ODD = [*NUMBERS, *WORDS]


def wrong_site(x: Tensor, y: Any = None) -> None:
    """A guide of a site that no model has."""
    pyro.sample("nowhere", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def nan_guide(x: Tensor, y: Any = None) -> None:
    """A guide whose param is no number."""
    loc = pyro.param("loc", torch.tensor(float("nan")))
    pyro.sample("loc", dist.Normal(loc, 1.0))
    pyro.sample("scale", dist.LogNormal(loc, 1.0))


def own_guide(x: Tensor, y: Any = None) -> None:
    """A guide of `mean`, sound."""
    pyro.sample("loc", dist.Normal(pyro.param("at", torch.tensor(0.1)), 1.0))
    pyro.sample("scale", dist.LogNormal(pyro.param("log_scale", torch.tensor(0.0)), 0.1))


def failing_factory(model: Any) -> Any:
    """A factory that fails."""
    raise RuntimeError("no guide today")


GUIDES = ["auto_normal"] * 8 + ["auto_mvn", "auto_delta", "auto_laplace", "structured", "mean_field", "encoder", "free"]
ODD_GUIDES = [wrong_site, nan_guide, own_guide, failing_factory, int, *WORDS, None, 3]
SEED, DTYPE = [1, 2**32 - 1], [torch.float32, torch.float64]
COMMON: dict[str, list[Any]] = {"seed": SEED, "dtype": DTYPE, "compile": [False], "name": ["mine"], "draws": [5, 1]}
OPTIONS: dict[str, dict[str, list[Any]]] = {  # name -> values that are in order
    "svi": {
        **COMMON,
        "steps": [5, 1, 50],
        "lr": [0.1, 1e-8, 1e6],
        "starts": [2],
        "batch_size": [1, 4, 100],
        "optimizer": ["Adam", torch.optim.SGD],
        "estimator": ["Trace", "TraceEnum", "Renyi", "TraceGraph", "TraceMeanField", pyro.infer.Trace_ELBO()],
    },
    "nuts": {
        **COMMON,
        "warmup": [1, 5],
        "chains": [2],
        "jobs": [1],
        "target_accept": [0.5],
        "engine": ["pyro", "nutpie"],
        "mass_matrix": ["diagonal", "low_rank"],
    },
    "laplace": {**COMMON, "starts": [2]},
    "pathfinder": {**COMMON, "paths": [2]},
    "dadvi": {**COMMON, "fixed_draws": [2, 6], "max_fixed_draws": [4]},
    "bam": {**COMMON, "batch": [4], "max_steps": [2]},
    "em": {"seed": SEED, "max_steps": [1], "tol": [0.1], "starts": [2], "floor": [1e-3], "on_collapse": ["refuse"]},
    "cavi": {"seed": SEED, "max_steps": [1], "tol": [0.1], "starts": [2], "draws": [5, 1], "name": ["mine"]},
    "train": {
        **{name: values for name, values in COMMON.items() if name != "dtype"},
        "epochs": [2],
        "batch_size": [1, 5],
        "lr": [0.1, 1e6],
        "warmup": [1],
        "patience": [1],
        "binarize": ["fixed"],
        "estimator": ["Trace", "IWAE"],
    },
    "compare": {
        **{name: values for name, values in COMMON.items() if name != "name"},
        "steps": [5],
        "methods": [["svi", "laplace"], "svi", ["em"], ["cavi"], []],
        "reference": ["nuts", "auto_normal", "laplace"],
        "batch_size": [4],
        "rows": [1, [0, 1]],
        "var_names": [["loc"], "loc"],
        "chains": [2],
        "jobs": [1],
    },
    "choose_components": {"components": [[1], [2, 1], range(1, 3)], "folds": [2], "seed": SEED, "draws": [5]},
    "calibrate": {"seed": SEED, "dtype": DTYPE, "draws": [9]},
}
BRIEF: dict[str, dict[str, Any]] = {
    "svi": {"steps": 5, "draws": 5, "compile": False},
    "nuts": {"warmup": 5, "draws": 5, "chains": 1, "compile": False},
    "laplace": {"draws": 5, "starts": 1, "compile": False},
    "pathfinder": {"draws": 5, "paths": 1, "compile": False},
    "dadvi": {"draws": 5, "fixed_draws": 4, "max_fixed_draws": 4, "compile": False},
    "bam": {"draws": 5, "batch": 4, "max_steps": 5, "compile": False},
    "em": {"starts": 1, "max_steps": 20},
    "cavi": {"starts": 1, "max_steps": 20, "draws": 5},
    "train": {"epochs": 1, "draws": 3, "compile": False},
    "compare": {"steps": 5, "draws": 5, "warmup": 5, "chains": 1, "starts": 1, "compile": False, "reference": None},
    "choose_components": {"components": [1, 2], "starts": 1, "draws": 5, "folds": 0},
    "calibrate": {"simulations": 50, "draws": 9},
}
OFTEN = ["svi"] * 6 + ["laplace", "em", "cavi", "train", "compare"] * 3 + ["nuts"] * 2
OFTEN += ["pathfinder", "dadvi", "bam", "choose_components", "calibrate"]
EAGER = ["nuts", "pathfinder", "dadvi", "bam"]  # which ask for many gradients, one by one
LONG = {"calibrate": "simulations", "dadvi": "fixed_draws", "bam": "batch"}  # an option each, that is to be odd
QUICK = ["mean", "counts", "normal_mixture", "masked", "no_plate", "leaves_a_param"]
MIXTURES: list[Any] = [GMM, BayesianGMM, UnivariateMixture, BayesianGMM(2, covariance="diagonal")]


@dataclass(frozen=True)
class Call:
    """A public function, what it is given, and what is asked of the result. then: name -> argument."""

    function: str
    model: str
    guide: Any
    x: Given | Several
    x_test: Given | Several | None
    options: Mapping[str, Any]
    then: tuple[tuple[str, Any], ...]

    def run(self) -> Any:
        """The result, after everything was asked of it."""
        options = {**BRIEF[self.function], "progress": False, **self.options}
        if self.x_test is not None:
            options["x_test"] = self.x_test.made()
        function, x = getattr(pyrometer, self.function), self.x.made()
        if self.function == "choose_components":
            found = function(x, options.pop("components"), MIXTURES[len(self.model) % len(MIXTURES)], **options)
        elif self.function in ("svi", "train", "calibrate", "compare"):
            second, third = (self.guide, x) if self.function not in ("compare",) else (x, self.guide)
            found = function(MODELS[self.model](), second, third, **options)
        else:
            found = function(MODELS[self.model](), x, **options)
        for name, argument in self.then:
            AFTER[name](found, argument, self.model)
        return found


def _new_rows(method: str, found: Any, argument: Any, model: str) -> None:
    if isinstance(found, pyrometer.Fit):
        getattr(found, method)(argument.made() if isinstance(argument, Given | Several) else argument)


def _saved(found: Any, argument: Any, model: str) -> None:
    if not isinstance(found, pyrometer.Fit | pyrometer.Comparison):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / argument if isinstance(argument, str) else argument
        found.save(path)
        again = pyrometer.load(path, MODELS[model]())
        assert type(again) is type(found)
        if isinstance(found, pyrometer.Fit) and isinstance(again, pyrometer.Fit):
            assert found.posterior.equals(again.posterior)


def _shown(found: Any, argument: Any, model: str) -> None:
    assert repr(found)
    assert found._repr_html_()
    if isinstance(found, pyrometer.Comparison):
        found.advice()


AFTER: dict[str, Callable[[Any, Any, str], None]] = {
    **{name: partial(_new_rows, name) for name in ("log_predictive", "predict", "responsibilities")},
    "posterior_predictive": partial(_new_rows, "posterior_predictive"),
    "prior_predictive": partial(_new_rows, "prior_predictive"),
    "sample": partial(_new_rows, "sample"),
    "save and load": _saved,
    "show": _shown,
}


@st.composite
def api_calls(draw: st.DrawFn) -> Call:
    """One call: half of them with nothing odd in the options, half with sound models, most data in order."""
    function = draw(st.sampled_from(OFTEN))
    own: list[str] = {"em": ["GMM"], "cavi": ["BayesianGMM", "UnivariateMixture"], "train": list(OF_ROWS)}.get(
        function, []
    )
    kind = draw(st.sampled_from(["sound"] * 5 + ["two"] * 2 + ["faulty"] * 4 + ["rows"]))
    known = {
        "sound": QUICK if function in EAGER else [*QUICK * 3, *SOUND],
        "two": OF_TWO,
        "faulty": FAULTY,
        "rows": OF_ROWS,
    }[kind]
    model = draw(st.sampled_from(own if own and draw(st.sampled_from([True] * 5 + [False])) else list(known)))
    data = (
        several_data(("x", "labels" if model == "LabelledVAE" else "y"))
        if model in OF_TWO or "Label" in model
        else _x(model)
    )
    guide = draw(st.sampled_from([*GUIDES, *GUIDES, *GUIDES, *ODD_GUIDES]))
    if function == "train" and isinstance(guide, str) and guide == "auto_normal":
        guide = "encoder"
    if function == "compare" and draw(st.booleans()):
        guide = draw(
            st.sampled_from([[guide], {"mine": guide}, [], None, ["auto_normal", "auto_delta"], {"a\nb": guide}])
        )
    tests = function in ("compare", "train", "choose_components") and draw(st.booleans())
    options = draw(_options(function))
    then = draw(st.lists(_after(data), max_size=2))
    return Call(function, model, guide, draw(data), draw(data) if tests else None, options, tuple(then))


def _x(model: str) -> st.SearchStrategy[Any]:
    """Data for a model of one argument."""
    columns = {"UnivariateMixture": 1, "normal_mixture": 1, "CorrelatedGaussian": 2}.get(model)
    plain = Given("vector" if columns == 1 or model in FAULTY else "frame", (12, columns or 2), 3)
    return st.just(plain) | given_data(columns)


@st.composite
def _options(draw: st.DrawFn, function: str) -> dict[str, Any]:
    """Up to three options, half of the time none."""
    found = {}
    if function in LONG:  # where they are in order
        found[LONG[function]] = draw(st.sampled_from([-1, *ODD]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
        name = draw(st.sampled_from(sorted(OPTIONS[function])))
        good = OPTIONS[function][name]
        found[name] = draw(st.sampled_from(good) if draw(st.booleans()) else st.sampled_from(ODD))
    return found


@st.composite
def _after(draw: st.DrawFn, data: st.SearchStrategy[Any]) -> tuple[str, Any]:
    """Something to be asked of a fit."""
    name = draw(st.sampled_from(sorted(AFTER)))
    if name in ("log_predictive", "predict", "responsibilities", "posterior_predictive"):
        return name, draw(data)
    if name == "save and load":
        return name, draw(st.sampled_from(["out", "out", "a/b", "größe", "", "n" * 300, None, 3, "a\nb"]))
    return name, draw(st.sampled_from([1, 3, 5, *NUMBERS]))
