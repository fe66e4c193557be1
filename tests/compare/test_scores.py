"""Each column of the table is the number it claims to be, on cases where that number is known."""

import math
import signal
import time
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from pyrometer import Fit, compare, log_evidence, svi
from pyrometer.inference.compare.columns import AT_HAND, COLUMNS, Scored, scores
from pyrometer.inference.compilation import graph
from pyrometer.inference.data.data import Data
from pyrometer.inference.data.new_data import as_new_data
from pyrometer.inference.fit.convergence import convergence, unconverged
from pyrometer.inference.fit.importance import pareto_k
from pyrometer.inference.runtime import interrupts
from pyrometer.inference.runtime.arviz import dataset_of, idata_of, psislw
from pyrometer.inference.runtime.interrupts import ending_on_signals
from pyrometer.models import BayesianGMM
from scipy import stats
from truths import assignment_log_evidences, normal_guide, normal_mean, two_clusters

X = two_clusters()[:, 0] - 4


@cache
def trained() -> Fit:
    """Some fit, to hang other numbers on."""
    return svi(normal_mean, normal_guide, X, steps=600, lr=0.05, draws=1000, progress=False)


def row_of(fit: Fit, reference: Fit | None = None, test: Data | None = None) -> dict[str, Any]:
    """Its row of the table, of which no column failed."""
    row, notes = scores(Scored(fit, reference, test), COLUMNS)
    assert notes == []
    return row


def test_what_all_fits_of_a_model_are_asked_is_traced_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    new = X[:5] + 0.5
    trained().log_predictive(), trained().log_predictive(new)
    monkeypatch.setattr(graph, "_recorded", recorded := Mock(side_effect=graph._recorded))
    other = svi(normal_mean, "auto_normal", X, steps=50, draws=50, compile=False, progress=False)
    recorded.reset_mock()
    locs = other.draws()["loc"][:, None]
    for rows in (X, new):
        found = other.log_predictive(None if rows is X else rows)
        np.testing.assert_allclose(found, np.log(stats.norm(locs).pdf(rows.numpy()).mean(0)))
    assert not recorded.called


def test_of_one_draw_or_one_row_nobody_knows_the_error() -> None:
    """Not that it were nought."""
    one = svi(normal_mean, normal_guide, X, steps=20, draws=1, progress=False)
    row = row_of(one, test=as_new_data(X[:1], one.data, one.model))
    assert np.isfinite([row["elbo"], row["log_evidence"], row["lpd_test"]]).all()
    assert np.isnan([row["elbo_se"], row["log_evidence_se"], row["lpd_test_se"]]).all()
    two = svi(normal_mean, normal_guide, X, steps=20, draws=2, progress=False)
    row = row_of(two, test=as_new_data(X[:2], two.data, two.model))
    assert (np.array([row["elbo_se"], row["log_evidence_se"], row["lpd_test_se"]]) > 0).all()


def with_draws(chains: int = 1, stats: bool = False, **draws: np.ndarray) -> Fit:
    """A fit with those posterior draws, (S, ...) laid out as so many chains."""
    posterior = {name: value.reshape(chains, -1, *value.shape[1:]) for name, value in draws.items()}
    shape = next(iter(posterior.values())).shape[:2]
    groups = {"posterior": dataset_of(posterior, {})}
    if stats:
        groups["sample_stats"] = dataset_of({"diverging": np.zeros(shape, bool)}, {})
    return replace(trained(), idata=idata_of(groups))


def test_the_columns_are_those_of_the_design_in_its_order() -> None:
    expected = "verdict estimator elbo elbo_se log_evidence log_evidence_se khat lpd_test lpd_test_se bias worst"
    expected += " mc_error sd_ratio sd_ratio_max rhat ess_bulk divergences"
    assert [*expected.split(), "steps", "seconds"] == [column.name for column in COLUMNS]
    assert list(row_of(trained())) == [column.name for column in COLUMNS]


def log_weights(scale: float, df: float, draws: int = 4000) -> np.ndarray:
    """log p - log q of draws from q = Student t(df) about p = Normal(0, scale)."""
    x = stats.t(df).rvs(draws, random_state=0)
    return stats.norm(0, scale).logpdf(x) - stats.t(df).logpdf(x)


def test_khat_is_small_where_the_guide_covers_the_posterior_and_large_where_it_does_not() -> None:
    covered = replace(trained(), log_weights=log_weights(scale=0.8, df=3))
    x = np.random.default_rng(0).standard_normal(4000)
    missed = stats.t(2).logpdf(x) - stats.norm.logpdf(x)
    uncovered = replace(trained(), log_weights=missed)
    assert log_evidence(covered).khat < 0.3
    assert log_evidence(uncovered).khat > 0.7
    assert log_evidence(uncovered).khat == pytest.approx(float(psislw(missed)[1]))
    raised = replace(trained(), log_weights=missed + 1000)
    assert log_evidence(raised).khat == pytest.approx(log_evidence(uncovered).khat, abs=1e-6)


