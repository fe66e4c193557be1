"""The gaps of a guide where log p(x), the posterior and the best member of each family are known."""

from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from latent_truths import Pixels, linear_gaussian, linear_rows, pixel_rows, pixels, row_density
from pyrometer.inference.compilation.compiled import value_and_gradient
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.local_latents.gaps import amortisation_gaps, best_in_family, fine_tuned, summarised
from pyrometer.inference.local_latents.latent_nuts import LatentDraws, LatentProgram, latent_nuts
from pyrometer.inference.local_latents.marginal import Budget
from pyrometer.inference.local_latents.target import target_of
from pyrometer.inference.plots.marginal import plot_gaps
from pyrometer.inference.runtime.isolation import isolated
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    kl_divergence,
)
from truths import in_doubles

mpl.use("Agg")
BUDGET = Budget(draws=5000, chains=32, temperatures=150, error=0.03)
MODEL = linear_gaussian()
X = linear_rows(MODEL, 4)
ROWS = row_density(MODEL, X)


def off(x: Tensor, rows: Tensor | None = None) -> Distribution:
    """A mean-field q that its encoder has put in the wrong place."""
    best = MODEL.mean_field(x)
    return Independent(Normal(best.mean + 0.5, 1.5 * best.stddev), 1)


def off_full(x: Tensor, rows: Tensor | None = None) -> Distribution:
    """The same with a full covariance."""
    return MultivariateNormal(MODEL.posterior(x).loc - 0.5, scale_tril=torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2))


def as_flow(x: Tensor, rows: Tensor | None = None) -> Distribution:
    """A q that is not called Gaussian, and has no mean by formula."""
    shift = AffineTransform(MODEL.posterior(x).loc, torch.tensor([0.4, 0.5], dtype=x.dtype), event_dim=1)
    return TransformedDistribution(Independent(Normal(x.new_zeros(len(x), 2), 1.0), 1), [shift])


@cache
def draws() -> LatentDraws:
    return latent_nuts(ROWS, draws=1000, jobs=1, progress=False)


@cache
def gaps() -> pd.DataFrame:
    guides = {"best": MODEL.mean_field, "off": off, "off_full": off_full, "exact": MODEL.posterior, "flow": as_flow}
    targets = {name: target_of(ROWS, guide) for name, guide in guides.items()}
    return amortisation_gaps(targets, evidence="ais_guide", budget=BUDGET, nuts=draws())


def test_nuts_finds_the_exact_posterior_of_every_row() -> None:
    exact = MODEL.posterior(X)
    error = exact.stddev.numpy() / np.sqrt(draws().ess_bulk)[:, None]
    assert (np.abs(draws().mean - exact.mean.numpy()) < 5 * error).all()
    np.testing.assert_allclose(draws().sd, exact.stddev, rtol=5 / np.sqrt(2 * draws().ess_bulk.min()))
    assert draws().rhat.max() < 1.01
    assert draws().divergences.sum() == 0


def test_rows_sampled_together_and_apart_agree_with_the_grid() -> None:
    model = pixels()
    x = pixel_rows(model, 2)
    _, mean, sd = model.on_grid(x)
    for at_once in (1, 2):
        found = latent_nuts(row_density(model, x), draws=600, jobs=1, rows_at_once=at_once, progress=False)
        assert (np.abs(found.mean - mean.numpy()) < 5 * sd.numpy() / np.sqrt(found.ess_bulk)[:, None]).all()
        assert (np.abs(found.sd / sd.numpy() - 1) < 0.2).all()


def test_the_density_of_bernoulli_pixels_is_traced_and_not_left_to_python() -> None:
    model = pixels()
    program = LatentProgram(row_density(model, pixel_rows(model, 2)))
    density = Density(program, program.data)
    assert density.dim == 4
    with in_doubles(validate=False):
        point = torch.ones(4)
        assert value_and_gradient(density.log_density, point, point / 2)[1] == "script"
    single = Pixels(model.inner.float(), model.weights.float(), model.bias.float())
    program = LatentProgram(row_density(single, pixel_rows(model, 2).float()))
    density = Density(program, program.data)
    assert density.dim == 4
    with isolated(0, torch.float32):
        point = torch.ones(4)
        assert value_and_gradient(density.log_density, point, point / 2)[1] == "script"


