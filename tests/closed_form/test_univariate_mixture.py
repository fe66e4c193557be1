"""The mixture of Blei, Kucukelbir and McAuliffe (2017): its updates, its bound, and its guides."""

import itertools
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pyrometer import datasets
from pyrometer.errors import InputError
from pyrometer.inference.closed_form import cavi
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.plots.comparison import plot
from pyrometer.inference.svi.svi import svi
from pyrometer.models import UnivariateMixture

FRAME = datasets.univariate_blobs(300, 3, seed=5)
X = FRAME.to_numpy()[:, 0]


def by_hand(x: np.ndarray, phi: np.ndarray, sigma: float, steps: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """The paper's algorithm 2 as printed, sd = 1, and its ELBO (eq. 21) term by term."""
    elbos = []
    for _ in range(steps):
        s2 = 1 / (1 / sigma**2 + phi.sum(0))
        m = phi.T @ x * s2
        logits = np.outer(x, m) - (m**2 + s2) / 2
        phi = np.exp(logits - np.logaddexp.reduce(logits, 1, keepdims=True))
        log_prior = -0.5 * np.log(2 * np.pi * sigma**2) - (m**2 + s2) / (2 * sigma**2)
        log_rows = -0.5 * np.log(2 * np.pi) - ((x[:, None] - m) ** 2 + s2) / 2 - np.log(len(m))
        entropy = 0.5 * (np.log(2 * np.pi * s2) + 1).sum() - (phi * np.log(np.maximum(phi, 1e-300))).sum()
        elbos.append(float(log_prior.sum() + (phi * log_rows).sum() + entropy))
    return m, s2, elbos


def test_the_updates_and_the_bound_are_the_papers() -> None:
    start = np.random.default_rng(0).dirichlet(np.ones(3), len(X))
    fit = cavi(UnivariateMixture(3, sigma=4.0), X, responsibilities=start, max_steps=30, tol=0.0, draws=10)
    m, s2, elbos = by_hand(X, start, 4.0, 30)
    assert np.allclose(-fit.losses, elbos[: len(fit.losses)], rtol=1e-10)
    assert np.allclose(fit.params["locs_loc"], m, rtol=1e-8)
    assert np.allclose(fit.params["locs_scale"] ** 2, s2, rtol=1e-8)


def test_the_bound_never_falls_and_is_the_mean_of_its_draws() -> None:
    fit = cavi(UnivariateMixture(3, sd=0.7), FRAME)
    assert (np.diff(fit.losses) <= 0).all()
    error = fit.elbo_draws.std(ddof=1) / math.sqrt(len(fit.elbo_draws))
    assert abs(fit.elbo_draws.mean() + fit.losses[-1]) < 5 * error


def test_log_weights_are_those_of_the_models_own_density() -> None:
    model = UnivariateMixture(3)
    fit = cavi(model, FRAME, draws=3)
    density = Density(model, fit.data)
    order = fit.params["locs_loc"].argsort().argsort()
    for draw in range(3):
        locs = fit.sites()["locs"][draw][order]
        log_q = torch.distributions.Normal(fit.params["locs_loc"], fit.params["locs_scale"]).log_prob(locs).sum()
        assert (density.log_joint({"locs": locs}) - log_q).item() == pytest.approx(fit.log_weights[draw], rel=1e-10)


def test_the_bound_lies_below_the_evidence_of_all_assignments() -> None:
    x, sigma = np.array([-2.0, -1.5, 3.0, 3.5]), 3.0
    fit = cavi(UnivariateMixture(2, sigma=sigma), x)
    log_joint = []
    for z in itertools.product((0, 1), repeat=4):
        same = np.equal.outer(z, z)
        covariance = torch.as_tensor(np.eye(4) + sigma**2 * same)
        normal = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance)
        log_joint.append(normal.log_prob(torch.as_tensor(x)).item() - 4 * math.log(2))
    evidence = np.logaddexp.reduce(log_joint)
    # Well apart, q holds one of the 2! equal modes: it misses log 2 and little more.
    assert evidence - math.log(2) - 0.1 < -fit.losses[-1] < evidence


def test_svi_reaches_cavis_bound() -> None:
    model = UnivariateMixture(3)
    exact = cavi(model, FRAME)
    factored = svi(model, "full_mean_field", FRAME, steps=1000, lr=0.05, draws=200, progress=False)
    assert factored.elbo_draws.mean() == pytest.approx(-exact.losses[-1], abs=0.5)
    summed_out = svi(model, "mean_field", FRAME, steps=500, draws=200, progress=False)
    assert summed_out.elbo_draws.mean() > -exact.losses[-1] - 0.5


def test_the_truth_comes_back() -> None:
    x = datasets.univariate_blobs(3000, 3, seed=8)
    truth = np.sort(np.array(x.attrs["locs"])[:, 0])
    fit = cavi(UnivariateMixture(3), x)
    assert np.abs(fit.draws()["locs"].mean(0) - truth).max() < 0.35


def test_the_plot_shows_the_trace_and_the_density() -> None:
    figure = plot(cavi(UnivariateMixture(3), FRAME))
    assert isinstance(figure, Figure)
    density, trace = figure.axes[:2]
    assert len(np.asarray(trace.lines[0].get_xdata())) > 1
    grid, heights = (np.asarray(values, dtype=float) for values in density.lines[0].get_data())
    assert np.trapezoid(heights, grid) == pytest.approx(1.0, abs=0.02)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="sigma"):
        UnivariateMixture(3, sigma=0.0)
    with pytest.raises(InputError, match="one column"):
        cavi(UnivariateMixture(2), datasets.faithful())
