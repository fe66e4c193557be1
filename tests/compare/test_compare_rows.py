"""Guides of one decoder on the digits: their bounds and gaps are in the order that the theory gives them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyrometer
import pytest
from pyrometer import InputError
from pyrometer.inference.compare.columns import ROW_COLUMNS
from pyrometer.inference.compare.comparison import Comparison
from pyrometer.inference.local_latents.marginal import Budget, estimate
from pyrometer.inference.local_latents.row_fit import RowFit
from pyrometer.inference.plots.drawing.figure import figure_of
from pyrometer.inference.plots.latent.codes import plot_latent
from pyrometer.inference.plots.latent.decoded import plot_plane, plot_samples
from pyrometer.inference.plots.latent.reconstructions import plot_completion, plot_interpolation, plot_reconstructions
from pyrometer.inference.plots.losses import plot_losses
from pyrometer.models import VAE
from torch.nn.utils import parameters_to_vector

X = pyrometer.datasets.pixels("digits")
GUIDES = ("encoder", "encoder_full", "encoder_flow", "free", "semi_amortized")
pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Every guide of one decoder, two latent units, trained to the end; NUTS on a few rows."""
    options: dict[str, Any] = {"steps": 4000, "lr": 3e-3, "starts": 1, "warmup": 300, "draws": 400, "progress": False}
    model = VAE(2, "mlp", "bernoulli", hidden=(64,))
    found = pyrometer.compare(model, X[:1600], GUIDES, x_test=X[1600:], rows=8, **options)
    assert isinstance(found, Comparison)
    return found


def test_the_table_has_a_row_a_guide_and_nan_where_nothing_applies(comparison: Comparison) -> None:
    assert list(comparison.table.index) == list(GUIDES)
    assert list(comparison.table.columns) == [column.name for column in ROW_COLUMNS]
    held_out = comparison.table[["elbo_test", "log_p_test", "log_p_test_se", "khat"]].drop("free")
    assert held_out.notna().all(axis=None)
    assert comparison.table.loc["free", held_out.columns].isna().all()
    assert (comparison.table["active"] == 2).all()
    assert (held_out["elbo_test"] < held_out["log_p_test"]).all()
    assert np.ptp(held_out["log_p_test"]) < 0.1  # one decoder, one log p(x), whichever guide it is estimated with


def test_every_guide_has_the_same_decoder_as_it_was_trained_with_the_first(comparison: Comparison) -> None:
    networks = []
    for fit in comparison.fits.values():
        assert isinstance(fit, RowFit)
        model: Any = fit.model
        networks.append(parameters_to_vector(model.network(fit.data.values).parameters()).detach().numpy())
    for network in networks[1:]:
        np.testing.assert_array_equal(network, networks[0])


def test_a_richer_family_has_the_smaller_gap(comparison: Comparison) -> None:
    gap, error = comparison.table["gap"], comparison.table["gap_se"]
    assert gap["encoder"] >= gap["encoder_full"] >= gap["encoder_flow"]
    assert (gap > -3 * error).all()
    family = comparison.table["approximation_gap"]
    assert family["encoder"] > family["encoder_full"]


@pytest.mark.parametrize("guide", ["free", "semi_amortized"])
def test_without_amortisation_most_of_its_gap_is_closed(comparison: Comparison, guide: str) -> None:
    lost = comparison.table["amortisation_gap"]
    assert lost[guide] < lost["encoder"] / 2
    assert comparison.table.loc[guide, "bias"] < 0.25  # sd from NUTS: what the family itself loses is left
    assert comparison.gaps["converged"].mean() > 0.7


def test_it_prints_draws_and_saves(comparison: Comparison, tmp_path: Path) -> None:
    assert "gaps are means over 8 rows" in repr(comparison)
    written = {path.name for path in comparison.save(tmp_path / "out")}
    assert {"table.csv", "gaps.csv", "comparison.png", "portrait.png", "free.nc"} <= written
    gaps = pd.read_csv(tmp_path / "out" / "gaps.csv", index_col=["guide", "row"])
    pd.testing.assert_frame_equal(gaps, comparison.gaps, check_dtype=False)


def test_a_trained_decoder_is_taken_as_it_is_and_nuts_can_be_left_out() -> None:
    options: dict[str, Any] = {"steps": 30, "starts": 1, "progress": False}
    first = pyrometer.svi(VAE(2, "linear"), "encoder", X, steps=100, batch_size=100, progress=False)
    assert isinstance(first, RowFit)
    trained: Any = first.model
    found = pyrometer.compare(trained.frozen(), X, ["encoder_full", "auto_normal"], reference=None, **options)
    for fit in found.fits.values():
        assert isinstance(fit, RowFit)
        models: list[Any] = [fit.model, first.model]
        weights = [parameters_to_vector(model.network(fit.data.values).parameters()) for model in models]
        assert (weights[0] == weights[1]).all()
    assert found.table[["gap", "bias"]].isna().all(axis=None)


