"""Whatever is handed in, bad input ends in one line, before the work where that can be known; odd input works."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from agreement import one_line
from fuzz.odd_models import Late, LateNaN, branching, growing, nothing_latent, only_discrete
from programs import X, Y, regression
from pyrometer import Fit, InputError
from pyrometer.errors import check_memory
from pyrometer.inference.cli.main import main
from pyrometer.inference.data.outliers import outliers
from pyrometer.models import GMM, VAE, BayesianGMM
from torch import Tensor
from truths import data_of, two_clusters

pytestmark = pytest.mark.filterwarnings("ignore")  # fitted for no more than a moment
CLUSTERS, LARGEST, TOO_MANY = two_clusters(30), 2**32 - 1, 10**18
ROWS = CLUSTERS[:, 0]
BRIEF: dict[str, Any] = {"draws": 20, "progress": False}
CHAINS: dict[str, Any] = {"warmup": 20, "draws": 20, "chains": 2, "progress": False}


def svi(model: Any = regression, x: Any = (X, Y), **options: Any) -> Fit:
    return pyrometer.svi(model, "auto_normal", x, **{**BRIEF, "steps": 50, "compile": False, **options})


def nuts(model: Any = regression, x: Any = (X, Y), **options: Any) -> Fit:
    return pyrometer.nuts(model, x, **{**CHAINS, "compile": False, **options})


def laplace(model: Any = regression, x: Any = (X, Y), **options: Any) -> Fit:
    return pyrometer.laplace(model, x, **{**BRIEF, **options})


def dadvi(model: Any = regression, x: Any = (X, Y), **options: Any) -> Fit:
    return pyrometer.dadvi(model, x, **{**BRIEF, **options})


def em(x: Any = CLUSTERS, **options: Any) -> Fit:
    return pyrometer.em(GMM(2), x, progress=False, **options)


def cavi(x: Any = CLUSTERS, **options: Any) -> Fit:
    return pyrometer.cavi(BayesianGMM(2), x, **{**BRIEF, **options})


def train(model: Any = None, **options: Any) -> Fit:
    model = model or VAE(2, hidden=(4,))
    return pyrometer.train(model, "encoder", CLUSTERS, epochs=1, **{**BRIEF, "x_test": CLUSTERS[:5], **options})


def compare(model: Any = regression, x: Any = (X, Y), guides: Any = ("auto_normal",), **options: Any) -> Any:
    return pyrometer.compare(model, x, guides, **{**CHAINS, "steps": 20, "starts": 1, "compile": False, **options})


SEEDED: dict[str, Callable[..., Any]] = {
    "svi": svi,
    "nuts": nuts,
    "laplace": laplace,
    "em": em,
    "cavi": cavi,
    "train": train,
    "compare": partial(compare, reference=None),
    "choose_components": lambda **seed: pyrometer.choose_components(
        CLUSTERS, [1], starts=1, draws=20, folds=0, progress=False, **seed
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_is_a_whole_number_of_any_kind_up_to_the_largest(name: str) -> None:
    call = SEEDED[name]
    for seed in (-1, LARGEST + 1, 1.5, "a", None):
        with pytest.raises(InputError, match=r"seed=.* must be a whole number from 0 to 4294967295") as caught:
            call(seed=seed)
        one_line(caught)
    call(seed=LARGEST)
    found, same = call(seed=np.int64(3)), call(seed=3)
    call(seed=torch.tensor(3))
    if isinstance(found, Fit):
        for site, draws in found.posterior.items():
            np.testing.assert_array_equal(draws.values, same.posterior[site].values)


def test_an_autoguide_of_discrete_sites_alone_is_refused() -> None:
    for call in (svi, partial(compare, reference=None)):
        with pytest.raises(
            InputError, match="guide auto_normal is of these alone: there is nothing to train"
        ) as caught:
            call(only_discrete, ROWS)
        one_line(caught)


def test_a_prediction_of_no_number_of_draws_is_refused() -> None:
    fit = laplace()
    calls: list[Callable[..., Any]] = [fit.prior_predictive, fit.sample]
    for call in calls:
        for number in (-1, 10**400, 1.5, None, TOO_MANY):
            with pytest.raises(InputError, match=r"(n|draws)=.* (must be a whole number|is too large)"):
                call(number)


def of_rows(x: Tensor, y: Any = None) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Poisson(loc.exp()), obs=x if y is None else y)


@pytest.mark.parametrize("method", [svi, nuts, laplace, compare])
def test_an_observation_that_its_distribution_cannot_score_is_refused_by_its_site(method: Callable[..., Any]) -> None:
    for x, message in (
        (CLUSTERS, "site 'y' observes values of shape (30, 2), and its distribution is of (30,): give it data of that"),
        (
            ROWS[:, None],
            "site 'y' has densities of shape (30, 30), and its plates do not declare dim -2: hand in a vec",
        ),
        ((ROWS, 3.0), "site 'y' observes a float: hand in an array"),
    ):
        with pytest.raises(InputError) as caught:
            method(of_rows, x)
        assert message in one_line(caught)


def test_a_density_that_changes_is_refused_by_what_it_is() -> None:
    refused = []
    for runs in (8, 10, 12, 14, 16, 18):
        with pytest.raises(InputError) as caught:
            nuts(LateNaN(runs), ROWS, compile=False)
        refused.append(one_line(caught))
    assert any("let the model give the same density for the same values" in line for line in refused), refused


@pytest.mark.parametrize("method", [svi, nuts, laplace, compare])
def test_what_is_no_model_to_fit_is_refused_at_once(method: Callable[..., Any]) -> None:
    for model, message in (
        (nothing_latent, "model nothing_latent has no latent site and no param: there is nothing to fit"),
        (branching, "site 'more' of model branching is there, or of its shape, in some runs only"),
        (growing, "site 'loc' of model growing is there, or of its shape, in some runs only"),
    ):
        with pytest.raises(InputError) as caught:
            method(model, ROWS)
        assert message in one_line(caught)


@pytest.mark.parametrize("method", [compare, nuts, svi, laplace])
def test_data_in_the_place_of_the_model_are_refused(method: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="model is a DataFrame, which cannot be called"):
        method(pd.DataFrame({"x": [1.0, 2.0]}), regression)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (svi, KeyError("out of paper")),
        (nuts, RuntimeError("out of\npaper")),
        (nuts, KeyError("out of paper")),
        (laplace, RuntimeError("out of\npaper")),
        (compare, KeyError("out of paper")),
    ],
)
def test_a_model_that_raises_late_ends_in_one_line_that_says_what_it_raised(
    method: Callable[..., Any], error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    for runs in (3, 12, 60)[: 2 if method is laplace else 3]:  # which looks at the model a few times only
        with pytest.raises(InputError, match=r"fails.*(KeyError|RuntimeError)") as caught:
            method(Late(runs, error), ROWS, compile=False)
        one_line(caught)
    assert "panicked" not in capfd.readouterr().err


def test_a_model_that_raises_in_the_middle_of_a_training_costs_no_step_before() -> None:
    """The message names the step and what was raised; what could be done with the model then is refused."""
    with pytest.warns(UserWarning, match=r"step [0-9]+ failed, KeyError: 'out of paper'"), pytest.raises(InputError):
        svi(Late(150, KeyError("out of paper")), ROWS, steps=400)


def test_a_bug_in_our_own_code_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pyrometer.inference.svi.svi.begin_shared", broken)
    with pytest.raises(ZeroDivisionError):
        svi()


NONE: list[tuple[Callable[..., Any], str]] = [
    (svi, "draws"),
    (svi, "starts"),
    (svi, "steps"),
    (nuts, "warmup"),
    (nuts, "chains"),
    (nuts, "draws"),
]
NONE += [(laplace, "draws"), (laplace, "starts"), (em, "max_steps"), (cavi, "starts"), (train, "draws")]
NONE += [(train, "warmup"), (compare, "warmup"), (dadvi, "max_fixed_draws")]
REFUSED: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "no methods": (compare, {"methods": []}, "methods is empty: name one of svi, nuts"),
    "guides without svi": (compare, {"methods": ["nuts"]}, "methods leaves out svi"),
    "no jobs": (compare, {"jobs": 0}, "jobs=0 must be a whole number, 1 or more"),
    "half a job": (compare, {"jobs": 1.5}, "jobs=1.5 must be a whole number"),
    "no jobs of nuts": (nuts, {"jobs": 0}, "jobs=0 must be"),
    "a rate that is none": (compare, {"lr": math.nan}, "lr=nan must be a number above 0"),
    "an infinite rate": (svi, {"lr": math.inf}, "lr=inf must be a number above 0"),
    "a rate of zero": (train, {"lr": 0.0}, "lr=0.0 must be a number above 0"),
    "a rate in words": (svi, {"lr": "fast"}, "lr='fast' must be a number above 0"),
    "target_accept=2": (nuts, {"target_accept": 2}, "target_accept=2 must be a number between 0 and 1"),
    "no target": (nuts, {"target_accept": math.nan}, "target_accept=nan must be"),
    "an estimator": (compare, {"estimator": "Guess"}, "estimator='Guess' is unknown"),
    "an optimizer": (compare, {"optimizer": "Guess"}, "optimizer='Guess' is unknown"),
    "compile": (compare, {"compile": "yes"}, "compile='yes' is unknown"),
    "a batch that the model does not take": (compare, {"batch_size": 5}, "regression takes no batch_size"),
    "a reference of another model": (compare, {"reference": "em"}, "em fits a GMM, not regression"),
    "half precision": (compare, {"dtype": torch.float16}, "dtype=torch.float16 cannot be computed in"),
    "a precision in words": (svi, {"dtype": "float32"}, "dtype=float32 cannot be computed in"),
    "a VAE in half precision": (train, {"model": VAE(2, dtype=torch.float16)}, "x is to be in torch.float16"),
    "a VAE in whole numbers": (train, {"model": VAE(2, dtype=torch.int64)}, "x is to be in torch.int64"),
    **{
        f"no {name}, {call.__name__}": (call, {name: None}, f"{name}=None must be a whole number")
        for call, name in NONE
    },
    "an array for a word": (nuts, {"engine": np.ones(2)}, "engine=array([1., 1.]) is unknown"),
    "NA for a word": (svi, {"compile": pd.NA}, "compile=<NA> is unknown"),
    "an array for an optimizer": (svi, {"optimizer": np.ones(2)}, "optimizer=array([1., 1.]) is unknown"),
    "an array for a dtype": (laplace, {"dtype": np.ones(2)}, "cannot be computed in"),
    "a list of a reference": (compare, {"reference": ["nuts"]}, "reference=['nuts'] is not one of"),
    "a number of methods": (compare, {"methods": 3}, "methods=3 is no list: name some of svi"),
    "a tensor of methods": (compare, {"methods": torch.tensor(2)}, "methods=tensor(2) is no list"),
    "a number of names": (compare, {"var_names": 3}, "var_names=3 is no list of names: choose from beta"),
    "a class for a model": (
        laplace,
        {"model": BayesianGMM},
        "BayesianGMM is a class: give one of it, BayesianGMM(...)",
    ),
    "no tolerance": (em, {"tol": None}, "tol=None must be 0 or more"),
    "no floor": (em, {"floor": None}, "floor=None must lie between 0 and 1"),
    "patience": (train, {"patience": 0}, "patience=0 must be"),
    **{
        f"too many draws of {call.__name__}": (call, {"draws": TOO_MANY}, "draws=1e+18 is too large")
        for call in (svi, nuts, laplace, cavi, train, compare)
    },
    **{
        f"a number for the name of {call.__name__}": (call, {"name": -1}, "name=-1 must be text")
        for call in (svi, nuts, laplace, dadvi, em, cavi, train)
    },
    "too many chains": (compare, {"chains": TOO_MANY}, "chains=1e+18 is too large"),
    "too many steps": (em, {"max_steps": TOO_MANY}, "max_steps=1e+18 is too large"),
    "more draws than memory": (svi, {"draws": 10**9, "model": partial(BayesianGMM(8)), "x": CLUSTERS}, "ask for fewer"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_option_that_cannot_be_is_refused_before_the_work(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call, options, message = REFUSED[what]
    for name in ("mcmc.nuts.run_chains", "svi.svi.begin_shared", "svi.train.begin_shared", "closed_form.ascent.ascend"):
        monkeypatch.setattr(f"pyrometer.inference.{name}", lambda *_, **__: pytest.fail("it was fitting"))
    with pytest.raises(InputError) as caught:
        call(**options)
    assert message in one_line(caught)


def test_memory_is_counted_in_bytes_of_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrometer.errors._memory", lambda: 8000)
    check_memory(10, draws=100)
    with pytest.raises(InputError, match=r"draws=101 of 10 numbers take .* ask for fewer"):
        check_memory(10, draws=101)


def test_numbers_beyond_all_floats_are_refused_as_well() -> None:
    for call in (partial(nuts, draws=10**400), partial(svi, lr=10**400), partial(em, seed=10**400)):
        with pytest.raises(InputError) as caught:
            call()
        one_line(caught)


def test_no_guides_is_the_reference_alone() -> None:
    assert list(compare(guides={})) == list(compare(guides=[])) == ["nuts"]


HUGE = ROWS.clone()
HUGE[3] = 1e200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(svi, x=(X, torch.where(torch.arange(24) == 3, 1e200, Y))), "y, row 3: 1e+200 is too large"),
        (partial(nuts, x=(X * 1e200, Y)), "is too large to compute with in torch.float64; rescale"),
        (partial(em, x=torch.stack([ROWS, HUGE], 1)), "x: column 'x1', row 3: 1e+200 is too large"),
        (partial(em, x=torch.stack([ROWS, -HUGE], 1)), "x: column 'x1', row 3: -1e+200 is too large"),
        (partial(cavi, x=torch.stack([ROWS, 1e-200 * ROWS], 1)), "x: column 'x1': numbers that lie 8.55e-200"),
        (partial(svi, x=(X, 1e-180 * Y)), "apart are too alike to compute with in torch.float64; rescale the column"),
        (partial(cavi, x=pd.DataFrame({"a": HUGE, "b": ROWS})), "x: column 'a', row 3: 1e+200 is too large"),
        (partial(compare, x_test=(X, Y * 1e200)), "y, row 0"),
        (partial(compare, x=(X, Y * 1e30), dtype=torch.float32), "is too large to compute with in torch.float32"),
    ],
)
def test_a_value_whose_square_is_no_number_is_refused_by_its_place(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in one_line(caught)


def test_a_lone_outlier_is_named_in_the_notes_and_what_is_wide_is_not() -> None:
    table = pd.DataFrame({"a": ROWS.numpy(), "b": CLUSTERS[:, 1].numpy()})
    table.loc[17, "b"] = 1e8
    found = pyrometer.compare(GMM(1), table, reference=None, methods=["em"], progress=False)
    (note,) = [note for note in found.notes if "slip" in note]
    assert note.startswith("x: column 'b', row 17 is 1e+08, ")
    assert not list(outliers(data_of(CLUSTERS)))
    wide = torch.tensor(np.random.default_rng(0).standard_cauchy(300))
    assert not list(outliers(data_of(wide)))
    assert not list(outliers(data_of(torch.eye(20).double())))  # one of twenty is no slip
    missing = torch.cat([ROWS, torch.tensor([math.nan, 1e8, math.nan]).double()])
    assert [line.split(",")[1] for line in outliers(data_of(missing))] == [" row 31 is 1e+08"]
    low = torch.cat([torch.tensor([-1e8]).double(), ROWS])
    assert [line.split(",")[1] for line in outliers(data_of(low))] == [" row 0 is -1e+08"]


PATHS = {"x" * 300: "file name too long", "~nouser/x": "could not determine home directory", "a\0b": "null byte"}


@pytest.mark.parametrize("path", PATHS, ids=["long", "no user", "a NUL"])
def test_what_cannot_be_a_path_is_one_line(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = em()
    for call in (
        partial(pyrometer.datasets.load, f"{path}.csv"),
        partial(pyrometer.datasets.load, Path(f"{path}.txt")),
        partial(svi, BayesianGMM(2), f"{path}.parquet"),
        partial(fit.save, path),
        partial(pyrometer.load, path, GMM(2)),
        partial(train, checkpoint=path),
    ):
        with pytest.raises(InputError, match="cannot be a path") as caught:
            call()
        assert PATHS[path] in one_line(caught)
    for arguments in (["compare", f"{path}.csv"], ["compare", "faithful", "--out", path], ["train", path]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert PATHS[path] in error


def test_names_that_are_not_utf_8_are_read_written_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "\udcff.csv", tmp_path / "\udcfe"
    pyrometer.datasets.load("faithful")[:40].to_csv(data, index=False)
    em_alone = ["--model", "gmm", "--methods", "em", "--reference", "none", "--quiet"]
    assert main(["compare", str(data), *em_alone, "--out", str(out)]) == 0
    assert {"em.nc", "table.csv"} <= {path.name for path in out.iterdir()}
    data.write_bytes("größe,höhe\n1,2\n2,3\n".encode("latin-1"))
    capsys.readouterr()
    for path in (data, tmp_path / "\udcfd.csv"):
        assert main(["compare", str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    for name in ("\udcff", "", 1, "a\nb"):
        with pytest.raises(InputError, match="give it a name of printable text") as caught:
            compare(guides={name: "auto_normal"})
        one_line(caught)


def test_columns_whose_names_are_no_formula_cost_neither_table_nor_picture(tmp_path: Path) -> None:
    names = ["$x_{$", r"$\frac{$", "a$b$", "a\nb"]
    wide = torch.cat([CLUSTERS, CLUSTERS.flip(0)], 1) + torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    found = pyrometer.compare(
        BayesianGMM(2),
        pd.DataFrame(wide.numpy(), columns=names),
        ["structured"],
        reference=None,
        steps=30,
        starts=1,
        **BRIEF,
    )
    written = {path.name for path in found.save(tmp_path)}
    assert {"table.csv", "comparison.png", "fit.png", "forest.png", "comparison.json"} <= written
    text = (tmp_path / "notes.txt").read_text() if "notes.txt" in written else ""
    assert ".png" not in text
    found.plot().savefig(tmp_path / "again.png")
    plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "em"], "em fits a GMM, not BayesianGMM"),
        (["--checkpoint", "somewhere"], "--checkpoint is for --model vae or sequence-vae, not bayesian-gmm"),
        (["--methods", "em"], "em fits a GMM, not BayesianGMM"),
        (["--draws", str(TOO_MANY)], "draws=1e+18 is too large"),
    ],
)
def test_what_the_command_line_would_have_ignored_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "faithful", "--quiet", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("model", ["gmm", "bayesian-gmm"])
def test_the_largest_seed_runs_on_the_command_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    method = "em" if model == "gmm" else "cavi"
    options = [
        "--model",
        model,
        "--methods",
        method,
        "--reference",
        "none",
        "--quiet",
        "--seed",
        str(LARGEST),
        "--draws",
        "20",
    ]
    assert main(["compare", "faithful", *options, "--seed", str(LARGEST)]) == 0
    assert "skipped" not in capsys.readouterr().out
