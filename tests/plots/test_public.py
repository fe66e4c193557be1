"""The pictures of `pyrometer.plots`: they draw on the axes that they are given, and what they draw is true."""

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
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from pyrometer import InputError, plots
from pyrometer.inference.plots.drawing.figure import root_of
from pyrometer.inference.plots.drawing.looks import PALETTE, PLACES, REFERENCE, colours, looks
from pyrometer.inference.plots.losses import smoothed
from pyrometer.inference.plots.rows.densities import mass_levels
from pyrometer.inference.plots.rows.plane import plane_of, rows_of
from pyrometer.inference.plots.rows.predictive import counts_in, edges_of
from pyrometer.inference.plots.rows.responsibilities import COMPONENTS
from pyrometer.inference.runtime.arviz import kde
from pyrometer.models import GMM, VAE
from scipy.integrate import trapezoid
from torch import Tensor

mpl.use("Agg")
FEW: dict[str, Any] = {"steps": 80, "starts": 1, "draws": 120, "progress": False}
ROWS = 40
X = torch.linspace(-2, 2, ROWS, dtype=torch.float64)
Y = X + 0.3 * torch.randn(ROWS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def line(x: Tensor, y: Tensor) -> None:
    """y_n ~ Normal(mu_n, s), mu_n = a + b x_n: mu is derived, an entry a row, and stands outside the plate."""
    a, b, log_s = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in ("a", "b", "log_s"))
    mu = pyro.deterministic("mu", a + b * x)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(mu, log_s.exp()), obs=y)


@cache
def regression() -> pyrometer.Comparison:
    return pyrometer.compare(line, (X, Y), ["auto_normal", "auto_mvn", "auto_delta"], reference="auto_mvn", **FEW)


@cache
def clusters() -> pyrometer.Fit:
    """Five columns in units of their own, of which only the last three tell two components apart."""
    rng = np.random.default_rng(0)
    apart = np.array([[0, 0, 0, 0, 0], [0, 0, 4, -4, 4]])[rng.integers(0, 2, 150)]
    units = np.array([100, 1, 1, 0.01, 10])
    frame = pd.DataFrame((apart + rng.normal(size=(150, 5))) * units, columns=list("abcde"))
    return pyrometer.em(GMM(2), frame)


@cache
def one_column() -> pyrometer.Fit:
    return pyrometer.em(GMM(2), "galaxies")


def names_of(axes: Any) -> list[str]:
    """The scalars of panels."""
    return [axis.get_title(loc="center").replace("\n", "") for axis in np.ravel(axes)]


def closed(axes: Any) -> Any:
    """The axes, their figure closed."""
    plt.close(root_of(axes))
    return axes


def badness(comparison: pyrometer.Comparison) -> pd.Series:
    """The larger of |bias| and |log sd_ratio| over all fits, a scalar, the worst first."""
    table = comparison.parameters.drop(index=comparison.reference, level="fit")
    worst = np.fmax(table["bias"].abs(), np.log(table["sd_ratio"]).abs())
    return worst.groupby(level="scalar").max().sort_values(ascending=False)


def test_the_forest_and_the_densities_begin_with_the_worst_scalar() -> None:
    comparison = regression()
    expected = [name for name in badness(comparison).index if not name.startswith("mu")]
    assert names_of(closed(plots.plot_forest(comparison))) == expected
    assert names_of(closed(plots.plot_densities(comparison, num=2))) == expected[:2]


def test_without_a_reference_the_order_is_the_models() -> None:
    comparison = replace(regression(), reference=None, parameters=pd.DataFrame())
    assert names_of(closed(plots.plot_forest(comparison))) == ["a", "b", "log_s"]
    assert names_of(closed(plots.plot_forest(comparison["auto_mvn"]))) == ["a", "b", "log_s"]


def test_a_deterministic_with_an_entry_a_row_is_shown_where_it_is_asked_for_only() -> None:
    comparison = regression()
    worst = [name for name in badness(comparison).index if name.startswith("mu")]
    assert names_of(closed(plots.plot_forest(comparison, var_names="mu", num=5))) == worst[:5]
    assert names_of(closed(plots.plot_forest(comparison, var_names=["mu[3]", "a"])))[:2] != worst[:2]
    assert len(np.ravel(closed(plots.plot_forest(comparison, var_names=["mu"], num=None)))) == ROWS


