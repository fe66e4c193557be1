"""A continuous latent a row, of any model: gaps a row, new rows and pictures, by structure and by no class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import answers
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import programs
import pyro
import pyro.distributions as dist
import pytest
import torch
from agreement import BRIEF, TRAINING
from matplotlib.figure import Figure
from programs import ANSWERS, BETWEEN, DOSES, EFFECTS, NOISE, POINTS, POINTS_NEW, X_NEW, Y_NEW, X, Y
from pyrometer import Comparison, compare, svi
from pyrometer.models import VAE
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

mpl.use("Agg")
ROWS = (0, 5, 11)
Z_CHAINS: dict[str, Any] = {"warmup": 200, "draws": 400, "chains": 2}
GAPS = ("approximation_gap", "amortisation_gap")
LOCAL: dict[str, Any] = {**BRIEF, "steps": 1500, "lr": 0.02, "draws": 400}


@pytest.fixture(autouse=True)
def _no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


class Exact:
    """q(z_n | x_n) is the posterior: a guide that offers it row by row, new rows included."""

    amortized = True

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        """batch (M,), event (2,)."""
        exact = answers.pca_posterior(x)
        return dist.MultivariateNormal(exact.mean, precision_matrix=exact.precision_matrix)

    def __call__(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x))


class Displaced(Exact):
    """The same with its means all off by 0.3 and its covariance right: KL = 0.3^2 1' precision 1 / 2 a row."""

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        exact = answers.pca_posterior(x)
        return dist.MultivariateNormal(exact.mean + 0.3, precision_matrix=exact.precision_matrix)


class Encoder(nn.Module):
    """A trained encoder: linear means, and one triangle of scales for all rows. The exact posterior is among its q."""

    amortized = True

    def __init__(self, model: Any = None) -> None:
        super().__init__()
        self.mean = nn.Linear(4, 2, bias=False, dtype=torch.float64)
        self.lower = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.log_scales = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        """batch (M,), event (2,)."""
        below = self.lower * self.lower.new_tensor([[0.0, 0.0], [1.0, 0.0]])
        tril = torch.diag_embed(self.log_scales.exp()) + below
        return dist.MultivariateNormal(self.mean(x), scale_tril=tril)

    def forward(self, x: Tensor) -> None:
        pyro.module("encoder", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x))


def excess(guide: Exact) -> np.ndarray:
    """KL(q || p(z | x)) of each of ROWS."""
    x = POINTS[list(ROWS)]
    return torch.distributions.kl_divergence(guide.posterior(x), answers.pca_posterior(x)).numpy()


@pytest.fixture(scope="module")
def known() -> Comparison:
    """Probabilistic PCA with known loadings, and guides whose gaps are known."""
    guides: dict[str, Any] = {
        "exact": lambda model: Exact(),
        "displaced": lambda model: Displaced(),
        "encoder": Encoder,
        "auto_normal": "auto_normal",
    }
    return compare(programs.pca_known, POINTS, guides, rows=ROWS, **LOCAL)


def within(table: pd.DataFrame, column: str, truth: Any, slack: float = 0.01) -> None:
    """Each row's number is the truth to 5 of its standard errors."""
    errors = 5 * table[f"{column}_se"].to_numpy() + slack
    found = table[column].to_numpy()
    assert (np.abs(found - truth) < errors).all(), f"{column}: {found} is not {truth} +- {errors}"


def test_the_gaps_stand_by_guide_and_row(known: Comparison) -> None:
    assert not known.skipped
    assert set(known.gaps.index.get_level_values("guide")) == {"exact", "displaced", "encoder", "auto_normal"}
    assert set(known.gaps.index.get_level_values("row")) == set(ROWS)
    assert {*GAPS, "log_p", "elbo", "bias", "sd_ratio", "converged"} <= set(known.gaps.columns)


def test_log_p_of_a_row_is_its_marginal_density(known: Comparison) -> None:
    truth = answers.pca_marginal(EFFECTS).log_prob(POINTS[list(ROWS)]).numpy()
    for name in ("exact", "auto_normal"):
        within(known.gaps.loc[name].loc[list(ROWS)], "log_p", truth)


