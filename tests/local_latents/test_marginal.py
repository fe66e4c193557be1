"""Every estimator of log p(x) against a model where it is known."""

from functools import cache

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from latent_truths import (
    LinearGaussian,
    Pixels,
    errors_apart,
    linear_gaussian,
    linear_rows,
    pixel_rows,
    pixels,
    row_density,
)
from pyrometer.errors import InputError
from pyrometer.inference.fit.importance import Estimate, bound, log_mean
from pyrometer.inference.local_latents import target as target_module
from pyrometer.inference.local_latents.ais import anneal, pilot, schedule
from pyrometer.inference.local_latents.marginal import (
    METHODS,
    Budget,
    estimate,
    log_weights,
    marginal_likelihood,
    unbiasedness,
)
from pyrometer.inference.local_latents.target import Target, target_of
from pyrometer.inference.plots.marginal import plot_marginal, plot_unbiasedness
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

mpl.use("Agg")
BUDGET = Budget(draws=20_000, chains=32, temperatures=150)
UNBIASED = ["naive", "importance", "ais", "ais_guide"]


def target(model: object, guide: object, x: Tensor) -> Target:
    return target_of(row_density(model, x), guide)


def estimates_of(model: object, guide: object, x: Tensor) -> dict[str, Estimate]:
    return {name: estimate(target(model, guide, x), name, BUDGET) for name in METHODS}


def standard_normal(x: Tensor) -> Distribution:
    """The prior of both models: batch (M,), event (2,)."""
    return Independent(Normal(x.new_zeros(len(x), 2), 1.0), 1)


@cache
def linear() -> tuple[LinearGaussian, Tensor, Tensor, dict[str, Estimate]]:
    model = linear_gaussian()
    x = linear_rows(model)
    return model, x, model.evidence(x), estimates_of(model, model.mean_field, x)


@cache
def bent() -> tuple[Pixels, Tensor, Tensor, dict[str, Estimate]]:
    model = pixels()
    x = pixel_rows(model)
    estimates = estimates_of(model, model.rough_guide, x)
    return model, x, model.on_grid(x)[0], estimates


@pytest.mark.parametrize("case", [linear, bent])
@pytest.mark.parametrize("method", UNBIASED)
def test_each_unbiased_method_is_within_its_error_of_the_exact_log_evidence(case: object, method: str) -> None:
    _, _, exact, estimates = case()  # type: ignore[operator]
    found = estimates[method]
    corrected = found.value - found.log_bias
    assert (errors_apart(corrected, found.se, exact) < 5).all()
    assert found.se.max() < 0.15


@pytest.mark.parametrize("case", [linear, bent])
def test_the_bounds_rise_with_k_to_the_evidence(case: object) -> None:
    """ELBO < IWAE(5) < IWAE(50) < IWAE(500) in expectation; here they see the same draws, so each order is sharp."""
    _, _, exact, estimates = case()  # type: ignore[operator]
    values = np.stack([estimates[name].value for name in ("elbo", "iwae_5", "iwae_50", "iwae_500")])
    assert (np.diff(values, axis=0) > 0).all()
    assert (values[-1] < exact.numpy() + 5 * estimates["iwae_500"].se).all()
    assert (errors_apart(values[-1], estimates["iwae_500"].se + 0.005, exact) < 5).all()
    ais = estimates["ais"]
    assert (values[2] < ais.value + 5 * np.hypot(ais.se, estimates["iwae_50"].se)).all()


def test_the_elbo_falls_short_of_the_evidence_by_the_kl_divergence() -> None:
    model, _, exact, estimates = linear()
    elbo = estimates["elbo"]
    assert (errors_apart(elbo.value + model.mean_field_kl, elbo.se, exact) < 5).all()


def test_with_the_exact_posterior_every_weight_is_the_evidence() -> None:
    model, x, exact, _ = linear()
    weights = log_weights(target(model, model, x), 10)
    torch.testing.assert_close(weights, exact.expand(10, -1))
    assert log_mean(weights).se.max() < 1e-12


@pytest.mark.parametrize("start", ["prior", "guide"])
def test_the_mean_of_annealed_weights_is_the_evidence_though_chains_are_short(start: str) -> None:
    """Few temperatures: rough weights, whose mean is exact all the same. Adaptation left on would spoil it."""
    model, x, exact, _ = bent()
    first = standard_normal(x) if start == "prior" else model.rough_guide(x)
    torch.manual_seed(0)
    log_joint, budget = lambda z: model.log_joint(z, x), Budget(chains=20_000, leapfrogs=3)
    run = anneal(log_joint, first, budget, pilot(log_joint, first, budget), temperatures=6)
    ratio = (run.log_weights - exact).exp()
    error = ratio.std(0) / len(ratio) ** 0.5
    assert ((ratio.mean(0) - 1).abs() < 5 * error).all()
    assert error.max() < 0.05