@pytest.mark.parametrize("draw", [plots.plot_losses, plots.plot_evidence, plots.plot_khat])
def test_one_panel_is_drawn_on_the_axes_that_are_given(draw: Callable[..., Axes]) -> None:
    figure, (left, right) = plt.subplots(1, 2)
    plt.close(figure)
    assert draw(regression(), ax=right) is right
    assert right.lines
    assert not left.lines


@pytest.mark.parametrize("name", ["plot_forest", "plot_densities", "plot_fit", "plot_predictive"])
def test_panels_are_drawn_on_the_axes_that_are_given_or_in_place_of_one(name: str) -> None:
    figure, axes = plt.subplots(2, 2)
    plt.close(figure)
    found = getattr(plots, name)(regression(), ax=axes)
    assert list(found) == list(axes.ravel())[: len(found)]
    assert len(found) == 3
    figure, (left, right) = plt.subplots(1, 2)
    plt.close(figure)
    inside = getattr(plots, name)(regression(), ax=right)
    assert len(inside) == 3
    assert all(axis.figure is figure and axis.get_position().x0 > left.get_position().x1 for axis in inside)
    with pytest.raises(InputError, match="3 panels are drawn, and there are 2 axes"):
        getattr(plots, name)(regression(), ax=[left, right])


def test_figsize_is_that_of_a_new_figure_which_pyplot_shows() -> None:
    before = set(plt.get_fignums())
    axis = plots.plot_losses(regression(), figsize=(5.0, 2.5))
    assert tuple(root_of(axis).get_size_inches()) == (5.0, 2.5)
    assert len(set(plt.get_fignums()) - before) == 1
    closed(axis)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "var_names": (lambda: plots.plot_forest(regression(), var_names=["c"]), "no variable 'c': choose from a, b"),
    "scalar": (lambda: plots.plot_densities(regression(), var_names="mu[99]"), "no variable 'mu[99]'"),
    "num": (lambda: plots.plot_forest(regression(), num=0), "num=0 must be a whole number"),
    "losses": (lambda: plots.plot_losses(untrained()), "no fit was trained step by step"),
    "khat": (lambda: plots.plot_khat(regression()["auto_delta"]), "no fit has importance weights"),
    "evidence": (lambda: plots.plot_evidence(regression()["auto_delta"]), "no fit has an evidence or an ELBO"),
    "mixture": (lambda: plots.plot_responsibilities(regression()), "model line is no mixture"),
    "latent": (lambda: plots.plot_latent(regression()), "model line has latents that rows share"),
    "decoded": (lambda: plots.plot_decoded(regression()), "model line has latents that rows share"),
    "fit": (lambda: plots.plot_pairs(regression(), "nuts"), "fit='nuts' is not one of auto_normal, auto_mvn"),
    "pairs": (lambda: plots.plot_pairs(regression(), var_names="a"), "only 1 such parameter"),
    "site": (lambda: plots.plot_predictive(regression(), var_names="z"), "no observed site 'z': choose from y"),
    "column": (lambda: plots.plot_predictive(clusters(), var_names="z"), "no column 'z': choose from a, b, c, d, e"),
    "shown": (lambda: plots.plot_forest(3), "a int cannot be drawn: give a Comparison or a Fit"),
    "ax": (lambda: plots.plot_losses(regression(), ax=3), "ax=3 must be matplotlib Axes"),
}


def untrained() -> pyrometer.Fit:
    return replace(regression()["auto_mvn"], losses=np.zeros(0))


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_is_refused_in_one_line_and_leaves_nothing_open(what: str) -> None:
    call, message = REFUSED[what]
    before, settings = plt.get_fignums(), dict(mpl.rcParams)
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert plt.get_fignums() == before
    assert dict(mpl.rcParams) == settings


def test_a_method_has_one_look_whatever_is_beside_it_and_the_reference_is_black() -> None:
    alone = looks(["auto_normal"])["auto_normal"]
    for others in (["nuts", "mine"], ["mean_field", "structured", "auto_mvn"], ["yours", "bam", "dadvi"]):
        assert looks([*others, "auto_normal"], others[0])["auto_normal"] == alone
        assert looks([*others, "auto_normal"], others[0])[others[0]].colour == REFERENCE
    known = list(PLACES)
    assert all(looks(known)[name] == looks([name])[name] for name in known)
    assert len({(look.colour, str(look.dashes)) for look in looks(known).values()}) == len(known)


