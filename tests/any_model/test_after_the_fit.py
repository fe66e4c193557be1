"""After the fit, for every model: predictive draws, new rows, states decoded, save and load."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import answers
import arviz as az
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import programs
import pyrometer
import pytest
import torch
from agreement import BRIEF, CHAINS, FAR, TRAINING, one_line
from programs import (
    ANSWERS,
    COUNTS,
    DOSES,
    EGGS,
    FRAME,
    LENGTHS,
    NOISE,
    PLACES,
    PRIOR,
    SERIES,
    X_NEW,
    Y_NEW,
    X,
    Y,
)
from pyrometer import Comparison, Fit, InputError, compare, nuts, svi
from pyrometer.inference.runtime.arviz import groups_of

mpl.use("Agg")
LINEAR = answers.independent(X)
PREDICTED = answers.independent(X_NEW).predictive(LINEAR, Y)
DRAWS = 500


@pytest.fixture(autouse=True)
def _no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def regression() -> Fit:
    return nuts(programs.regression, (X, Y), **{**CHAINS, "draws": DRAWS})


def drawn(idata: az.InferenceData, group: str, name: str) -> np.ndarray:
    """Predictive draws end to end: (S, N)."""
    values = idata[group][name].values
    return values.reshape(-1, *values.shape[2:])


# Predictive draws


def test_posterior_predictive_draws_have_the_exact_moments_at_new_rows(regression: Fit) -> None:
    for rows in ((X_NEW, Y_NEW), (X_NEW, torch.zeros_like(Y_NEW))):  # what was observed there is of no account
        found = drawn(regression.posterior_predictive(rows), "posterior_predictive", "y")
        assert found.shape == (2 * DRAWS, len(X_NEW))
        error = FAR * PREDICTED.stddev.numpy() / np.sqrt(DRAWS)  # half the draws, for what the chains repeat
        assert (np.abs(found.mean(0) - PREDICTED.mean.numpy()) < error).all()
        assert (np.abs(found.std(0) - PREDICTED.stddev.numpy()) < error).all()


def test_rows_whose_outcome_is_not_known_are_predicted() -> None:
    fit = svi(programs.forecast, "auto_mvn", {"X": X, "y": Y}, **TRAINING)
    found = drawn(fit.posterior_predictive({"X": X_NEW}), "posterior_predictive", "y")
    assert found.shape[1] == len(X_NEW)
    np.testing.assert_allclose(found.mean(0), PREDICTED.mean, atol=0.3)


def test_prior_predictive_draws_have_the_priors_moments(regression: Fit) -> None:
    found = drawn(regression.prior_predictive(), "prior_predictive", "y")
    sd = LINEAR.marginal().stddev.numpy()
    error = FAR * sd / np.sqrt(len(found))
    assert (np.abs(found.mean(0)) < error).all()
    assert (np.abs(found.std(0) - sd) < error).all()
    assert sd.max() > PRIOR


MODELS: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "regression": (programs.regression, (X, Y), "y"),
    "groups": (programs.by_group, FRAME, "earnings"),
    "gaussian_process": (programs.gaussian_process, (PLACES, COUNTS), "counts"),
    "two_sites": (programs.two_sites, {"length": LENGTHS, "eggs": EGGS}, "eggs"),
    "random_effects": (programs.random_effects, (DOSES, ANSWERS), "answers"),
}


@pytest.mark.parametrize("which", list(MODELS))
def test_arviz_plots_the_predictive_draws_of_every_model(which: str) -> None:
    model, data, name = MODELS[which]
    fit = svi(model, "auto_normal", data, **{**TRAINING, "steps": 100, "draws": 60})
    posterior, prior = fit.posterior_predictive(), fit.prior_predictive()
    observed = np.asarray(posterior["observed_data"][name])
    assert posterior["posterior_predictive"][name].shape[2:] == observed.shape
    az.plot_ppc(posterior, var_names=[name], num_pp_samples=10)
    az.plot_ppc(prior, group="prior", var_names=[name], num_pp_samples=10)


def test_the_same_seed_gives_the_same_predictive_draws(regression: Fit) -> None:
    draws = [drawn(regression.posterior_predictive(seed=seed), "posterior_predictive", "y") for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize("number", [1, 400])
def test_a_regression_gives_new_rows(regression: Fit, number: int) -> None:
    """Each row has covariates of the data, whose mix is theirs, and an outcome from the posterior predictive."""
    found = regression.sample(number)
    assert len(found) == number
    y = found["y"].to_numpy()
    posterior = LINEAR.posterior(Y)
    centre = float((X @ posterior.mean).mean())
    spread = (X @ posterior.covariance_matrix * X).sum(1).mean() + (X @ posterior.mean).var(correction=0) + NOISE**2
    assert abs(y.mean() - centre) < FAR * float(spread.sqrt()) / np.sqrt(number)


def test_new_rows_of_two_sites_have_both(regression: Fit) -> None:
    fit = svi(programs.two_sites, "auto_normal", {"length": LENGTHS, "eggs": EGGS}, **{**TRAINING, "steps": 300})
    found = fit.sample(300)
    assert {"length", "eggs"} <= set(found.columns)
    assert np.corrcoef(found["length"], found["eggs"])[0, 1] > 0.5  # one hidden kind made both
    assert (found["eggs"] >= 0).all()


# Discrete sites


def decoded(fit: Fit) -> list[int]:
    """The states in the order of the sites z_0, z_1, ..."""
    found: Any = fit.predict()
    if isinstance(found, pd.Series) and all(isinstance(name, str) for name in found.index):
        found = found[[f"z_{t}" for t in range(len(SERIES))]]
    return np.asarray(found).reshape(-1).astype(int).tolist()


@pytest.mark.parametrize("method", ["nuts", "svi"])
def test_a_markov_chains_states_are_decoded_together(method: str) -> None:
    truth = answers.viterbi(SERIES, answers.hmm_moments(SERIES).mean)
    if method == "nuts":
        fit = nuts(programs.hmm, SERIES, **{**CHAINS, "warmup": 100, "draws": 100})
    else:
        fit = svi(programs.hmm, "auto_normal", SERIES, **{**TRAINING, "steps": 300, "lr": 0.05, "draws": 100})
    assert decoded(fit) == truth


def test_a_hidden_kind_of_two_sites_is_predicted_from_both() -> None:
    fit = nuts(programs.two_sites, {"length": LENGTHS, "eggs": EGGS}, **{**CHAINS, "draws": 200})
    assert np.asarray(fit.predict()).tolist() == [0] * 9 + [1] * 15
    new = {"length": torch.tensor([-3.0, 3.0]).double(), "eggs": torch.tensor([0.0, 9.0]).double()}
    assert np.asarray(fit.predict(new)).tolist() == [0, 1]


# Save and load


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once called, nothing is unpickled any more."""

    def refuses(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something was unpickled")

    def start() -> None:
        for name in ("load", "loads"):
            monkeypatch.setattr(pickle, name, refuses)

    return start


def is_pickled(path: Path) -> bool:
    """Whether a file is a pickle, or holds one that needs more than weights to be read."""
    if zipfile.is_zipfile(path):
        torch.load(path, weights_only=True)  # raises where it holds anything but numbers and names
        return False
    head = path.read_bytes()[:2]
    return path.suffix in (".pkl", ".pickle") or (
        head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")
    )


def saved(path: Path) -> list[Path]:
    """Every file below a path, or the file itself."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def same(again: Fit, fit: Fit) -> None:
    """Every number of one fit is in the other."""
    assert (again.name, again.estimator, again.steps, again.message) == (
        fit.name,
        fit.estimator,
        fit.steps,
        fit.message,
    )
    assert again.data.equals(fit.data)
    assert groups_of(again.idata).keys() == groups_of(fit.idata).keys()
    for name, values in fit.idata["posterior"].data_vars.items():
        np.testing.assert_array_equal(again.idata["posterior"][name], values)
        assert again.idata["posterior"][name].dims == values.dims
    for field in ("losses", "elbo_draws", "log_weights", "in_pivot", "start_losses"):
        np.testing.assert_array_equal(getattr(again, field), getattr(fit, field))
    assert set(again.params) == set(fit.params)
    for key, value in fit.params.items():
        torch.testing.assert_close(again.params[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("which", ["auto_mvn", "nuts", "groups", "pca"])
def test_a_fit_is_had_back_from_disk_without_a_pickle(
    which: str, tmp_path: Path, no_pickle: Callable[[], None]
) -> None:
    short = {**TRAINING, "steps": 60, "draws": 50}
    if which == "nuts":
        model: Any = programs.regression
        new: Any = (X_NEW, Y_NEW)
        fit = nuts(model, (X, Y), **{**CHAINS, "warmup": 50, "draws": 50})
    elif which == "auto_mvn":
        model = programs.regression
        fit, new = svi(model, "auto_mvn", (X, Y), **short), (X_NEW, Y_NEW)
    elif which == "groups":
        model = programs.by_group
        fit, new = svi(model, "auto_normal", FRAME, **short), programs.FRAME_NEW
    else:
        model = programs.pca
        fit, new = svi(model, "auto_normal", programs.POINTS, **short), programs.POINTS_NEW
    fit.save(tmp_path / "fit")
    files = saved(tmp_path / "fit")
    assert files
    assert not [file for file in files if is_pickled(file)]
    no_pickle()
    again = pyrometer.load(tmp_path / "fit", model)
    assert isinstance(again, Fit)
    same(again, fit)
    np.testing.assert_allclose(again.log_predictive(), fit.log_predictive())
    np.testing.assert_allclose(again.log_predictive(new), fit.log_predictive(new))


def test_a_comparison_is_had_back_from_disk_without_a_pickle(tmp_path: Path, no_pickle: Callable[[], None]) -> None:
    brief = {**BRIEF, "steps": 60, "draws": 60, "warmup": 60}
    model = programs.regression
    found = compare(model, (X, Y), {"normal": "auto_normal", "mvn": "auto_mvn"}, x_test=(X_NEW, Y_NEW), **brief)
    found.save(tmp_path / "results")
    assert not [file for file in saved(tmp_path / "results") if is_pickled(file)]
    no_pickle()
    again = pyrometer.load(tmp_path / "results", model)
    assert isinstance(again, Comparison)
    pd.testing.assert_frame_equal(again.table, found.table, check_dtype=False, check_names=False)
    assert list(again) == list(found)
    assert (again.reference, again.notes, again.skipped) == (found.reference, found.notes, found.skipped)
    for name in found:
        same(again[name], found[name])
    assert len(again.add({"later": again["mvn"]})) == len(found) + 1  # it is as good as the first


def test_a_fit_whose_name_is_a_number_is_had_back_and_a_lost_file_is_named(tmp_path: Path) -> None:
    fit = svi(programs.regression, "auto_normal", (X, Y), steps=20, draws=20, progress=False)
    found = compare(programs.regression, (X, Y), {"1": fit}, reference=None, **BRIEF)
    found.save(tmp_path)
    again = pyrometer.load(tmp_path, programs.regression)
    assert isinstance(again, Comparison)
    assert list(again.table.index) == list(again) == ["1"]
    (tmp_path / "1.nc").unlink()
    with pytest.raises(InputError, match=r"holds no saved fit: 1\.nc is missing or damaged") as caught:
        pyrometer.load(tmp_path, programs.regression)
    one_line(caught)


def test_data_of_another_version_are_refused_in_one_line(tmp_path: Path) -> None:
    svi(programs.regression, "auto_normal", (X, Y), steps=20, draws=20, progress=False).save(tmp_path)
    kept = torch.load(tmp_path / "data.pt", weights_only=True)
    kept["data"]["weather"] = 1
    torch.save(kept, tmp_path / "data.pt")
    with pytest.raises(InputError, match="another version, with weather: save it again") as caught:
        pyrometer.load(tmp_path, programs.regression)
    one_line(caught)


def test_what_is_no_saved_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("nothing")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError) as caught:
            pyrometer.load(path, programs.regression)
        assert str(path) in one_line(caught)
