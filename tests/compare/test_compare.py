"""One table from any model and any guides, a user's own included; what fails is named and costs the others nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
from pyrometer import Comparison, compare, load, nuts, svi
from pyrometer.errors import InputError
from pyrometer.inference.compare.columns import COLUMNS
from pyrometer.inference.compilation.compiled import Compile
from pyrometer.inference.runtime.arviz import groups_of
from pyrometer.models import GMM, BayesianGMM
from torch import Tensor
from truths import COUNTS, normal_guide, normal_mean, poisson_guide, poisson_mixture, two_clusters

X = two_clusters()
FRAME = pd.DataFrame(X.numpy(), columns=["length", "width"])
GUIDES = {"own": poisson_guide, "auto_normal": "auto_normal", "auto_mvn": "auto_mvn"}
BRIEF: Any = {"steps": 200, "starts": 1, "warmup": 150, "draws": 200, "chains": 2, "progress": False}


@pytest.fixture(scope="module")
def poisson() -> Comparison:
    """A user's own model, with a guide of its own and two of Pyro's."""
    options = {**BRIEF, "draws": 500, "warmup": 200, "steps": 800}
    return compare(poisson_mixture, COUNTS[:40], GUIDES, x_test=COUNTS[40:], **options)


@pytest.fixture(scope="module")
def gaussian() -> Iterator[Comparison]:
    """The mixture of the package, too briefly run to converge."""
    yield compare(BayesianGMM(2), FRAME, ["structured"], **{**BRIEF, "warmup": 300, "draws": 40})
    plt.close("all")


def test_a_users_own_model_and_guide_are_compared_without_registration(poisson: Comparison) -> None:
    table = poisson.table
    assert list(table.index) == ["nuts", "own", "auto_normal", "auto_mvn"]
    assert list(table.columns) == [column.name for column in COLUMNS]
    assert not poisson.skipped
    assert poisson.reference == "nuts"
    own = COUNTS[:20].mean().item(), COUNTS[20:40].mean().item()
    for fit in poisson.fits.values():
        rates = fit.idata["posterior"]["rates"].mean(("chain", "draw")).values
        np.testing.assert_allclose(rates, own, rtol=0.15)  # in one order, whichever way the guide took them
    assert (table["khat"].drop("nuts") < 1).all()  # 0.3 to 0.6 by a thousand draws; of 500 it is off by 0.15 or so
    assert table.loc["auto_mvn", "bias"] < 0.5
    assert table["lpd_test"].notna().all()


def test_the_guides_agree_on_the_evidence_and_every_elbo_is_below_it(poisson: Comparison) -> None:
    table = poisson.table.drop("nuts")
    assert table["log_evidence"].max() - table["log_evidence"].min() < 0.3
    # A guide covers one of the K! = 2 labellings: its ELBO is below the evidence by log 2 at least.
    assert (table["elbo"] < table["log_evidence"] - math.log(2) + 5 * table["elbo_se"]).all()


def test_nan_means_does_not_apply(poisson: Comparison) -> None:
    chains, guide = poisson.table.loc["nuts"], poisson.table.loc["own"]
    for column in ("rhat", "ess_bulk", "divergences"):
        assert math.isfinite(chains[column])
        assert math.isnan(guide[column])
    for column in ("elbo", "elbo_se", "khat", "bias", "sd_ratio"):
        assert math.isnan(chains[column])
        assert math.isfinite(guide[column])
    for column in ("log_evidence", "log_evidence_se"):
        assert math.isfinite(chains[column])
        assert math.isfinite(guide[column])


def test_label_invariant_distances_come_along(poisson: Comparison) -> None:
    assert list(poisson.invariant.index) == list(poisson.table.index)
    assert (poisson.invariant.loc["nuts"] == 0).all()
    assert (poisson.invariant[["lpd_gap", "co_clustering_gap"]] < 0.1).all(axis=None)


def test_a_comparison_reads_as_text_and_as_html(poisson: Comparison) -> None:
    assert "auto_mvn" in repr(poisson)
    assert "<table" in poisson._repr_html_()


def test_a_fit_is_had_by_its_name(gaussian: Comparison) -> None:
    assert gaussian["nuts"].name == "nuts"
    assert gaussian.table.loc["nuts", "estimator"].startswith("NUTS")
    with pytest.raises(KeyError, match="no fit 'laplace'; there are nuts, structured"):
        gaussian["laplace"]


@pytest.mark.parametrize("name", ["nuts", "structured"])
def test_the_posterior_has_named_dims_and_the_datas_columns(gaussian: Comparison, name: str) -> None:
    posterior = gaussian[name].idata["posterior"]
    assert posterior["locs"].dims == ("chain", "draw", "components", "features")
    assert posterior["weights"].dims == ("chain", "draw", "components")
    assert posterior["covariances"].dims == ("chain", "draw", "components", "features", "features_bis")
    assert posterior["features"].values.tolist() == ["length", "width"]
    observed = gaussian[name].idata["observed_data"]["x"]
    np.testing.assert_allclose(observed.values, X.numpy())


@pytest.mark.parametrize("name", ["nuts", "structured"])
def test_arviz_opens_every_fit(gaussian: Comparison, name: str) -> None:
    idata = gaussian[name].idata
    summary = az.summary(idata, var_names=["weights", "locs"], kind="stats")
    assert "locs[0, length]" in summary.index
    assert len(az.plot_forest(idata, var_names=["locs"])) > 0
    loo = az.loo(idata)
    rows = idata["log_likelihood"]["x"].stack(sample=("chain", "draw")).values
    lppd = (np.logaddexp.reduce(rows, 1) - np.log(rows.shape[1])).sum()
    assert loo.n_data_points == len(X)
    assert float(loo.elpd_loo) < lppd  # what a row adds to its own prediction is taken away


def test_a_reference_that_did_not_converge_is_flagged(gaussian: Comparison) -> None:
    assert gaussian.table.loc["nuts", "estimator"] == "NUTS (not converged)"
    assert "the reference nuts did not converge" in gaussian.notes[0]
    assert "do not trust bias and sd_ratio" in repr(gaussian)


def breaks(x: Tensor) -> None:
    raise RuntimeError("out of paper")


def test_a_guide_that_fails_is_skipped_with_its_reason_and_the_others_kept() -> None:
    found = compare(normal_mean, X[:, 0], {"broken": breaks, "own": normal_guide}, reference=None, **BRIEF)
    assert list(found.table.index) == ["own"]
    assert "out of paper" in found.skipped["broken"]
    assert "broken was skipped: guide broken fails on this data" in repr(found)
    assert found.reference is None
    assert math.isnan(found.table.loc["own", "bias"])
    with pytest.raises(KeyError, match="it was skipped"):
        found["broken"]


def test_where_nothing_can_be_fitted_the_first_error_is_raised() -> None:
    with pytest.raises(InputError, match="out of paper"):
        compare(normal_mean, X[:, 0], {"broken": breaks}, reference=None, **BRIEF)


def test_a_maximum_likelihood_model_says_why_it_has_no_nuts() -> None:
    found = compare(GMM(2), X, **{**BRIEF, "steps": 20, "draws": 20})
    assert list(found.table.index) == ["marginal", "responsibilities", "amortized"]
    assert "GMM has no continuous latent site" in found.skipped["nuts"]
    assert found.reference is None


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"guides": ["structured", "lucky"]}, "model BayesianGMM has no guide 'lucky': choose from mean_field"),
        ({"guides": ["structured"], "reference": "auto_mvn"}, "reference='auto_mvn' is n"),
        ({"x": np.ones((5, 2))}, "in every row: drop it"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_before_any_fit(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        compare(BayesianGMM(2), **{"x": X, **options, **BRIEF})
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rows", [None, np.int64(5), range(3), np.arange(3)])
def test_rows_are_not_read_where_they_have_no_meaning(rows: Any, tmp_path: Path) -> None:
    found = compare(normal_mean, X[:, 0], [], methods=["nuts"], rows=rows, **{**BRIEF, "warmup": 50, "draws": 20})
    found.save(tmp_path)
    assert list(load(tmp_path, normal_mean).table.index) == ["nuts"]  # type: ignore[union-attr]


def test_an_entry_named_twice_is_fitted_once() -> None:
    guides: list[Any] = ["auto_normal", "".join(["auto_", "normal"]), normal_guide, normal_guide]
    found = compare(normal_mean, X[:, 0], guides, reference=None, **{**BRIEF, "steps": 20})
    assert list(found) == ["auto_normal", "normal_guide"]


def test_a_guide_or_a_fit_made_before_can_be_the_reference() -> None:
    x, guides = X[:, 0] - 4, {"own": normal_guide, "auto_normal": "auto_normal"}
    by_name = compare(normal_mean, x, guides, reference="own", **BRIEF)
    assert by_name.reference == "own"
    assert math.isnan(by_name.table.loc["own", "bias"])
    assert math.isfinite(by_name.table.loc["auto_normal", "bias"])
    made = nuts(normal_mean, x, warmup=50, draws=50, chains=1, progress=False, name="long run")
    by_fit = compare(normal_mean, x, {"own": normal_guide}, reference=made, **BRIEF)
    assert list(by_fit.table.index) == ["long run", "own"]
    assert by_fit.reference == "long run"


def test_a_comparison_gives_the_numbers_of_its_fits() -> None:
    found = compare(normal_mean, X[:, 0], {"own": normal_guide}, reference=None, seed=3, **BRIEF)
    alone = svi(normal_mean, normal_guide, X[:, 0], steps=200, draws=200, seed=3, progress=False)
    np.testing.assert_array_equal(found["own"].losses, alone.losses)
    np.testing.assert_array_equal(found["own"].log_weights, alone.log_weights)


def test_what_compare_is_told_to_compile_reaches_every_fit() -> None:
    options: dict[str, Any] = {"steps": 100, "starts": 1, "warmup": 20, "draws": 20, "chains": 1, "progress": False}
    modes: tuple[tuple[Compile, str], ...] = (("auto", "script"), (False, "eager"))
    for compile, expected in modes:
        comparison = compare(normal_mean, X[:, 0], ["auto_normal"], compile=compile, **options)
        assert {name: fit.compiled for name, fit in comparison.fits.items()} == dict.fromkeys(comparison.fits, expected)


def without_rows(x: Tensor) -> None:
    """loc ~ Normal(0, 1), x ~ Normal(loc, 1) as one event."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(loc, 1.0).expand(x.shape).to_event(1), obs=x)