def test_names_of_ones_own_keep_their_look_and_are_told_apart() -> None:
    names = [f"own {i}" for i in range(20)]
    found = looks(names)
    assert len({(look.colour, str(look.dashes)) for look in found.values()}) == len(names)
    assert len({look.colour for look in looks(names[: len(PALETTE)]).values()}) == len(PALETTE)
    assert looks([*names, "nuts"], "nuts")["own 3"] == found["own 3"]


def test_every_picture_of_two_comparisons_has_a_method_in_the_same_colour() -> None:
    fits = regression().fits
    fewer = replace(regression(), fits={name: fits[name] for name in ("auto_mvn", "auto_normal")})
    colour = looks(["auto_normal"])["auto_normal"].colour
    for comparison in (regression(), fewer):
        for draw in (plots.plot_losses, plots.plot_densities, plots.plot_forest, plots.plot_evidence, plots.plot_khat):
            drawn = {str(each.get_color()) for axis in np.ravel(closed(draw(comparison))) for each in axis.lines}
            assert colour in drawn, draw.__name__


def test_a_density_is_the_kernel_density_of_the_draws() -> None:
    axis = np.ravel(closed(plots.plot_densities(regression(), var_names="b")))[0]
    for name in ("auto_mvn", "auto_normal"):
        drawn = next(each for each in axis.lines if str(each.get_label()).startswith(name))
        grid, heights = kde(regression()[name].draws()["b"])
        np.testing.assert_allclose(np.stack(drawn.get_data()), np.stack([grid, heights]))
        assert trapezoid(heights, grid) == pytest.approx(1, abs=0.02)
    point = next(each for each in axis.lines if each.get_label() == "auto_delta")
    assert np.asarray(point.get_xdata())[0] == regression()["auto_delta"].draws()["b"][0]


def test_regions_of_pairs_hold_the_mass_that_they_say() -> None:
    side = np.linspace(-5, 5, 201)
    x, y = np.meshgrid(side, side)
    heights = np.exp(-(x**2 + y**2) / 2)
    levels = mass_levels(heights, (0.94, 0.5))
    np.testing.assert_allclose(-2 * np.log(levels), -2 * np.log1p(-np.array([0.94, 0.5])), rtol=0.01)  # chi-squared, 2


def test_pairs_are_those_of_the_worst_fit_below_the_diagonal() -> None:
    square = closed(plots.plot_pairs(regression(), "auto_normal", var_names=["a", "b", "log_s"]))
    assert square.shape == (2, 2)
    assert not square[0, 1].axison
    labels = [square[1, 0].get_xlabel(), square[1, 1].get_xlabel(), square[1, 1].get_ylabel()]
    assert square[1, 0].get_ylabel() in {"a", "b", "log_s"} - {labels[0], labels[1]}
    colour = colours(["auto_normal"])["auto_normal"]
    dots = next(each for each in square[1, 0].lines if each.get_color() == colour)
    drawn = regression()["auto_normal"].draws()[labels[0]]
    np.testing.assert_array_equal(np.sort(np.asarray(dots.get_xdata())), np.sort(drawn))


@pytest.mark.parametrize("names", [["a", "b"], ["b", "a"]])
def test_pairs_stand_in_the_order_in_which_they_are_asked_for(names: list[str]) -> None:
    axis = closed(plots.plot_pairs(regression(), "auto_normal", var_names=names))
    assert [axis.get_xlabel(), axis.get_ylabel()] == names