def test_annealed_draws_come_from_the_posterior_by_their_weights() -> None:
    model, x, _, _ = bent()
    _, mean, sd = model.on_grid(x)
    torch.manual_seed(1)
    log_joint, budget = lambda z: model.log_joint(z, x), Budget(chains=4000)
    run = anneal(log_joint, standard_normal(x), budget, pilot(log_joint, standard_normal(x), budget), temperatures=60)
    weights = run.log_weights.softmax(0).unsqueeze(-1)
    found = (weights * run.z).sum(0)
    spread = (weights * (run.z - found).square()).sum(0).sqrt()
    assert ((found - mean).abs() < 0.15 * sd).all()
    assert ((spread / sd - 1).abs() < 0.1).all()


def test_the_temperatures_of_a_pilot_run_from_nought_to_one_and_are_dense_where_log_weights_change() -> None:
    model, x, _, _ = linear()
    first = standard_normal(x)
    torch.manual_seed(0)
    betas = np.array(pilot(lambda z: model.log_joint(z, x), first, Budget()).schedule(100))
    assert (betas[0], betas[-1]) == (0, 1)
    assert (np.diff(betas) > 0).all()
    z = first.sample((4000,))
    from_prior = float(model.log_joint(z, x).sub(first.log_prob(z)).std(0).mean())
    at_the_end = float(torch.tensor(2 / 2).sqrt())  # of two latents, by a Gaussian posterior
    assert betas[1] < 3 * np.diff(betas)[-1] * at_the_end / from_prior


def test_the_schedule_runs_from_nought_to_one_with_small_steps_at_both_ends() -> None:
    betas = np.array(schedule(100))
    assert betas[0] == 0
    assert betas[-1] == 1
    assert (np.diff(betas) > 0).all()
    np.testing.assert_allclose(np.diff(betas), np.diff(betas)[::-1], atol=1e-12)
    assert np.diff(betas)[0] < 0.2 * np.diff(betas)[50]


def test_temperatures_are_as_many_as_the_error_of_a_row_asks_for() -> None:
    model, x, exact, _ = linear()
    seen: list[float] = []
    for error in (0.3, 0.05):
        found = estimate(target(model, model.mean_field, x), "ais", Budget(error=error, temperatures=2000))
        assert (found.se <= error).all()
        assert (errors_apart(found.value, np.maximum(found.se, error / 3), exact) < 4).all()
        seen.append(found.log_weight_sd.mean())
    assert seen[0] > 2 * seen[1]
    few = estimate(target(model, model.mean_field, x), "ais", Budget(error=1e-9, temperatures=20))
    assert (few.se > 0.05).any()


def test_the_errors_of_annealing_are_those_of_repeated_runs() -> None:
    """Stopping where the error looks small must not make it look smaller than it is."""
    model, x, exact, _ = linear()
    guide = target(model, model.wide, x)
    runs = [estimate(guide, "ais", Budget(), seed) for seed in range(5)]
    values, claimed = np.stack([run.value for run in runs]), np.stack([run.se for run in runs])
    off = (values - exact.numpy()) / claimed
    assert np.sqrt((off**2).mean()) < 1.5
    assert abs((values - exact.numpy()).mean()) < 0.05


def test_p_hat_is_unbiased_and_log_p_hat_too_low_by_half_its_variance() -> None:
    model, x, exact, _ = linear()
    table = unbiasedness(target(model, model.wide, x), exact)
    assert ((table["ratio"] - 1).abs() < 5 * table["ratio_se"]).all()
    assert table["ratio_se"].max() < 0.005
    assert (table["log_error"] < -10 * table["log_error_se"]).all()
    large = table.loc[[20, 100, 500]]
    slack = 5 * large["log_error_se"] + 0.05 * large["predicted"].abs()
    assert ((large["log_error"] - large["predicted"]).abs() < slack).all()


def test_one_draw_falls_short_by_the_gap_of_the_elbo() -> None:
    model, x, exact, _ = linear()
    table = unbiasedness(target(model, model.mean_field, x), exact, sizes=(1,))
    assert table.loc[1, "log_error"] == pytest.approx(-model.mean_field_kl, abs=5 * table.loc[1, "log_error_se"])


def test_standard_errors_are_the_spread_of_repeated_runs() -> None:
    model, x, _, _ = linear()
    budget = Budget(draws=200)
    for method in ("importance", "elbo", "iwae_5"):
        runs = [estimate(target(model, model.wide, x), method, budget, seed) for seed in range(150)]
        spread = np.std([run.value for run in runs], axis=0)
        claimed = np.mean([run.se for run in runs], axis=0)
        np.testing.assert_allclose(spread, claimed, rtol=5 / np.sqrt(2 * 150) + 0.05)


