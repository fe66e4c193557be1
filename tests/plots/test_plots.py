"""The pictures hold what they should, and leave matplotlib as it was."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from pyrometer.inference.plots import comparison as parts
from pyrometer.inference.plots.comparison import plot, plot_fit
from pyrometer.inference.plots.drawing.compared import compared
from pyrometer.inference.plots.drawing.figure import figure_of
from pyrometer.inference.plots.forest import plot_forest
from pyrometer.inference.plots.losses import limits, plot_losses, smoothed
from pyrometer.inference.plots.parameters import chosen
from pyrometer.inference.plots.rows.densities import FAINT, _points, density, has_density
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


def regression(x: Tensor, y: Tensor) -> None:
    """y_n ~ Normal(a + x_n b, s)."""
    a, b, s = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in ("a", "b", "log_s"))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(a + x * b, s.exp()), obs=y)


def logistic(x: Tensor, y: Tensor) -> None:
    """y_n ~ Bernoulli(sigmoid(x_n b))."""
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x * b), obs=y)


def schools(y: Tensor, sigma: Tensor) -> None:
    """Eight schools, non-centred: a latent a row, and a variable of the rows derived from it."""
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def process(t: Tensor, y: Tensor) -> None:
    """A Gaussian process: no rows."""
    length = pyro.sample("length", dist.LogNormal(0.0, 1.0))
    covariance = torch.exp(-(((t[:, None] - t) / length) ** 2)) + 0.1 * torch.eye(len(t))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(t)), covariance), obs=y)


def two_sites(x: Tensor, y: Tensor, c: Tensor) -> None:
    """A number and a category observed of each row."""
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x * b, 1.0), obs=y)
        pyro.sample("c", dist.Categorical(p), obs=c)


def own_rows(y: Tensor) -> None:
    """One table, but a model that only knows its own rows."""
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 40):
        pyro.sample("y", dist.Normal(b * torch.linspace(-2, 2, 40), 1.0), obs=y)


X = torch.linspace(-2, 2, 40)
NOISE = torch.randn(40, generator=torch.Generator().manual_seed(0))
Y, ONES = X + 0.3 * NOISE, (X + NOISE > 0).float()
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
CASES: dict[str, tuple[Callable[..., None], Any]] = {
    "regression": (regression, (X, Y)),
    "logistic": (logistic, (X, ONES)),
    "schools": (schools, (torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]), SIGMA)),
    "process": (process, (X, Y)),
    "two_sites": (two_sites, (X, Y, (X + 2).round().clamp(max=2))),
    "own_rows": (own_rows, Y),
}


@cache
def fitted(case: str) -> pyrometer.Comparison:
    model, x = CASES[case]
    options: dict[str, Any] = {"steps": 40, "starts": 1, "draws": 30, "progress": False}
    return pyrometer.compare(model, x, ["auto_normal", "auto_delta"], reference=None, **options)


def titles(figure: Figure) -> list[str]:
    return [axis.get_title(loc=loc) for axis in figure.axes for loc in ("left", "center") if axis.get_title(loc=loc)]


@pytest.mark.parametrize("draw", [plot, plot_fit, plot_losses, plot_forest])
@pytest.mark.parametrize("case", ["two_columns", "counts"])
def test_every_picture_draws_and_leaves_matplotlib_alone(
    draw: Callable[[pyrometer.Comparison], Figure], case: str, request: pytest.FixtureRequest
) -> None:
    comparison = request.getfixturevalue(case)
    before, open_figures = dict(mpl.rcParams), plt.get_fignums()
    figure = figure_of(draw, comparison)
    figure.canvas.draw()
    assert isinstance(figure, Figure)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_figures


def test_the_fit_has_a_panel_a_method_labelled_by_columns(two_columns: pyrometer.Comparison) -> None:
    figure = figure_of(plot_fit, two_columns)
    assert titles(figure) == list(two_columns.fits)
    assert {axis.get_xlabel() for axis in figure.axes} == {"eruptions"}
    assert "waiting" in {axis.get_ylabel() for axis in figure.axes}


def test_ellipses_stand_at_the_posterior_mean_with_draws_behind_unless_it_is_a_point(
    two_columns: pyrometer.Comparison,
) -> None:
    for axis, (name, fit) in zip(figure_of(plot_fit, two_columns).axes, two_columns.fits.items(), strict=False):
        behind = [line for line in axis.lines if str(line.get_label()).startswith("1 sd")]
        assert len(behind) == (0 if fit.is_point else 2 * FAINT), name
        around = [line for line in axis.lines if str(line.get_label()).startswith("components")]
        ellipses = [np.stack(line.get_data(), 1)[:-1] for line in around]
        assert len(ellipses) == 2 * 2, name
        loc, covariance = fit.draws()["locs"].mean(0)[0], fit.draws()["covariances"].mean(0)[0]
        for deviations, ellipse in ((1, ellipses[0]), (2, ellipses[2])):
            np.testing.assert_allclose(ellipse.mean(0), loc)
            away = ellipse - loc
            distances = np.einsum("pi,ij,pj->p", away, np.linalg.inv(covariance), away)  # Mahalanobis, squared
            np.testing.assert_allclose(distances, deviations**2)


def test_the_density_of_counts_is_evaluated_at_whole_numbers_and_sums_to_one(counts: pyrometer.Comparison) -> None:
    fit = counts["auto_delta"]
    points = _points(np.arange(0.0, 40.0))
    assert (points == points.round()).all()
    assert points.min() == 0
    assert density(fit, points).sum() == pytest.approx(1, abs=1e-6)


def test_the_forest_shows_each_covariance_once_and_no_inner_workings(two_columns: pyrometer.Comparison) -> None:
    found = chosen(compared(replace(two_columns, reference=None, parameters=pd.DataFrame())))
    labels = [parameter.name for parameter in found]
    one = ["weights[0]", "locs[0, eruptions]", "locs[0, waiting]", "covariances[0, eruptions, eruptions]"]
    one += ["covariances[0, eruptions, waiting]", "covariances[0, waiting, waiting]"]
    assert sorted(labels[:6]) == sorted(one)
    assert len(labels) == 12


def test_the_forest_draws_the_mean_of_each_method(two_columns: pyrometer.Comparison) -> None:
    parameter, axis = chosen(compared(two_columns))[0], figure_of(plot_forest, two_columns).axes[0]
    drawn = [np.asarray(line.get_xdata()) for line in axis.lines if line.get_marker() not in ("None", "<", ">")]
    np.testing.assert_allclose(np.concatenate(drawn), [draws.mean() for draws in parameter.draws.values()])


def test_the_losses_have_a_line_for_each_trained_fit_only(two_columns: pyrometer.Comparison) -> None:
    fits = dict(two_columns.fits)
    fits["structured"] = replace(fits["structured"], losses=np.zeros(0))
    axis = figure_of(plot_losses, replace(two_columns, fits=fits)).axes[0]
    assert [line.get_label() for line in axis.lines if not str(line.get_label()).startswith("_")] == [
        "auto_normal",
        "auto_delta",
    ]


def test_an_early_spike_does_not_squash_the_losses() -> None:
    loss = np.concatenate([[1e9], np.linspace(200, 100, 999)])
    low, high = limits([loss])
    assert 90 < low < 101
    assert 180 < high < 210


def test_a_running_mean_keeps_a_straight_line() -> None:
    line = np.arange(1000.0)
    np.testing.assert_allclose(smoothed(line)[50:-50], line[50:-50], atol=0.51)  # an even window leans half a step


@pytest.mark.parametrize("case", CASES)
def test_a_model_without_a_density_of_new_rows_has_a_predictive_panel_a_method_and_site(case: str) -> None:
    comparison = fitted(case)
    first = comparison["auto_normal"]
    assert not has_density(first)
    figure = figure_of(plot_fit, comparison)
    figure.draw_without_rendering()
    sites = [site.name for site in first.structure.observed]
    assert titles(figure)[: len(sites) * 2] == list(comparison.fits) * len(sites)
    assert not messages(plot(comparison))
    panel = figure.axes[0]
    assert len(panel.patches) + len(panel.collections) >= 2  # intervals of 94 and 50 %


def test_the_predictive_panel_shows_what_was_observed_once() -> None:
    panel = figure_of(plot_fit, fitted("schools")).axes[0]
    seen = next(np.asarray(line.get_ydata()) for line in panel.lines if line.get_marker() == ".")
    np.testing.assert_allclose(np.sort(seen), np.sort(CASES["schools"][1][0]))
    bars = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    assert len(bars) == 2 * len(seen)
    wide, narrow = bars[: len(seen)], bars[len(seen) :]
    for outer, inner in zip(wide, narrow, strict=True):
        assert outer.get_y() < inner.get_y() < inner.get_y() + inner.get_height() < outer.get_y() + outer.get_height()


def test_zeros_and_ones_are_shown_as_shares_by_predicted_probability() -> None:
    panel = figure_of(plot_fit, fitted("logistic")).axes[0]
    diagonal, shares = panel.lines
    assert list(np.asarray(diagonal.get_xdata())) == [0, 1]
    assert np.asarray(shares.get_ydata()).mean() == pytest.approx(ONES.mean().item())  # four groups of ten
    assert panel.get_xlabel() == "predicted probability of 1"


def test_the_forest_leaves_out_rows_own_variables_whatever_their_plate_is_called() -> None:
    variables = {parameter.variable for parameter in chosen(compared(fitted("schools")))}
    assert {"mu", "tau"} <= variables
    assert "eta" not in variables


@pytest.mark.parametrize("broken", ["draw_densities", "draw_losses", "draw_forest", "has_density"])
def test_a_part_that_fails_says_why_and_leaves_the_others(
    two_columns: pyrometer.Comparison, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no ink\nat all")

    whole = plot(two_columns)
    monkeypatch.setattr(parts, broken, fail)
    figure = plot(two_columns)
    figure.draw_without_rendering()
    assert len(messages(figure)) == 1
    assert all("not drawn: ValueError: no ink" in text.replace("\n", " ") for text in messages(figure))
    assert 4 <= len(figure.axes) < len(whole.axes)


def broken(x: Tensor, y: Tensor) -> None:
    raise RuntimeError("no such thing")


def test_a_method_that_fails_leaves_the_panels_of_the_others() -> None:
    comparison = fitted("regression")
    fits = dict(comparison.fits)
    fits["auto_delta"] = replace(fits["auto_delta"], model=broken)
    figure = figure_of(plot_fit, replace(comparison, fits=fits))
    figure.draw_without_rendering()
    good, bad = figure.axes[:2]
    assert good.collections or good.patches
    assert any("no such thing" in " ".join(text.get_text().split()) for text in bad.texts)


def test_a_fit_alone_is_drawn_too() -> None:
    figure = plot(fitted("regression")["auto_normal"])
    assert titles(figure)[:2] == ["auto_normal", "Training: minus the ELBO"]
    assert not messages(figure)


def messages(figure: Figure) -> list[str]:
    """The grey lines in place of parts that failed, of all sub-figures."""

    def texts(part: Figure | SubFigure) -> list[str]:
        own = [text.get_text() for holder in (part, *part.axes) for text in holder.texts]
        return own + [text for child in part.subfigs for text in texts(child)]

    return list(dict.fromkeys(text for text in texts(figure) if text.startswith("not drawn")))