def test_the_loss_is_its_running_mean_with_the_mark_and_the_sentence_of_its_end() -> None:
    fits = dict(regression().fits)
    fits["auto_normal"] = replace(fits["auto_normal"], converged=False, why="a thousand steps gained 9 nats")
    fits["auto_mvn"] = replace(fits["auto_mvn"], converged=True, why="they gained nothing")
    axis = closed(plots.plot_losses(replace(regression(), fits=fits)))
    said = " ".join(text.get_text() for text in root_of(axis).legends[0].get_texts())
    assert "auto_normal: not converged: a thousand steps gained 9 nats" in said
    assert "auto_mvn: converged: they gained nothing" in said
    for name, fill in (("auto_normal", "none"), ("auto_mvn", "full")):
        loss, colour = fits[name].losses, looks(fits, "auto_mvn")[name].colour
        drawn, end = (each for each in axis.lines if each.get_color() == colour)
        np.testing.assert_allclose(drawn.get_ydata(), smoothed(loss))
        assert (np.ravel(end.get_xdata())[0], end.get_fillstyle()) == (len(loss) - 1, fill)


def test_evidence_and_khat_stand_where_the_table_has_them_and_a_stray_is_an_arrow() -> None:
    comparison = regression()
    table = comparison.table
    khat = closed(plots.plot_khat(comparison))
    marks = [float(np.ravel(each.get_xdata())[0]) for each in khat.lines if each.get_markersize() == 7]
    np.testing.assert_allclose(marks, table["khat"].dropna())
    evidence = closed(plots.plot_evidence(comparison))
    drawn = {float(value) for each in evidence.lines for value in np.ravel(each.get_xdata())}
    assert set(table["log_evidence"].dropna()) | set(table["elbo"].dropna()) <= drawn
    stray = table.copy()
    stray.loc["auto_normal", "elbo"] = -1e6
    axis = closed(plots.plot_evidence(replace(comparison, table=stray)))
    assert axis.get_xlim()[0] > -1e4
    assert sum(each.get_marker() == "<" for each in axis.lines) == 1
    assert "-1000000.0" in {text.get_text() for text in axis.texts}


def test_a_fit_alone_has_its_own_evidence_and_khat() -> None:
    fit = regression()["auto_normal"]
    found = pyrometer.log_evidence(fit)
    khat = closed(plots.plot_khat(fit))
    assert found.khat in [float(np.ravel(each.get_xdata())[0]) for each in khat.lines if each.get_markersize() == 7]
    drawn = [np.ravel(each.get_xdata()) for each in closed(plots.plot_evidence(fit)).lines]
    assert found.value in [float(each[0]) for each in drawn if len(each)]


def test_many_columns_are_shown_in_the_plane_that_tells_components_apart_as_its_axes_say() -> None:
    fit = clusters()
    rows, components = rows_of(fit.data), fit.predict().to_numpy()
    plane = plane_of(fit)

    first, second = (rows[components == k] for k in (0, 1))
    apart, residuals = first.mean(0) - second.mean(0), np.concatenate([first - first.mean(0), second - second.mean(0)])
    within = residuals.T @ residuals / len(rows)
    along = plane.directions[0]
    distance = abs(apart @ along) / np.sqrt(along @ within @ along)
    assert distance == pytest.approx(np.sqrt(apart @ np.linalg.solve(within, apart)))  # Mahalanobis: none is larger
    assert plane.labels[0].startswith("discriminant 1 (100%)\n")
    assert plane.labels[1].startswith("principal direction 1 of the rest\n")
    assert {"c", "d", "e"} == {word[1:] for word in plane.labels[0].partition("\n")[2].split()}
    covariance = np.cov(rows.T)
    np.testing.assert_allclose(plane.of_covariances(covariance), np.cov(plane.of(rows).T))
    axis = closed(plots.plot_fit(fit))
    assert (axis.get_xlabel(), axis.get_ylabel()) == plane.labels
    data = next(each for each in axis.lines if each.get_label() == "data")
    np.testing.assert_allclose(np.stack(data.get_data(), 1), plane.of(rows))


def test_two_columns_are_their_own_plane() -> None:
    fit = pyrometer.em(GMM(2), "faithful")
    plane = plane_of(fit)
    assert plane.labels == ("eruptions", "waiting")
    np.testing.assert_array_equal(plane.of(rows_of(fit.data)), rows_of(fit.data))