def test_mean_fields_gap_is_its_divergence_and_a_right_covariance_has_none(known: Comparison) -> None:
    within(known.gaps.loc["auto_normal"], "approximation_gap", answers.mean_field_gap())
    for name in ("exact", "displaced", "encoder"):
        within(known.gaps.loc[name], "approximation_gap", 0.0)


def test_what_a_guide_misses_of_its_familys_best_is_its_own(known: Comparison) -> None:
    within(known.gaps.loc["exact"], "amortisation_gap", 0.0)
    within(known.gaps.loc["displaced"].loc[list(ROWS)], "amortisation_gap", excess(Displaced()))
    within(known.gaps.loc["encoder"], "amortisation_gap", 0.0, slack=0.05)
    within(known.gaps.loc["auto_normal"], "amortisation_gap", 0.0, slack=0.05)


def test_nuts_over_the_latents_of_a_row_is_what_bias_and_spread_are_held_to(known: Comparison) -> None:
    exact = answers.pca_posterior(POINTS[:1])
    precision = exact.precision_matrix[0].diagonal()
    ratio = float((precision.rsqrt() / exact.stddev[0]).min())
    assert (known.gaps.loc["exact", "bias"] < 0.3).all()
    np.testing.assert_allclose(known.gaps.loc["exact", "sd_ratio"], 1.0, atol=0.2)
    np.testing.assert_allclose(known.gaps.loc["auto_normal", "sd_ratio"], ratio, atol=0.2)
    np.testing.assert_allclose(known.gaps.loc["displaced", "bias"], float((0.3 / exact.stddev[0]).max()), atol=0.25)


def test_the_table_sums_the_gaps_up(known: Comparison) -> None:
    table = known.table.drop("nuts", errors="ignore")
    np.testing.assert_allclose(
        table["gap"].astype(float), (table["approximation_gap"] + table["amortisation_gap"]).astype(float), atol=0.05
    )
    assert table.loc["exact", "gap"] == pytest.approx(0.0, abs=0.05)
    assert table.loc["auto_normal", "gap"] == pytest.approx(answers.mean_field_gap(), abs=0.1)


def test_pca_by_hand_finds_the_likeliest_loadings_and_its_gap_is_that_of_the_loadings() -> None:
    """Which loadings mean field settles on is known up to its gap; the marginal likelihood of those is exact."""
    fit: Any = svi(programs.pca, Encoder, POINTS, **{**TRAINING, "steps": 2500})
    loadings = fit.params["loadings"]
    reached = float(answers.pca_marginal(loadings).log_prob(POINTS).sum())
    best = answers.best_pca(POINTS)
    assert best - 0.05 * len(POINTS) < reached <= best + 1e-6
    se = fit.elbo_draws.std() / np.sqrt(len(fit.elbo_draws))
    assert fit.elbo_draws.mean() < reached + 5 * se
    gaps = fit.gaps(ROWS, nuts=Z_CHAINS)
    truth = answers.pca_marginal(loadings).log_prob(POINTS[list(ROWS)]).numpy()
    within(gaps.droplevel("guide").loc[list(ROWS)], "log_p", truth)
    free: Any = svi(programs.pca, "auto_normal", POINTS, **{**TRAINING, "steps": 1500})
    gap = answers.mean_field_gap(free.params["loadings"])
    within(free.gaps(ROWS, nuts=Z_CHAINS), "approximation_gap", gap)


def test_new_rows_of_pca_have_their_marginal_density() -> None:
    fit: Any = svi(programs.pca_known, Encoder, POINTS, **TRAINING)
    truth = answers.pca_marginal(EFFECTS).log_prob(POINTS_NEW).numpy()
    np.testing.assert_allclose(fit.log_predictive(POINTS_NEW), truth, atol=0.2)
    found = fit.log_likelihood(POINTS_NEW, method="importance", draws=500)
    assert (np.abs(found["estimate"] - truth) < 5 * found["se"] + 0.02).all()