def test_the_approximation_gap_of_mean_field_is_its_divergence_from_the_posterior() -> None:
    for guide in ("best", "off"):
        rows = gaps().loc[guide]
        error = 5 * rows["approximation_gap_se"] + 0.002
        assert ((rows["approximation_gap"] - MODEL.mean_field_kl).abs() < error).all()
        assert rows["approximation_gap_se"].max() < 0.05
    assert (
        gaps().loc[["off_full", "exact"], "approximation_gap"].abs() < 5 * gaps().loc["off", "log_p_se"].max()
    ).all()


def test_the_amortisation_gap_is_what_the_best_member_has_over_the_guide() -> None:
    """KL(q || posterior) - KL(q* || posterior), in closed form."""
    exact = MODEL.posterior(X)
    full = (off_full(X), gaps().loc["off_full"], 0.0)
    normal = off(X)
    as_normal = MultivariateNormal(normal.mean, torch.diag_embed(normal.variance))
    for q, rows, least in (full, (as_normal, gaps().loc["off"], MODEL.mean_field_kl)):
        truth = kl_divergence(q, exact).numpy() - least
        assert (np.abs(rows["amortisation_gap"] - truth) < 5 * rows["amortisation_gap_se"]).all()
    best = gaps().loc["best"]
    assert (best["amortisation_gap"].abs() < 5 * best["amortisation_gap_se"]).all()
    assert gaps().loc["exact", "amortisation_gap"].abs().max() < 1e-9


def test_no_gap_is_below_nought_but_by_chance() -> None:
    known = gaps().drop("flow")
    for kind in ("approximation_gap", "amortisation_gap"):
        assert (known[kind] > -5 * known[f"{kind}_se"] - 1e-9).all()


def test_bias_and_sd_ratio_are_those_of_the_guide_against_nuts() -> None:
    exact, noise = MODEL.posterior(X), 5 / np.sqrt(draws().ess_bulk.min())
    truth = (0.5 / exact.stddev).max(-1).values.numpy()
    np.testing.assert_allclose(gaps().loc["off", "bias"], truth, atol=noise * 1.5)
    ratio = (MODEL.mean_field(X).stddev / exact.stddev).min(-1).values.numpy()
    np.testing.assert_allclose(gaps().loc["best", "sd_ratio"], ratio, atol=noise)
    np.testing.assert_allclose(gaps().loc["exact", "bias"], 0, atol=noise)
    np.testing.assert_allclose(gaps().loc["flow", "sd_ratio"], (0.4 / exact.stddev[:, 0]).numpy(), rtol=0.1)


def test_rows_on_which_nuts_did_not_converge_are_marked_and_left_out_of_the_medians() -> None:
    stuck = draws().z.copy()
    stuck[0, :, 0] += 3
    targets, nuts = {"best": target_of(ROWS, MODEL.mean_field)}, draws()._replace(z=stuck)
    table = amortisation_gaps(targets, evidence="importance", steps=10, nuts=nuts)
    assert list(table["converged"]) == [False, True, True, True]
    row = summarised(table).loc["best"]
    assert (row["rows"], row["converged"]) == (4, 3)
    assert row["bias"] == pytest.approx(table["bias"][1:].median())


def test_a_q_of_no_known_family_has_no_best_member_and_says_its_kind() -> None:
    rows = gaps().loc["flow"]
    assert (rows["family"] == "TransformedDistribution").all()
    assert rows[["elbo_best", "approximation_gap", "amortisation_gap"]].isna().all(axis=None)
    assert rows[["elbo", "log_p", "bias"]].notna().all(axis=None)