def test_the_rows_may_be_a_range_and_a_guide_added_under_a_name_known_gets_gaps_of_its_own(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 30, "starts": 1, "warmup": 50, "draws": 50, "chains": 2, "progress": False}
    found = pyrometer.compare(VAE(2, "linear"), X, {"a": "encoder", "b": "encoder"}, rows=range(3), **options)
    again = found.add({"b": "encoder_full"})
    assert again.gaps.loc["a"].equals(found.gaps.loc["a"])
    assert (again.gaps.loc["b", "elbo"] != found.gaps.loc["b", "elbo"]).all()
    again.save(tmp_path)
    loaded = pyrometer.load(tmp_path, VAE(2, "linear"))
    assert isinstance(loaded, Comparison)
    pd.testing.assert_frame_equal(loaded.gaps, again.gaps, check_dtype=False)


def test_an_interrupt_while_nuts_runs_keeps_the_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyrometer.inference.compare.comparison.amortisation_gaps", interrupted)
    found = pyrometer.compare(VAE(2, "linear"), X, ["encoder"], steps=30, starts=1, progress=False)
    assert list(found.fits) == ["encoder"]
    assert "interrupted before the gaps were known" in repr(found)
    found.plot()


def test_a_first_method_that_gives_no_fit_is_refused_in_one_line() -> None:
    def forgets(model: VAE, x: Any, *, seed: int, progress: bool, name: str) -> int:
        return 3

    options: dict[str, Any] = {"steps": 30, "starts": 1, "progress": False, "reference": None}
    with pytest.raises(InputError, match="it gave a int: a method gives a Fit"):
        pyrometer.compare(VAE(2, "linear"), X, {"own": forgets, "encoder": "encoder"}, **options)


def test_a_guide_that_fails_is_named_and_the_others_are_kept() -> None:
    def broken(model: VAE) -> None:
        raise RuntimeError("no such thing")

    options: dict[str, Any] = {"steps": 30, "starts": 1, "progress": False, "reference": None}
    found = pyrometer.compare(VAE(2, "linear"), X, {"encoder": "encoder", "own": broken}, **options)
    assert list(found.fits) == ["encoder"]
    assert "own" in found.skipped


@pytest.mark.parametrize("latent", [2, 10])
def test_the_bounds_of_a_bernoulli_decoder_rise_to_annealed_importance_sampling(latent: int) -> None:
    fit = pyrometer.svi(
        VAE(latent, "mlp", "bernoulli", hidden=(64,)), "encoder", X, steps=1500, batch_size=100, progress=False
    )
    assert isinstance(fit, RowFit)
    budget = Budget(draws=5000, chains=32, temperatures=300)
    rows = fit.target().take(slice(40))
    estimates = [estimate(rows, method, budget) for method in ("elbo", "iwae_5", "iwae_50", "ais")]
    means = [found.value.mean() for found in estimates]
    errors = [np.linalg.norm(found.se) / len(rows) for found in estimates]
    for (low, low_error), (high, high_error) in zip(
        zip(means, errors, strict=True), list(zip(means, errors, strict=True))[1:], strict=False
    ):
        assert low <= high + 3 * np.hypot(low_error, high_error)
    assert means[1] - means[0] > 5 * errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["svi", "em"]}, "rows share no continuous latent: svi alone fits them"),
        ({"reference": "cavi"}, "reference='cavi' is not for a model with latents a row only: choose nuts or None"),
        ({"guides": ["structured"]}, "model VAE has no guide 'structured'"),
        ({"rows": 0}, "rows=0 must be 1 or more"),
        ({"rows": None}, "rows must be numbers of rows from 0 to 1796"),
        ({"rows": np.int64(0)}, "rows=0 must be 1 or more"),
        ({"rows": [1, 2000]}, "rows must be numbers of rows from 0 to 1796"),
        ({"x_test": X * 16}, "wants entries within"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        pyrometer.compare(VAE(2, "linear", "bernoulli"), X, **{"guides": ["encoder"], **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_picture_takes_tables_colour_pictures_and_one_latent_unit() -> None:
    generator = np.random.default_rng(0)
    shapes = {"rows": (60, 5), "colours": (60, 3, 4, 4), "grey": (60, 1, 6, 6)}
    for what, shape in shapes.items():
        rows = generator.random(shape)
        fit = pyrometer.train(VAE(1, "mlp", hidden=(8,)), "encoder", rows, epochs=2, draws=2, progress=False)
        mask = generator.random(shape)[:4] < 0.5
        figures = [fit.plot(np.arange(60)), plot_plane(fit), plot_samples(fit, 5)]
        figures += [plot_completion(fit, rows[:4], mask, steps=4), figure_of(plot_losses, fit)]
        figures += [plot_interpolation(fit, [(rows[0], rows[1])], steps=3)]
        figures += [figure_of(plot_latent, fit, ["a", "b"] * 30), plot_reconstructions(fit, rows[:3])]
        for figure in figures:
            figure.draw_without_rendering()
        with pytest.raises(InputError, match="there are 3 labels for 60 rows"):
            figure_of(plot_latent, fit, [1, 2, 3])
        assert what