def test_a_model_without_rows_is_compared_with_dashes_for_what_needs_them() -> None:
    x = X[:, 0] - 4
    found = compare(without_rows, x, ["auto_normal"], x_test=x[:5], **BRIEF)
    assert list(found.table.index) == ["nuts", "auto_normal"]
    assert found.table["lpd_test"].isna().all()
    assert found.table.loc["auto_normal", ["elbo", "log_evidence", "khat", "bias", "sd_ratio"]].notna().all()
    assert all("log_likelihood" not in groups_of(fit.idata) for fit in found.fits.values())
    assert not found.skipped
    exact = x.sum().item() / (len(x) + 1)
    assert abs(found["nuts"].draws()["loc"].mean() - exact) < 5 * (len(x) + 1) ** -0.5 / 50**0.5


def test_a_column_that_never_changes_is_welcome_where_the_model_says_nothing_against_it() -> None:
    """y_n ~ Normal(b x_n, 1) with an intercept in x."""

    def regression(x: Tensor) -> None:
        b = pyro.sample("b", dist.Normal(0.0, 10.0).expand([1]).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x[:, :1] @ b, 1.0), obs=x[:, 1])

    frame = pd.DataFrame({"one": 1.0, "y": X[:, 0].numpy()})
    found = compare(regression, frame, ["auto_normal"], reference=None, **BRIEF)
    assert math.isfinite(found.table.loc["auto_normal", "elbo"])
