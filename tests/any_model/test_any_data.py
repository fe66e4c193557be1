"""Any data, any plates, any dtype: compare, svi and nuts take what the model takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import answers
import numpy as np
import pandas as pd
import programs
import pyro
import pyro.distributions as dist
import pytest
import torch
from agreement import (
    BRIEF,
    CHAINS,
    TRAINED,
    TRAINING,
    evidence_agrees,
    likelihood,
    means_agree,
    one_line,
    sds_agree,
)
from programs import (
    COUNTS,
    CURVE_X,
    CURVE_X_NEW,
    CURVE_Y,
    CURVE_Y_NEW,
    FRAME,
    FRAME_NEW,
    GROUPS,
    HOLES,
    MARKS,
    MARKS_NEW,
    PLACES,
    PRIOR,
    SERIES,
    WORDS,
    X32,
    X_NEW,
    Y_NEW,
    X,
    Y,
)
from pyro.nn import PyroModule
from pyrometer import Fit, InputError, compare, nuts, svi
from pyrometer.inference.runtime.arviz import groups_of
from torch import Tensor

LINEAR = answers.independent(X)
POSTERIOR = LINEAR.posterior(Y)
SHORT: dict[str, Any] = {**TRAINING, "steps": 50, "draws": 50}


def is_the_regression(fit: Fit, name: str = "beta") -> None:
    """Its posterior is the exact one."""
    means_agree(fit, name, POSTERIOR.mean, POSTERIOR.stddev)
    if "sample_stats" in groups_of(fit.idata):
        sds_agree(fit, name, POSTERIOR.stddev)


# Data


def test_a_tuple_and_a_dict_by_the_parameters_names_are_one_data_set() -> None:
    forms = {"tuple": (X, Y), "dict": {"y": Y, "X": X}, "arrays": (X.numpy(), Y.numpy()), "list": (X.tolist(), Y)}
    fits = {form: svi(programs.regression, "auto_normal", data, **SHORT) for form, data in forms.items()}
    for fit in fits.values():
        np.testing.assert_array_equal(fit.losses, fits["tuple"].losses)


def test_a_regression_has_its_exact_posterior_evidence_and_held_out_density() -> None:
    found = compare(
        programs.regression, (X, Y), ["auto_mvn"], x_test=(X_NEW, Y_NEW), **{**BRIEF, "steps": 800, "lr": 0.02}
    )
    assert not found.skipped
    is_the_regression(found["nuts"])
    is_the_regression(found["auto_mvn"])
    evidence_agrees(found["auto_mvn"], LINEAR.log_evidence(Y))
    truth = answers.row_by_row(X_NEW, Y_NEW, LINEAR, Y).numpy()
    np.testing.assert_allclose(found["nuts"].log_predictive((X_NEW, Y_NEW)), truth, atol=0.1)
    np.testing.assert_allclose(found.table["lpd_test"].astype(float), truth.sum(), atol=0.3)
    assert found.table.loc["auto_mvn", "bias"] < TRAINED + 0.25
    assert likelihood(found["nuts"], "y").shape[1] == len(Y)


def test_what_is_constant_is_not_cut_along_the_rows() -> None:
    data = {"X": X, "y": Y, "scales": torch.tensor([PRIOR, PRIOR]).double()}
    x_test = {**data, "X": X_NEW, "y": Y_NEW}
    fit = nuts(programs.scaled, data, **CHAINS)
    is_the_regression(fit)
    truth = answers.row_by_row(X_NEW, Y_NEW, LINEAR, Y).numpy()
    np.testing.assert_allclose(fit.log_predictive(x_test), truth, atol=0.1)
    assert fit.data.rows == len(X)


def test_minibatches_of_several_arguments_are_cut_together() -> None:
    options = {**TRAINING, "steps": 1500, "draws": 300}
    fit = svi(programs.minibatched, "auto_mvn", (X, Y), batch_size=8, **options)
    is_the_regression(fit)
    evidence_agrees(fit, LINEAR.log_evidence(Y))


def test_a_frame_goes_by_its_columns_names_and_categories_are_coords() -> None:
    linear = answers.independent(answers.group_design(FRAME))
    y = torch.tensor(FRAME["earnings"].to_numpy())
    posterior = linear.posterior(y)
    shuffled = FRAME[["earnings", "group", "height"]].assign(remark=1.0)  # neither order nor further columns matter
    fit = nuts(programs.by_group, shuffled, **CHAINS)
    alpha = fit.idata["posterior"]["alpha"]
    assert alpha.dims == ("chain", "draw", "group")
    assert list(alpha["group"].values) == list(GROUPS)
    means_agree(fit, "alpha", posterior.mean[:3], posterior.stddev[:3])
    means_agree(fit, "slope", posterior.mean[3], posterior.stddev[3])
    assert float(alpha.sel(group="sea").mean()) == pytest.approx(float(posterior.mean[2]), abs=0.2)


@pytest.mark.parametrize("text", [False, True])
def test_new_rows_are_coded_by_the_categories_that_were_fitted(text: bool) -> None:
    """New rows without art, and in another order, still mean the groups that their names say."""
    frame = FRAME.assign(group=FRAME["group"].astype(str)) if text else FRAME
    fit = nuts(programs.by_group, frame, **CHAINS)
    some = FRAME_NEW[FRAME_NEW["group"] != "art"]
    names = some["group"].astype(str)
    some = some.assign(group=names if text else pd.Categorical(names, categories=["sea", "law"]))
    linear = answers.independent(answers.group_design(FRAME))
    y, y_new = (torch.tensor(frame["earnings"].to_numpy()) for frame in (FRAME, some))
    fitted = some.assign(group=pd.Categorical(names, categories=list(GROUPS)))
    truth = answers.row_by_row(answers.group_design(fitted), y_new, linear, y)
    np.testing.assert_allclose(fit.log_predictive(some), truth.numpy(), atol=0.1)


def test_a_category_that_was_not_fitted_is_refused() -> None:
    fit = nuts(programs.by_group, FRAME, **{**CHAINS, "warmup": 50, "draws": 20})
    with pytest.raises(InputError, match="physics") as caught:
        fit.log_predictive(FRAME_NEW.assign(group="physics"))
    assert "group" in one_line(caught)


def test_a_file_goes_by_its_columns_names_too(tmp_path: Path) -> None:
    path = tmp_path / "earnings.csv"
    FRAME.to_csv(path, index=False)
    one = svi(programs.by_group, "auto_normal", path, **SHORT)
    other = svi(programs.by_group, "auto_normal", FRAME, **SHORT)
    np.testing.assert_allclose(one.losses, other.losses)
    assert list(one.idata["posterior"]["group"].values) == list(GROUPS)


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (FRAME.drop(columns="group"), "group"),
        ({"height": FRAME["height"], "group": FRAME["group"]}, "earnings"),
        ({"height": FRAME["height"][:5], "group": FRAME["group"], "earnings": FRAME["earnings"]}, "height"),
    ],
)
def test_what_the_model_does_not_get_is_named(data: Any, fragment: str) -> None:
    with pytest.raises(InputError, match=fragment) as caught:
        svi(programs.by_group, "auto_normal", data, **SHORT)
    one_line(caught)


def test_a_missing_value_is_refused_with_its_column_and_row() -> None:
    holes = FRAME.copy()
    holes.loc[5, "height"] = np.nan
    for run in (
        lambda: svi(programs.by_group, "auto_normal", holes, **SHORT),
        lambda: nuts(programs.by_group, holes, **CHAINS),
        lambda: compare(programs.by_group, holes, ["auto_normal"], **BRIEF),
    ):
        with pytest.raises(InputError, match="height") as caught:
            run()
        assert "row 5" in one_line(caught)
    with pytest.raises(InputError, match="row 2") as caught:
        nuts(programs.regression, {"X": X, "y": HOLES}, **CHAINS)
    assert "y" in one_line(caught).split()[0] or "'y'" in one_line(caught)


@pytest.mark.parametrize("model", [programs.masked, programs.masked_in_place])
def test_masked_rows_are_as_if_they_were_not_there(model: Callable[..., Any]) -> None:
    seen = ~torch.isnan(HOLES)
    linear = answers.independent(X[seen])
    posterior = linear.posterior(Y[seen])
    found = compare(model, (X, HOLES), ["auto_mvn"], **{**BRIEF, "steps": 800, "lr": 0.02})
    for fit in found.fits.values():
        means_agree(fit, "beta", posterior.mean, posterior.stddev)
    evidence_agrees(found["auto_mvn"], linear.log_evidence(Y[seen]))
    rows = likelihood(found["nuts"], "y")
    assert (rows[:, ~seen.numpy()] == 0).all()
    assert (rows[:, seen.numpy()] != 0).all()


# Rows


def test_a_gaussian_process_without_plates_has_everything_but_what_needs_rows() -> None:
    truth = answers.gp_moments(PLACES, COUNTS)
    found = compare(
        programs.gaussian_process, (PLACES, COUNTS), ["auto_normal", "auto_mvn"], **{**BRIEF, "steps": 800, "lr": 0.02}
    )
    assert not found.skipped
    for name in ("nuts", "auto_mvn"):
        means_agree(found[name], "f", truth.mean, truth.sd)
    sds_agree(found["nuts"], "f", truth.sd)
    evidence_agrees(found["auto_mvn"], truth.log_evidence)
    assert found.table["lpd_test"].isna().all()
    assert found["nuts"].data.rows is None
    assert (found.table["elbo"].dropna() < truth.log_evidence + 0.3).all()


def test_held_out_rows_of_a_model_without_rows_are_a_dash_and_minibatches_are_refused() -> None:
    data = (PLACES, COUNTS)
    found = compare(programs.gaussian_process, data, ["auto_normal"], x_test=data, reference=None, **BRIEF)
    assert found.table["lpd_test"].isna().all()
    assert any("lpd_test" in note for note in found.notes)
    with pytest.raises(InputError, match="plate") as caught:
        svi(programs.gaussian_process, "auto_normal", data, batch_size=5, **SHORT)
    one_line(caught)


def test_a_markov_chain_is_summed_out_in_svi_and_nuts() -> None:
    truth = answers.hmm_moments(SERIES)
    options = {**BRIEF, "steps": 300, "lr": 0.05, "warmup": 100, "draws": 200}
    found = compare(programs.hmm, SERIES, ["auto_mvn"], **options)
    assert not found.skipped
    for fit in found.fits.values():
        means_agree(fit, "means", truth.mean, truth.sd)
    evidence_agrees(found["auto_mvn"], truth.log_evidence)
    assert found["auto_mvn"].data.rows is None
    assert list(found["nuts"].idata["posterior"]["means"].dims) == ["chain", "draw", "states"]


def test_topics_that_are_told_to_be_exchangeable_are_put_in_one_order() -> None:
    evidence, following = answers.lda_exact(WORDS)
    fit = nuts(programs.lda, WORDS, **{**CHAINS, "draws": 600})
    assert fit.exchangeable == ("topics",)
    assert fit.data.rows == len(WORDS)
    phi, theta = (fit.idata["posterior"][name] for name in ("phi", "theta"))
    assert phi.dims == ("chain", "draw", "topics", "vocabulary")
    assert theta.dims == ("chain", "draw", "documents", "topics")
    # Whichever topic is called the first, theta phi is the same: the labels moved together.
    found = np.einsum("cdnk,cdkv->nv", theta.values, phi.values) / (phi.shape[0] * phi.shape[1])
    np.testing.assert_allclose(found, following, atol=0.05)
    means = phi.values.reshape(-1, 2, 3).mean(0)
    assert np.abs(means[0] - means[1]).max() > 0.2  # unordered draws would have one mean
    guide = compare(programs.lda, WORDS, ["auto_mvn"], reference=None, **{**BRIEF, "steps": 800})
    assert guide.table.loc["auto_mvn", "log_evidence"] < evidence + 1.0  # 2! counted once


def test_the_rows_of_nested_plates_are_those_of_the_outer_one() -> None:
    linear = answers.nested_linear(MARKS)
    posterior = linear.posterior(MARKS.flatten())
    found = compare(
        programs.nested, MARKS, ["auto_mvn"], x_test=MARKS_NEW, **{**BRIEF, "steps": 2500, "draws": 500, "lr": 0.02}
    )
    assert not found.skipped
    for fit in found.fits.values():
        means_agree(fit, "mean", posterior.mean[0], posterior.stddev[0])
        means_agree(fit, "level", posterior.mean[1:], posterior.stddev[1:])
        assert fit.data.rows == len(MARKS)
    levels = found["nuts"].idata["posterior"]["level"].values.reshape(-1, len(MARKS), 1)
    truth = torch.distributions.Normal(torch.tensor(levels), programs.NOISE).log_prob(MARKS).sum(-1)
    np.testing.assert_allclose(likelihood(found["nuts"], "marks"), truth, atol=1e-8)
    new = [answers.schools_of_one_mean(row.unsqueeze(0)) for row in MARKS_NEW]
    held_out = answers.of_new_rows(new, MARKS_NEW, answers.schools_of_one_mean(MARKS), MARKS.flatten()).sum()
    np.testing.assert_allclose(found.table["lpd_test"].astype(float), float(held_out), atol=0.6)


# dtype


def test_float32_in_a_closure_is_promoted_to_the_datas_float64() -> None:
    model = programs.closed_over(X32)
    linear = answers.independent(X32.double())
    posterior = linear.posterior(Y)
    found = compare(model, Y, ["auto_mvn"], **{**BRIEF, "steps": 800, "lr": 0.02})
    assert not found.skipped
    for fit in found.fits.values():
        assert fit.idata["posterior"]["beta"].dtype == np.float64
        means_agree(fit, "beta", posterior.mean, posterior.stddev)
    evidence_agrees(found["auto_mvn"], linear.log_evidence(Y))
    assert X32.dtype == torch.float32  # the user's own stays


def test_all_of_it_runs_in_float32_where_that_is_asked_for() -> None:
    for fit in (
        nuts(programs.closed_over(X32), Y, dtype=torch.float32, **CHAINS),
        svi(programs.closed_over(X32), "auto_mvn", Y, dtype=torch.float32, **TRAINING),
    ):
        assert fit.data.dtype == torch.float32
        means_agree(fit, "beta", POSTERIOR.mean, POSTERIOR.stddev)
    found = compare(programs.closed_over(X32), Y, ["auto_normal"], dtype=torch.float32, **BRIEF)
    assert {fit.data.dtype for fit in found.fits.values()} == {torch.float32}


def test_a_linear_bayesian_network_is_the_regression_compiled() -> None:
    net = programs.LinearNet()
    found = compare(net, (X, Y), ["auto_mvn"], x_test=(X_NEW, Y_NEW), **{**BRIEF, "steps": 800, "lr": 0.02})
    assert not found.skipped
    for fit in found.fits.values():
        is_the_regression(fit, "layer.weight")
    evidence_agrees(found["auto_mvn"], LINEAR.log_evidence(Y))
    assert found["nuts"].compiled in ("script", "native")
    truth = float(answers.row_by_row(X_NEW, Y_NEW, LINEAR, Y).sum())
    np.testing.assert_allclose(found.table["lpd_test"].astype(float), truth, atol=0.3)
    assert not any(tensor.dtype == torch.float64 for tensor in net.parameters())  # the user's own stays


def test_a_bayesian_network_with_a_hidden_unit_draws_the_curve_of_the_grid() -> None:
    """Its weights have two signs; the curve and the density of new rows do not know which."""
    fit = nuts(programs.TanhNet(), (CURVE_X, CURVE_Y), **{**CHAINS, "warmup": 500, "draws": 2000})
    curve, density = answers.tanh_curve(CURVE_X, CURVE_Y, CURVE_X_NEW, CURVE_Y_NEW)
    inner, outer = (fit.idata["posterior"][f"{name}.weight"].values.reshape(-1, 1) for name in ("inner", "outer"))
    found = outer * np.tanh(inner * CURVE_X_NEW[:, 0].numpy())
    np.testing.assert_allclose(found.mean(0), curve, atol=5 * 0.3 / math.sqrt(150))  # sd about 0.3, ess at least 150
    np.testing.assert_allclose(fit.log_predictive((CURVE_X_NEW, CURVE_Y_NEW)), density, atol=0.2)


def test_a_network_that_is_not_trained_is_promoted_too() -> None:
    weight = torch.tensor([[1.0, 0.5], [-0.5, 1.0]]).double()
    posterior = answers.independent(X @ weight.T).posterior(Y)
    fit = nuts(programs.FixedNet(), (X, Y), **CHAINS)
    means_agree(fit, "beta", posterior.mean, posterior.stddev)


def test_a_pyro_module_without_priors_of_its_own_runs_too() -> None:
    class Mean(PyroModule):
        def forward(self, y: Tensor) -> None:
            programs.normal_mean(y)

    posterior = answers.independent(torch.ones(len(Y), 1).double(), noise=1.0).posterior(Y)
    fit = nuts(Mean(), Y, **CHAINS)
    means_agree(fit, "mu", posterior.mean, posterior.stddev)


def test_a_flat_prior_is_fitted_and_its_evidence_is_a_dash() -> None:
    found = compare(programs.flat, Y, ["auto_normal", "auto_mvn"], **{**BRIEF, "steps": 800, "lr": 0.02})
    assert not found.skipped
    for fit in found.fits.values():
        means_agree(fit, "mu", Y.mean(), len(Y) ** -0.5)
    sds_agree(found["nuts"], "mu", len(Y) ** -0.5)
    assert found.table["log_evidence"].isna().all()
    assert found.table["khat"].drop("nuts").notna().all()


def test_a_model_without_plates_and_one_number_of_data_runs() -> None:
    """mu ~ Normal(0, 2), y ~ Normal(mu, 1), y = 3: mu | y ~ Normal(12 / 5, 4 / 5)."""

    def one_number(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    fit = nuts(one_number, {"y": torch.tensor(3.0).double()}, **CHAINS)
    means_agree(fit, "mu", 2.4, math.sqrt(0.8))