def test_the_summary_has_the_means_and_orders_the_guides() -> None:
    table = summarised(gaps())
    assert list(table.index) == ["best", "off", "off_full", "exact", "flow"]
    assert list(table["family"][:4]) == ["mean_field", "mean_field", "full_covariance", "full_covariance"]
    parts = table["approximation_gap"] + table["amortisation_gap"]
    np.testing.assert_allclose(parts[:4], table["gap"][:4])
    assert table.loc["flow", ["approximation_gap_se", "amortisation_gap_se"]].isna().all()
    assert table.loc["off", "gap"] > table.loc["best", "gap"] > table.loc["exact", "gap"]
    rows = gaps().loc["off"]
    assert table.loc["off", "gap_se"] == pytest.approx(
        np.sqrt((rows["log_p_se"] ** 2 + rows["elbo_se"] ** 2).sum()) / 4
    )


@pytest.mark.parametrize("family", ["mean_field", "full_covariance", "low_rank", "wrapped"])
def test_a_family_read_off_a_q_is_that_q(family: str) -> None:
    factor = torch.tensor([[0.3], [-0.5]], dtype=X.dtype).expand(4, 2, 1)
    low = LowRankMultivariateNormal(X[:, :2], factor, 0.3 * torch.ones(4, 2, dtype=X.dtype))
    full = MODEL.posterior(X)
    families = {"mean_field": off(X), "full_covariance": full, "low_rank": low, "wrapped": Independent(full, 0)}
    q: Distribution = families[family]
    named, found = best_in_family(lambda z: MODEL.log_joint(z, X), q, steps=0)
    assert named == ("full_covariance" if family == "wrapped" else family)
    assert found is not None
    z = torch.randn(5, 4, 2, dtype=X.dtype)
    torch.testing.assert_close(found.log_prob(z), q.log_prob(z))


def test_low_rank_with_rank_one_reaches_a_plane_s_correlated_posterior() -> None:
    start = LowRankMultivariateNormal(
        X[:, :2], 0.1 * torch.ones(4, 2, 1, dtype=X.dtype), torch.ones(4, 2, dtype=X.dtype)
    )
    torch.manual_seed(0)
    _, best = best_in_family(lambda z: MODEL.log_joint(z, X), start)
    assert best is not None
    full = MultivariateNormal(best.mean, best.covariance_matrix)  # type: ignore[attr-defined]
    assert kl_divergence(full, MODEL.posterior(X)).max() < 0.01


class Encoder(nn.Module):
    """q(z | x) = Normal(linear(x), scale), called by a name that hides it from the search by family."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Linear(X.shape[1], 2, dtype=X.dtype)
        self.log_scale = nn.Parameter(torch.zeros(2, dtype=X.dtype))

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        base = Independent(Normal(self.loc(x), self.log_scale.exp()), 1)
        return TransformedDistribution(base, [AffineTransform(0.0, 1.0, event_dim=1)])


def test_a_guide_of_no_known_family_is_tuned_row_by_row_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    guide = Encoder()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    settings: dict[str, Any] = {"evidence": "ais_guide", "budget": BUDGET, "steps": 2000, "nuts": _first(2)}
    table = amortisation_gaps({"flow": target_of(ROWS.take(slice(2)), guide)}, **settings)
    assert all(torch.equal(before[name], value) for name, value in guide.state_dict().items())
    assert (table["amortisation_gap"] > 0).all()
    assert ((table["approximation_gap"] - MODEL.mean_field_kl).abs() < 5 * table["approximation_gap_se"] + 0.05).all()
    (tuned,) = fine_tuned(target_of(ROWS.take(slice(1)), guide, torch.tensor([7])), steps=1)
    assert tuned.q.batch_shape == (1,)


def _first(rows: int) -> LatentDraws:
    return LatentDraws(draws().z[:, :, :rows], draws().divergences[:rows])


def test_the_picture_has_a_bar_a_guide() -> None:
    figure = plot_gaps(gaps(), summarised(gaps()))
    for axis in figure.axes:
        assert all(tick.tick1line.get_markersize() == 0 for tick in axis.yaxis.get_minor_ticks())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "best",
        "off",
        "off_full",
        "exact",
        "flow",
    ]
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"approximation: the family", "amortisation: the encoder", "not told apart", "± 2 se"}