def test_khat_is_the_tail_index_of_gaussian_weights() -> None:
    """q = Normal(0, 1), p = Normal(0, s): the weights' tail is Pareto with k = 1 - 1 / s^2 (Vehtari et al. 2024)."""
    x = np.random.default_rng(1).standard_normal(40_000)
    for scale in (1.3, 1.6):
        weights = stats.norm(0, scale).logpdf(x) - stats.norm.logpdf(x)
        assert log_evidence(replace(trained(), log_weights=weights)).khat == pytest.approx(1 - scale**-2, abs=0.15)


def test_khat_does_not_apply_without_weights_and_is_infinite_with_broken_ones() -> None:
    assert math.isnan(log_evidence(replace(trained(), log_weights=np.zeros(0))).khat)
    broken = np.where(np.arange(500) == 3, -np.inf, 0.0)
    assert log_evidence(replace(trained(), log_weights=broken)).khat == math.inf


def test_khat_does_not_apply_to_a_tail_of_equal_weights_unless_one_weight_outweighs_them() -> None:
    """As those of an exact guide are, and of a likelihood whose largest value many draws reach: NaN, and not inf."""
    equal = np.zeros(500)
    bounded = np.minimum(np.random.default_rng(0).normal(size=5000), -0.1).astype(np.float32)
    outweighed = np.where(np.arange(500) == 7, 50.0, 0.0)
    assert np.isnan(pareto_k(np.stack([equal, 1e-9 * outweighed], 1))).all()
    assert math.isnan(pareto_k(bounded[:, None])[0])
    assert pareto_k(outweighed[:, None])[0] == math.inf


def test_the_elbo_is_the_mean_of_its_draws_with_their_standard_error() -> None:
    draws = np.random.default_rng(0).normal(-7.0, 2.0, 4000)
    row = row_of(replace(trained(), elbo_draws=draws))
    assert row["elbo"] == pytest.approx(draws.mean())
    assert row["elbo_se"] == pytest.approx(2 / math.sqrt(4000), rel=0.1)


def test_bias_and_sd_ratio_are_the_worst_over_scalars_in_units_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    reference = with_draws(a=rng.normal([0.0, 10.0], [1.0, 4.0], (50_000, 2)), b=rng.normal(5.0, 0.1, 50_000))
    fit = with_draws(a=rng.normal([0.0, 12.0], [0.5, 4.0], (50_000, 2)), b=rng.normal(5.02, 0.1, 50_000))
    row = row_of(fit, reference)
    assert row["bias"] == pytest.approx(0.5, abs=0.03)  # (12 - 10) / 4
    assert row["sd_ratio"] == pytest.approx(0.5, abs=0.02)
    assert math.isnan(row_of(reference, reference)["bias"])
    assert math.isnan(row_of(fit)["sd_ratio"])


def test_a_scalar_that_is_constant_in_the_reference_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    reference = with_draws(a=np.stack([rng.standard_normal(1000), np.zeros(1000)], 1))
    row = row_of(with_draws(a=rng.standard_normal((1000, 2))), reference)
    assert math.isfinite(row["bias"])
    assert row["bias"] < 0.3


def test_small_scalars_count_beside_large_ones() -> None:
    rng = np.random.default_rng(0)
    large = rng.gamma(100, 1e10, (1000, 2))
    reference = with_draws(locs=rng.normal(1e-6, 1e-7, (1000, 2)), precisions=large)
    row = row_of(with_draws(locs=rng.normal(1.5e-6, 0.3e-7, (1000, 2)), precisions=large), reference)
    assert row["bias"] == pytest.approx(5, rel=0.1)
    assert row["sd_ratio"] == pytest.approx(0.3, rel=0.1)


def test_fits_that_share_no_variable_are_not_compared() -> None:
    draws = np.random.default_rng(0).standard_normal((100, 3))
    row = row_of(with_draws(a=draws), with_draws(a=draws[:, :2]))
    assert math.isnan(row["bias"])
    assert math.isnan(row["sd_ratio"])


def test_a_point_has_a_bias_and_no_spread() -> None:
    reference = with_draws(a=np.random.default_rng(0).normal(1.0, 2.0, 5000))
    row = row_of(with_draws(a=np.array([5.0])), reference)
    assert row["bias"] == pytest.approx(2.0, abs=0.2)
    assert math.isnan(row["sd_ratio"])