def test_random_effects_go_the_same_way() -> None:
    """One latent a row, so that mean field is exact and both gaps vanish; the likeliest line is least squares."""
    found = compare(programs.random_effects_by_params, (DOSES, ANSWERS), ["auto_normal"], rows=(0, 4, 9), **LOCAL)
    assert not found.skipped
    fit = found["auto_normal"]
    line = answers.most_likely_line(DOSES, ANSWERS)
    trained = torch.stack([fit.params["level"], fit.params["slope"]])
    torch.testing.assert_close(trained, line, atol=0.1, rtol=0.0)
    gaps = found.gaps.loc["auto_normal"]
    for column in GAPS:
        within(gaps, column, 0.0, slack=0.05)
    assert (gaps["bias"] < 0.4).all()
    np.testing.assert_allclose(gaps["sd_ratio"], 1.0, atol=0.2)
    means, sd = answers.effect_posterior(DOSES, ANSWERS, *trained.tolist())
    effects = fit.idata["posterior"]["effect"].values.reshape(-1, len(DOSES))
    np.testing.assert_allclose(effects.mean(0), means, atol=0.35 * sd)
    np.testing.assert_allclose(effects.std(0), sd, rtol=0.25)
    assert sd < min(NOISE, BETWEEN)


def test_a_vae_goes_the_same_way_as_the_program_that_it_is() -> None:
    """A frozen linear VAE is probabilistic PCA: log p(x) of its rows by the Gaussian formula."""
    options: dict[str, Any] = {"steps": 600, "draws": 50, "progress": False}
    fit: Any = svi(VAE(latent=2, decoder="linear"), "encoder_full", POINTS, **options)
    found = compare(fit.model.frozen(), POINTS, ["encoder_full", "auto_normal"], rows=ROWS, **{**BRIEF, "steps": 600})
    assert set(found.gaps.index.get_level_values("guide")) == {"encoder_full", "auto_normal"}
    shared = found.gaps["log_p"].unstack("guide")
    np.testing.assert_allclose(shared["encoder_full"], shared["auto_normal"], atol=0.2)
    assert type(found) is Comparison  # one Comparison, whatever the model


def amortised_by_name(x: Tensor) -> None:
    """A guide that only draws: it tells no q(z | x), so its gaps are dashes and nothing else is lost."""
    weights = pyro.param("weights", lambda: torch.zeros(4, 2))
    scale = pyro.param("scale", lambda: 0.5 * torch.ones(2), constraint=constraints.positive)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x @ weights, scale).to_event(1))


def test_a_guide_that_tells_no_q_a_row_has_dashes_for_gaps() -> None:
    guides = {"silent": amortised_by_name, "exact": lambda model: Exact()}
    found = compare(programs.pca_known, POINTS, guides, rows=ROWS, **{**LOCAL, "steps": 300})
    assert not found.skipped
    assert found.table.loc["silent", list(GAPS)].isna().all()
    assert found.table.loc["exact", list(GAPS)].notna().all()
    assert np.isfinite(found.table.loc["silent", "elbo"])


PLOTTED: dict[str, tuple[Callable[..., Any], Any]] = {
    "pca": (programs.pca_known, POINTS),
    "random_effects": (programs.random_effects, (DOSES, ANSWERS)),
    "regression": (programs.regression, (X, Y)),
    "groups": (programs.by_group, programs.FRAME),
    "gaussian_process": (programs.gaussian_process, (programs.PLACES, programs.COUNTS)),
}


@pytest.mark.parametrize("which", list(PLOTTED))
def test_the_default_plot_draws_what_can_be_drawn(which: str) -> None:
    model, data = PLOTTED[which]
    seen: list[Any] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return model(*args, **kwargs)

    watched.__name__ = model.__name__
    watched.__signature__ = inspect.signature(model)  # type: ignore[attr-defined]
    found = compare(watched, data, ["auto_normal"], **{**BRIEF, "steps": 100, "draws": 60, "warmup": 60})
    assert not found.skipped
    seen.clear()
    figure = found.plot()
    assert isinstance(figure, Figure)
    assert figure.axes or figure.subfigs
    sizes = {len(value) for args, kwargs in seen for value in (*args, *kwargs.values()) if value.dim()}
    own = {len(value) for value in found["auto_normal"].data.tensors if value.dim()}
    assert sizes <= own  # the model was never called on rows that were made up


def test_a_covariate_model_scores_held_out_rows_beside_its_plot() -> None:
    found = compare(programs.regression, (X, Y), ["auto_mvn"], x_test=(X_NEW, Y_NEW), **{**BRIEF, "steps": 100})
    assert found.table["lpd_test"].notna().all()
