"""The pictures hold what they should, and leave matplotlib as it was."""

from collections.abc import Callable
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from pyrometer.inference.plots import plot, plot_fit, plot_forest, plot_losses
from pyrometer.inference.plots.densities import FAINT, _points, density
from pyrometer.inference.plots.forest import parameters
from pyrometer.inference.plots.losses import limits, smoothed
from pyrometer.models import BayesianGMM
from torch import Tensor

mpl.use("Agg")
GUIDES = ["auto_normal", "structured", "auto_delta"]


@pytest.fixture(scope="module")
def two_columns() -> pyrometer.Comparison:
    return pyrometer.compare(
        BayesianGMM(2), "faithful", GUIDES, reference="structured", steps=60, starts=1, draws=30, progress=False
    )


def poisson(x: Tensor) -> None:
    """x_n ~ Poisson(rate); its only parameter has no components."""
    rate = pyro.sample("rate", dist.Gamma(1.0, 0.1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Poisson(rate), obs=x)


@pytest.fixture(scope="module")
def counts() -> pyrometer.Comparison:
    x = torch.poisson(torch.full((100,), 4.0), generator=torch.Generator().manual_seed(0))
    return pyrometer.compare(
        poisson, x, ["auto_normal", "auto_delta"], reference=None, steps=60, starts=1, draws=30, progress=False
    )


def titles(figure: Figure) -> list[str]:
    return [axis.get_title(loc=loc) for axis in figure.axes for loc in ("left", "center") if axis.get_title(loc=loc)]


@pytest.mark.parametrize("draw", [plot, plot_fit, plot_losses, plot_forest])
@pytest.mark.parametrize("case", ["two_columns", "counts"])
def test_every_picture_draws_and_leaves_matplotlib_alone(
    draw: Callable[[pyrometer.Comparison], Figure], case: str, request: pytest.FixtureRequest
) -> None:
    comparison = request.getfixturevalue(case)
    before, open_figures = dict(mpl.rcParams), plt.get_fignums()
    figure = draw(comparison)
    figure.canvas.draw()
    assert isinstance(figure, Figure)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_figures


def test_the_fit_has_a_panel_a_method_labelled_by_columns(two_columns: pyrometer.Comparison) -> None:
    figure = plot_fit(two_columns)
    assert titles(figure) == list(two_columns.fits)
    assert {axis.get_xlabel() for axis in figure.axes} == {"eruptions"}
    assert "waiting" in {axis.get_ylabel() for axis in figure.axes}


def test_ellipses_stand_at_the_posterior_mean_with_draws_behind_unless_it_is_a_point(
    two_columns: pyrometer.Comparison,
) -> None:
    for axis, (name, fit) in zip(plot_fit(two_columns).axes, two_columns.fits.items(), strict=False):
        ellipses = [patch for patch in axis.patches if isinstance(patch, Ellipse)]
        behind = 0 if fit.is_point else 2 * FAINT
        assert len(ellipses) == 2 * 2 + behind, name
        inner, outer = ellipses[behind : behind + 2]
        np.testing.assert_allclose(inner.center, fit.draws()["locs"].mean(0)[0])
        # semi-axes are root eigenvalues of the covariance: their product is the root of its determinant
        determinant = np.linalg.det(fit.draws()["covariances"].mean(0)[0])
        assert inner.width * inner.height / 4 == pytest.approx(np.sqrt(determinant))
        assert outer.width == pytest.approx(2 * inner.width)


def test_the_density_of_counts_is_evaluated_at_whole_numbers_and_sums_to_one(counts: pyrometer.Comparison) -> None:
    fit = counts["auto_delta"]
    points = _points(np.arange(0.0, 40.0))
    assert (points == points.round()).all()
    assert points.min() == 0
    assert density(fit, points).sum() == pytest.approx(1, abs=1e-6)


def test_the_forest_shows_each_covariance_once_and_no_inner_workings(two_columns: pyrometer.Comparison) -> None:
    labels = [parameter.label.replace("\n", "") for parameter in parameters(two_columns)]
    one = ["weights[0]", "locs[0, eruptions]", "locs[0, waiting]", "covariances[0, eruptions, eruptions]"]
    one += ["covariances[0, eruptions, waiting]", "covariances[0, waiting, waiting]"]
    assert sorted(labels[:6]) == sorted(one)
    assert len(labels) == 12
    assert sorted(titles(plot_forest(two_columns))) == sorted(p.label for p in parameters(two_columns))


def test_the_forest_draws_the_mean_of_each_method(two_columns: pyrometer.Comparison) -> None:
    parameter, axis = parameters(two_columns)[0], plot_forest(two_columns).axes[0]
    drawn = [np.asarray(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(np.concatenate(drawn), [parameter.of(fit).mean() for fit in two_columns.fits.values()])


def test_the_losses_have_a_line_for_each_trained_fit_only(two_columns: pyrometer.Comparison) -> None:
    fits = dict(two_columns.fits)
    fits["structured"] = replace(fits["structured"], losses=np.zeros(0))
    axis = plot_losses(replace(two_columns, fits=fits)).axes[0]
    assert [line.get_label() for line in axis.lines if not str(line.get_label()).startswith("_")] == [
        "auto_normal",
        "auto_delta",
    ]


def test_an_early_spike_does_not_squash_the_losses() -> None:
    loss = np.concatenate([[1e9], np.linspace(200, 100, 999)])
    low, high = limits({"a": loss}, {"a": smoothed(loss)})
    assert 90 < low < 101
    assert 180 < high < 210


def test_a_running_mean_keeps_a_straight_line() -> None:
    line = np.arange(1000.0)
    np.testing.assert_allclose(smoothed(line)[50:-50], line[50:-50], atol=0.51)  # an even window leans half a step