def test_the_bound_of_one_is_the_mean_and_that_of_all_is_the_log_mean() -> None:
    weights = torch.randn(40, 3, dtype=torch.float64)
    np.testing.assert_allclose(bound(weights, 1).value, weights.mean(0))
    np.testing.assert_allclose(bound(torch.cat([weights, weights]), 40).value, log_mean(weights).value)
    np.testing.assert_allclose(log_mean(torch.zeros(40, 3)).ess, 40, rtol=1e-5)


def test_naive_monte_carlo_fails_where_the_posterior_is_narrow_and_the_table_shows_it() -> None:
    model = linear_gaussian(latent=6, columns=30, variance=0.05)
    x = linear_rows(model)
    table = marginal_likelihood(target(model, model.mean_field, x), ["naive", "importance", "ais"])
    exact = float(model.evidence(x).mean())
    assert table.loc["naive", "nats"] < exact - 10
    assert table.loc["naive", "ess"] < 3
    assert table.loc["naive", "khat"] > 1
    assert abs(table.loc["ais", "nats"] - exact) < 5 * table.loc["ais", "se"] + 0.1
    assert list(table.columns) == ["nats", "se", "log_bias", "ess", "log_weight_sd", "khat", "draws", "seconds"]


def test_blocks_of_rows_and_of_draws_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    _, x, exact, _ = linear()
    sizes: list[int] = []

    class Watched(LinearGaussian):
        def log_joint(self, z: Tensor, rows: Tensor) -> Tensor:
            sizes.append(z.shape[0] * z.shape[1])
            return super().log_joint(z, rows)

    watched = Watched(**vars(linear_gaussian()))
    monkeypatch.setattr(target_module, "BLOCK", 4)
    monkeypatch.setattr(target_module, "MAX_NUMBERS_AT_ONCE", 4 * 512 * 100)
    found = estimate(target(watched, watched.mean_field, x), "importance", Budget(draws=5000))
    assert max(sizes) == 400
    assert (errors_apart(found.value, found.se, exact) < 5).all()


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_generator_alone() -> None:
    model, x, _, _ = linear()
    before = torch.get_rng_state()
    rows, budget = target(model, model.mean_field, x), Budget(temperatures=20)
    one, two = (estimate(rows, "ais", budget).value for _ in range(2))
    assert np.array_equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


def short_guide(x: Tensor) -> Distribution:
    """One row too few."""
    return linear_gaussian().mean_field(x[1:])


@pytest.mark.parametrize(
    ("guide", "methods", "fragment"),
    [
        (short_guide, ["elbo"], "q(z | x) needs batch"),
        (lambda x: x[:, :2], ["elbo"], "gives Tensor"),
        (linear_gaussian().mean_field, ["exact"], "method 'exact' is unknown"),
        (lambda x: 1 / 0, ["elbo"], "ZeroDivisionError"),
    ],
)
def test_what_does_not_fit_together_is_said_in_one_line(guide: object, methods: list[str], fragment: str) -> None:
    model, x, _, _ = linear()
    with pytest.raises(InputError) as error:
        marginal_likelihood(target(model, guide, x), methods)
    assert fragment in str(error.value)
    assert "\n" not in str(error.value)


def test_a_log_joint_that_sums_over_rows_is_refused() -> None:
    class Summed(LinearGaussian):
        def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
            return super().log_joint(z, x).sum(-1)

    model = Summed(**vars(linear_gaussian()))
    with pytest.raises(InputError, match="one number each"):
        target(model, model.mean_field, linear()[1])


@pytest.mark.parametrize("least", [0.001, 0.3, 8.0])
def test_what_stands_beside_a_bar_ends_within_its_panel(least: float) -> None:
    """Of bars much alike, and of bars that are a thousand times as long as others."""
    spread = {"log_weight_sd": [8.5, least, 0.34], "ess": [676.7, 2841.1, 14.6], "draws": [5000, 5000, 16]}
    table = pd.DataFrame({"nats": [-24.0, -24.1, -24.0], "se": 0.01, **spread}, index=["naive", "importance", "ais"])
    figure = plot_marginal(table)
    figure.draw_without_rendering()
    panel = figure.axes[1]
    ends = [text.get_window_extent().x1 for text in panel.texts]
    assert len(ends) == 3
    assert max(ends) <= panel.get_window_extent().x1


def test_the_pictures_name_every_method_and_the_truth() -> None:
    model, x, exact, _ = linear()
    table = marginal_likelihood(target(model, model.mean_field, x), budget=Budget(draws=1000, temperatures=20))
    figure = plot_marginal(table, truth=float(exact.mean()))
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert "truth" in labels
    assert {label.partition(":")[0] for label in labels} >= {"naive, from the prior", "AIS from the prior"}
    assert len(plot_unbiasedness(unbiasedness(target(model, model.mean_field, x), exact, draws=2000)).axes) == 2
    assert not plt.get_fignums()