def test_rows_have_the_colours_that_they_are_of_and_those_in_doubt_are_ringed() -> None:
    fit = clusters()
    axis = closed(plots.plot_responsibilities(fit))
    shares, plane = fit.responsibilities().to_numpy(), plane_of(fit)
    expected = shares @ np.array([to_rgb(colour) for colour in COMPONENTS[:2]])
    found = np.concatenate([np.asarray(dots.get_offsets()) for dots in axis.collections])
    colours = np.concatenate([np.asarray(dots.get_facecolors())[:, :3] for dots in axis.collections])
    order = np.concatenate([np.flatnonzero(shares.argmax(1) == k) for k in (0, 1)])
    np.testing.assert_allclose(found, plane.of(rows_of(fit.data))[order])
    np.testing.assert_allclose(colours, expected[order], atol=1e-6)
    widths = np.concatenate([np.ravel(dots.get_linewidths()) for dots in axis.collections])
    np.testing.assert_array_equal(widths == 1.0, shares.max(1)[order] < 0.8)


def test_one_column_has_its_responsibilities_as_curves() -> None:
    fit = one_column()
    axis = closed(plots.plot_responsibilities(fit))
    curves = [each for each in axis.lines if str(each.get_label()).startswith("component")]
    assert len(curves) == 2
    at = np.asarray(curves[0].get_xdata())
    expected = fit.responsibilities(at).to_numpy()
    np.testing.assert_allclose(np.stack([each.get_ydata() for each in curves], 1), expected, atol=1e-6)


def test_a_check_of_rows_that_are_alike_counts_them() -> None:
    axes = closed(plots.plot_predictive(clusters(), var_names=["c", "a"]))
    assert [axis.get_xlabel() for axis in axes] == ["c", "a"]
    seen = rows_of(clusters().data)[:, 2]
    dots = next(each for each in axes[0].lines if each.get_marker() == ".")
    assert np.asarray(dots.get_ydata()).sum() == len(seen)
    drawn = np.random.default_rng(0).normal(size=(50, 30))
    edges = edges_of(drawn[0], drawn)
    np.testing.assert_array_equal(counts_in(drawn, edges)[7], np.histogram(drawn[7], edges)[0])
    whole = edges_of(np.arange(90.0), np.arange(90.0)[None].repeat(4, 0))
    assert (whole % 1 == 0.5).all()
    assert len(whole) <= 42


def walk(x: Tensor) -> None:
    """A site for each of five numbers, and no plate: x_t ~ Normal(x_{t-1}, s)."""
    s = pyro.sample("s", dist.HalfNormal(1.0))
    for t in range(5):
        pyro.sample(f"x_{t}", dist.Normal(x[t - 1] if t else torch.zeros(()), s), obs=x[t])


def test_sites_of_one_number_each_stand_in_one_panel_in_their_order() -> None:
    x = torch.tensor([0.3, 1.0, 0.4, -0.2, 0.5])
    axis = closed(plots.plot_predictive(pyrometer.svi(walk, "auto_normal", x, **FEW)))
    assert axis.get_ylabel() == "x_0 … x_4"
    seen = next(each for each in axis.lines if each.get_marker() == ".")
    np.testing.assert_allclose(seen.get_ydata(), x)
    assert all(bar.get_height() > 0 for bar in axis.patches)


def test_latent_codes_stand_on_the_axes_that_are_given() -> None:
    rows = np.random.default_rng(0).random((30, 5))
    fit = pyrometer.train(VAE(2, "linear"), "encoder", rows, epochs=2, draws=2, progress=False)
    figure, axis = plt.subplots()
    plt.close(figure)
    assert plots.plot_latent(fit, ax=axis) is axis
    np.testing.assert_allclose(np.asarray(axis.collections[0].get_offsets()), fit.encode(), rtol=1e-5)


def test_what_codes_decode_to_is_the_decoders_mean_over_their_plane() -> None:
    rows = np.random.default_rng(0).random((30, 6, 6))
    fit = pyrometer.train(VAE(2, "linear"), "encoder", rows, epochs=2, draws=2, progress=False)
    figure, (_, right) = plt.subplots(1, 2)
    plt.close(figure)
    axis = plots.plot_decoded(fit, number=9, ax=right)
    assert root_of(axis) is figure
    assert not right.axison
    low, high = np.quantile(fit.encode(), [0.01, 0.99], axis=0)
    corner = fit.decode(np.array([[low[0], high[1]]]))[0]  # the first unit to the right, the second up
    drawn = 1 - np.asarray(axis.images[0].get_array())[:6, :6, 0]
    np.testing.assert_allclose(drawn, corner.clip(0, 1), atol=1e-5)