def test_lpd_test_is_the_log_of_the_posterior_predictive_density() -> None:
    """x_new | x ~ Normal(mean, 1 + 1 / (N + 1)); its standard error is that of a sum over rows."""
    fit, new = trained(), np.linspace(-2, 2, 9)
    mean = X.sum().item() / (len(X) + 1)
    exact = stats.norm(mean, math.sqrt(1 + 1 / (len(X) + 1))).logpdf(new)
    row = row_of(fit, test=fit.new_data(new))
    draws = fit.draws()["loc"][:, None]
    densities = stats.norm(draws, 1).pdf(new)
    error = (densities.std(0) / densities.mean(0)).sum() / math.sqrt(len(draws))
    assert abs(row["lpd_test"] - exact.sum()) < 5 * error
    assert row["lpd_test_se"] == pytest.approx(math.sqrt(9) * exact.std(), rel=0.05)
    assert math.isnan(row_of(fit)["lpd_test"])


@pytest.mark.parametrize("gap", [14.0])
def test_the_evidence_of_a_mixture_is_the_sum_over_all_assignments(gap: float) -> None:
    """K^N = 256 of them. A guide covers one of the K! labellings; the other is its mirror image."""
    x = torch.tensor([[-0.6], [0.1], [0.9], [0.0], [0.5], [-0.8], [0.3], [-0.2]]).double()
    x[3:] += gap
    model = BayesianGMM(2, loc=gap / 2, loc_precision=0.01, df=6.0, scale=2.0, concentration=2.0)
    terms = assignment_log_evidences(model, x)
    exact = terms.logsumexp(0).item()
    assert terms.topk(2).values.logsumexp(0).item() - exact > -1e-3  # both labellings of one partition: all there is
    fit = svi(model, "structured", x, steps=1500, draws=2000, progress=False)
    found = log_evidence(fit)
    assert found.khat < 0.7
    assert abs(found.value - exact) < 5 * found.se + 1e-3
    assert fit.log_weights.mean() < exact  # the ELBO is a bound


def test_markov_chains_that_agree_are_converged() -> None:
    draws = np.random.default_rng(0).standard_normal((4000, 2))
    fit = with_draws(chains=4, stats=True, a=draws)
    found = convergence(fit)
    assert found["rhat"] < 1.01
    assert found["ess_bulk"] > 3000
    assert found["divergences"] == 0
    assert not unconverged(fit)


def broken_chains(kind: str) -> Fit:
    """Four chains with that fault."""
    draws = np.random.default_rng(0).standard_normal(4000)
    if kind == "apart":
        draws[:1000] += 3
    if kind == "sticky":
        draws = np.repeat(draws[:40], 100)
    fit = with_draws(chains=1 if kind == "alone" else 4, stats=True, a=draws)
    if kind == "diverging":
        fit.idata["sample_stats"]["diverging"][0, 5] = True
    return fit


@pytest.mark.parametrize(
    ("kind", "fragment"),
    [
        ("apart", "R-hat"),
        ("sticky", "bulk ESS"),
        ("diverging", "1 divergences"),
        ("alone", "one chain has no R-hat"),
    ],
)
def test_a_reference_that_did_not_converge_is_found_out(kind: str, fragment: str) -> None:
    assert fragment in unconverged(broken_chains(kind))


def test_independent_draws_have_no_rhat() -> None:
    row = row_of(trained())
    assert all(math.isnan(row[name]) for name in ("rhat", "ess_bulk", "divergences"))
    assert unconverged(trained()) == ""


def test_a_constant_entry_spoils_no_diagnostic() -> None:
    draws: Any = np.random.default_rng(0).standard_normal((4000, 2))
    draws[:, 1] = 7.0
    assert convergence(with_draws(chains=4, stats=True, a=draws))["rhat"] < 1.01
    assert isinstance(trained().data, Data)


def test_a_program_that_is_terminated_while_it_scores_says_so_once_of_each_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "PATIENCE", 0.05)
    monkeypatch.setattr(interrupts.os, "_exit", forced := Mock())
    asked = Mock(side_effect=lambda fit: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr("pyrometer.inference.compare.columns.log_evidence", asked)
    fits = {name: replace(trained(), name=name) for name in ("first", "second")}
    with ending_on_signals():
        found = compare(normal_mean, X, fits, reference=None, progress=False)
        time.sleep(0.2)
    assert forced.call_count == 0
    assert asked.call_count == 1
    noted = [note for note in found.notes if "before" in note]
    assert noted == [f"{name}: terminated before it was scored" for name in fits]
    assert found.table[[*AT_HAND]].notna().all(axis=None)  # which take no time
    assert found.table["log_evidence"].isna().all()


def test_ctrl_c_while_a_fit_is_scored_leaves_the_others_their_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(fit: Fit) -> Any:
        if fit.name == "first":
            raise KeyboardInterrupt
        return log_evidence(fit)

    monkeypatch.setattr("pyrometer.inference.compare.columns.log_evidence", interrupted)
    fits = {name: replace(trained(), name=name) for name in ("first", "second")}
    found = compare(normal_mean, X, fits, reference=None, progress=False)
    assert [note for note in found.notes if "before" in note] == ["first: interrupted before it was scored"]
    assert found.table[[*AT_HAND]].notna().all(axis=None)
    assert list(found.table["log_evidence"].isna()) == [True, False]
