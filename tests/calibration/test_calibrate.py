"""Ranks of truths among posterior draws are uniform for an exact method, and tell what is wrong with any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import programs
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib import pyplot as plt
from pyrometer import Calibration, Fit, calibrate, nuts, svi
from pyrometer.errors import InputError
from pyrometer.inference.calibration.calibration import holm
from pyrometer.inference.calibration.plot import _band, _held
from pyrometer.inference.calibration.quantities import Quantities, quantities_of
from pyrometer.inference.calibration.simulations import Simulations, simulated
from pyrometer.inference.data.as_data import data_for
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.fit.idata import fit_of
from pyrometer.inference.runtime.arviz import groups_of, idata_of
from pyrometer.models import GMM, BayesianGMM, UnivariateMixture
from scipy import stats
from torch import Tensor
from truths import normal_mean, poisson_mixture

ROWS = 10
BRIEF: Any = {"simulations": 100, "progress": False}
PROPER = BayesianGMM(2, concentration=3.0, loc=0.0, loc_precision=0.1, df=5.0, scale=1.0)


def exact(
    model: Any,
    x: Any,
    *,
    seed: int,
    progress: bool,
    name: str,
    shift: float = 0.0,
    widen: float = 1.0,
    slow: float | None = None,
) -> Fit:
    """The posterior of `normal_mean`, Normal(sum x / (N + 1), 1 / (N + 1)), shifted by so many sd and made wider.

    slow: draws of a Markov chain of that autocorrelation (and of that stationary distribution); None are independent.
    """
    data, _ = data_for(model, x)
    values = data.values
    sd = 1 / (len(values) + 1) ** 0.5
    with data.isolated(seed):
        z = torch.randn(400)
        for i in range(1, len(z) if slow else 0):
            z[i] = slow * z[i - 1] + (1 - slow**2) ** 0.5 * z[i]  # type: ignore[operator]
        loc = values.sum() / (len(values) + 1) + sd * (shift + widen * z)
        chain = {"diverging": np.zeros((1, len(z)), bool)} if slow else None
        return fit_of(name, "exact", Density(model, data), {"loc": loc.unsqueeze(0)}, chain, None)


def altered(model: Any, x: Any, *, seed: int, progress: bool, name: str, shift: float = 0, widen: float = 1) -> Fit:
    """NUTS with every draw moved and spread about the mean of all: what a broken sampler gives."""
    fit = nuts(model, x, warmup=150, draws=200, chains=1, compile=True, seed=seed, progress=progress, name=name)
    posterior = fit.posterior.map(lambda v: v.mean() + v.std() * shift + widen * (v - v.mean()))
    return replace(fit, idata=idata_of({**groups_of(fit.idata), "posterior": posterior}))


def failing(model: Any, x: Any, *, seed: int, progress: bool, name: str) -> Fit:
    """An exact method that fails where the data's mean is above 1."""
    if data_for(model, x)[0].values.mean() > 1:
        raise RuntimeError("the mean is above 1\nand more")
    return exact(model, x, seed=seed, progress=progress, name=name)


@pytest.fixture(scope="module")
def sampled() -> Calibration:
    """NUTS, by its name, on a conjugate normal."""
    return calibrate(normal_mean, "nuts", ROWS, **BRIEF)


def test_nuts_passes_on_a_conjugate_normal(sampled: Calibration) -> None:
    assert sampled.passed
    assert sampled.centred
    assert list(sampled.ranks) == ["loc", "log_joint", "log_likelihood"]
    assert len(sampled.ranks) == 100
    assert not sampled.failures
    assert (sampled.table[["chi2", "ks"]] > 0.01).all(axis=None)
    assert (sampled.table.loc["loc", "bias"] * 100**0.5) < 5
    assert "no scalar is told from exact draws" in repr(sampled)


@pytest.mark.parametrize(
    ("broken", "verdict", "centred"),
    [
        ({"widen": 0.5}, "too narrow", True),
        ({"widen": 2.0}, "too wide", True),
        ({"shift": 1.0}, "too high", False),
        ({"shift": -1.0}, "too low", False),
    ],
)
def test_a_broken_method_fails_and_the_verdict_says_how(broken: Any, verdict: str, centred: bool) -> None:
    found = calibrate(normal_mean, partial(exact, **broken), ROWS, **{**BRIEF, "simulations": 60})
    assert not found.passed
    assert found.table.loc["loc", "verdict"] == verdict
    assert found.centred == centred
    assert found.table.loc[["log_joint", "log_likelihood"], "symmetry"].isna().all()
    assert "not calibrated: loc" in repr(found)
    assert f'<span class="chip bad" title="">{verdict}</span>' in found._repr_html_()


@pytest.mark.parametrize(("broken", "verdict"), [({"widen": 0.5}, "too narrow"), ({"shift": 1.0}, "too high")])
def test_nuts_fails_once_its_draws_are_altered(broken: Any, verdict: str) -> None:
    found = calibrate(normal_mean, partial(altered, **broken), ROWS, **{**BRIEF, "simulations": 50})
    assert not found.passed
    assert found.table.loc["loc", "verdict"] == verdict


def test_the_ranks_of_a_narrow_posterior_have_the_distribution_of_theory() -> None:
    """p = Phi(Z / widen) for Z standard normal; the rank among L draws is Binomial(L, p)."""
    found = calibrate(normal_mean, partial(exact, widen=0.5), ROWS, simulations=200, progress=False)
    ranks = found.ranks["loc"].to_numpy()
    z = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    p = stats.norm.cdf(z / 0.5)
    expected = np.stack([stats.binom.pmf(rank, 99, p).mean() for rank in range(100)])
    counts = np.add.reduceat(np.bincount(ranks, minlength=100), np.arange(0, 100, 10))
    assert stats.chisquare(counts, 200 * np.add.reduceat(expected, np.arange(0, 100, 10))).pvalue > 1e-3
    assert counts[0] > 2 * counts[5]  # a U


def test_chains_are_thinned_to_what_they_are_worth() -> None:
    """Ranks among correlated draws pile up at both ends though the method is exact; thinned ones do not."""
    found = calibrate(normal_mean, partial(exact, slow=0.95), ROWS, simulations=300, progress=False)
    assert found.table.loc["loc", "verdict"] == "uniform"
    assert any("worth fewer than 20 independent draws" in note for note in found.notes)


def test_the_tests_are_wrong_as_often_as_they_say() -> None:
    """Of truly uniform ranks a share of 5 % or less has a p-value below 0.05, and about as many below 0.5 as half."""
    number, simulations = 800, 120
    ranks = np.random.default_rng(0).integers(0, 100, (simulations, number))
    table = Calibration("none", "none", pd.DataFrame(ranks, columns=[f"q{i}" for i in range(number)]), 99).table
    for test in ("chi2", "ks", "symmetry"):
        for level in (0.05, 0.5):
            error = (level * (1 - level) / number) ** 0.5
            share = (table[test] < level).mean()
            assert share < level + 5 * error, test
            assert share > 0.6 * level, test
    assert abs(table["sd_ratio"].mean() - 1) < 0.02  # of 120, E[1 / sd] is above 1 by 0.01
    assert abs(table["bias"].mean()) < 5 / (number * simulations) ** 0.5


def test_holms_correction_is_that_of_his_paper() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([[0.5, 0.9]])), [[1.0, 1.0]])


def drawn(model: Callable[..., None], x: Any, number: int = 400, seed: int = 3) -> tuple[Simulations, Quantities]:
    """Simulations of a model on data like x, and its quantities."""
    data, structure = data_for(model, x)
    made = simulated(model, data, structure, number, seed)
    return made, quantities_of(made)


def test_simulated_data_keep_the_covariates_and_are_drawn_at_their_truth() -> None:
    made, quantities = drawn(programs.regression, (programs.X, programs.Y))
    assert quantities.names == ("beta[0]", "beta[1]", "log_joint", "log_likelihood")
    noise = []
    for place in range(len(made)):
        data = made.data(place)
        X, y = data.args
        assert torch.equal(X, programs.X)
        noise.append(y - X @ made.truths["beta"][place])
    every = torch.stack(noise)
    assert abs(every.mean()) < 5 * programs.NOISE / every.numel() ** 0.5
    assert abs(every.std() - programs.NOISE) < 5 * programs.NOISE / (2 * every.numel()) ** 0.5
    beta = made.truths["beta"]
    assert abs(beta.std() - programs.PRIOR) < 5 * programs.PRIOR / (2 * beta.numel()) ** 0.5
    assert len(beta.unique()) == beta.numel()


def test_what_the_template_misses_is_missed_by_every_simulation() -> None:
    y = programs.Y.clone()
    y[[2, 5]] = torch.nan
    made, _ = drawn(programs.masked, (programs.X, y), 50)
    values = torch.stack([made.data(place).args[1] for place in range(50)])
    assert values.isnan().sum() == 100
    assert values[:, [2, 5]].isnan().all()


def test_two_observed_sites_take_their_own_arguments() -> None:
    data = {"length": programs.LENGTHS, "eggs": programs.EGGS}
    made, _ = drawn(programs.two_sites, data, 50)
    assert set(made.observed) == {"length", "eggs"}
    eggs = made.observed["eggs"]
    assert (eggs == eggs.round()).all()
    assert not (made.observed["length"] == made.observed["length"].round()).any()


@pytest.mark.parametrize(("model", "x"), [(programs.hmm, programs.SERIES), (programs.lda, programs.WORDS)])
def test_what_sites_observe_entry_by_entry_is_put_back_where_it_was(model: Any, x: Tensor) -> None:
    made, quantities = drawn(model, x, 50)
    (values,) = made.observed.values()
    assert values.shape == (50, *x.shape)
    assert all(len(values[:, *place].unique()) > 1 for place in np.ndindex(*x.shape))
    density = Density(made.model, made.data(3))
    observed = np.concatenate([each.flatten() for each in density.observed().values()])
    np.testing.assert_array_equal(np.sort(observed), np.sort(values[3].flatten().numpy()))
    assert np.isfinite(quantities.of_data(density, {name: v[3:4] for name, v in made.truths.items()})).all()


@pytest.mark.parametrize("model", [poisson_mixture, PROPER, UnivariateMixture(2)], ids=["own", "gmm", "univariate"])
def test_no_permutation_of_labels_changes_a_quantity(model: Any) -> None:
    made, quantities = drawn(model, np.random.default_rng(1).poisson(5.0, 30).astype(float), 60)
    assert quantities.labels
    sites = {name: value.numpy() for name, value in made.truths.items()}
    swapped = {
        name: values[:, ::-1].copy() if "components" in quantities.dims[name] else values
        for name, values in sites.items()
    }
    first = quantities.entries(sites)
    np.testing.assert_array_equal(first, quantities.entries(swapped))
    names = [name for name in quantities.names if name.startswith(("locs", "rates"))]
    if any(name.startswith("locs") for name in names):
        columns = [quantities.names.index(name) for name in names]
        assert (np.diff(first[:, columns], axis=1) > 0).all()
    density = Density(made.model, made.data(0))
    pair = [
        quantities.of_data(density, {name: torch.as_tensor(v[:5]) for name, v in each.items()})
        for each in (sites, swapped)
    ]
    np.testing.assert_allclose(pair[0], pair[1], rtol=1e-9)


def test_the_likelihood_among_the_quantities_is_that_of_the_data() -> None:
    made, quantities = drawn(normal_mean, torch.zeros(ROWS).double(), 20)
    data = made.data(4)
    found = quantities.of_data(Density(made.model, data), {"loc": made.truths["loc"]})
    loc = made.truths["loc"][:, None].numpy()
    likelihood = stats.norm.logpdf(data.values.numpy(), loc).sum(1)
    np.testing.assert_allclose(found[:, 1], likelihood)
    np.testing.assert_allclose(found[:, 0], likelihood + stats.norm.logpdf(loc[:, 0]))


def test_the_same_seed_gives_the_same_ranks_whatever_the_jobs() -> None:
    one, two, other = (
        calibrate(normal_mean, exact, ROWS, simulations=50, progress=False, seed=seed, jobs=jobs)
        for seed, jobs in ((5, 1), (5, 2), (6, 1))
    )
    pd.testing.assert_frame_equal(one.ranks, two.ranks)
    assert not one.ranks.equals(other.ranks)


def test_failures_are_counted_and_named_and_cost_only_themselves() -> None:
    found = calibrate(normal_mean, failing, ROWS, **BRIEF)
    whole = calibrate(normal_mean, exact, ROWS, **BRIEF)
    assert 0 < len(found.failures) < 40
    assert set(found.failures.values()) == {"the mean is above 1"}
    assert len(found.ranks) == 100 - len(found.failures)
    assert not set(found.ranks.index) & set(found.failures)
    pd.testing.assert_frame_equal(found.ranks, whole.ranks.loc[found.ranks.index])
    assert f"{len(found.failures)} of 100 failed" in repr(found)


def test_too_few_that_ended_are_shown_without_a_verdict() -> None:
    ranks = pd.DataFrame(np.random.default_rng(0).integers(0, 100, (24, 2)), columns=["a", "b"])
    for number in (24, 0):
        found = Calibration("nuts", "model", ranks[:number], 99, failures={24: "it failed"})
        assert not found.passed
        assert not found.centred
        assert f"{number} simulations ended, and the tests take 25: no verdict" in repr(found)
        assert set(found.table["verdict"]) == {"too few simulations"}
        figure = found.plot()
        assert not [text for axis in figure.axes for text in axis.texts if "not drawn" in text.get_text()]


def test_interrupting_keeps_what_is_done() -> None:
    calls = []

    def stopped(model: Any, x: Any, *, seed: int, progress: bool, name: str) -> Fit:
        calls.append(seed)
        if len(calls) > 70:
            raise KeyboardInterrupt
        return exact(model, x, seed=seed, progress=progress, name=name)

    found = calibrate(normal_mean, stopped, ROWS, **BRIEF)
    assert len(found.ranks) == 70
    assert found.notes[0] == "interrupted after 70 of 100 simulations"


@pytest.mark.parametrize("number", [1, 5])
def test_the_picture_has_two_panels_a_scalar(number: int) -> None:
    ranks = np.random.default_rng(0).integers(0, 100, (200, number))
    found = Calibration("nuts", "model", pd.DataFrame(ranks, columns=[f"q{i}" for i in range(number)]), 99)
    figure = found.plot()
    panels = [axis for axis in figure.axes if axis.axison]
    assert len(panels) == 2 * number
    assert sum(axis.get_title(loc="left").startswith("q") for axis in panels) == number
    assert not [text for axis in panels for text in axis.texts if "not drawn" in text.get_text()]
    plt.close("all")


def test_the_band_of_the_picture_holds_whole_curves_as_often_as_it_says() -> None:
    steps, low, high = _band(100, 99, 0.1)
    exact = _held(100, steps[:-1] / 100, (100 * low[:-1]).round(), (100 * high[:-1]).round())
    ranks = np.sort(np.random.default_rng(1).integers(0, 100, (4000, 100)), axis=1)
    curves = np.stack([(ranks < step).mean(1) for step in steps], 1)
    inside = ((curves >= low - 1e-12) & (curves <= high + 1e-12)).all(1).mean()
    assert 0.9 <= exact < 0.93  # a curve has whole numbers of ranks: the level is not met exactly
    assert inside == pytest.approx(exact, abs=5 * (0.1 * 0.9 / 4000) ** 0.5)


def test_the_share_of_curves_in_a_band_is_the_sum_over_all_samples() -> None:
    at, low, high = np.array([0.2, 0.5, 0.9]), np.array([0, 1, 3]), np.array([2, 4, 5])
    parts = np.stack(list(np.ndindex(7, 7, 7, 7)))  # six ranks, so many between one point and the next
    parts = parts[parts.sum(1) == 6]
    counts = parts.cumsum(1)[:, :3]
    inside = ((counts >= low) & (counts <= high)).all(1)
    shares = stats.multinomial.pmf(parts[inside], 6, np.diff(at, prepend=0.0, append=1.0))
    assert _held(6, at, low, high) == pytest.approx(shares.sum(), rel=1e-12)


def autoregression(y: Tensor) -> None:
    """y_n ~ Normal(phi y_{n-1}, 1), its first given."""
    phi = pyro.sample("phi", dist.Normal(0.0, 0.5))
    before = torch.cat([y.new_zeros(1), y[:-1]])
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(phi * before, 1.0), obs=y)


def by_factor(y: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.factor("y", dist.Normal(loc, 1.0).log_prob(y).sum())


def logged(y: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(loc, 1.0), obs=(1 + y**2).log())


def with_param(y: Tensor) -> None:
    scale = pyro.param("scale", torch.tensor(1.0))
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(loc, scale), obs=y)


def empirical(y: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(y.mean(), 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def tempered(y: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)), pyro.poutine.scale(scale=0.5):
        pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def nothing(model: Any, x: Any, *, seed: int, progress: bool, name: str) -> None:
    """No method."""


@pytest.mark.parametrize(
    ("model", "method", "options", "said"),
    [
        (GMM(2), "nuts", {}, "'weights' is a parameter without a prior"),
        (programs.flat, "nuts", {}, "flat prior, which cannot be drawn from"),
        (with_param, "nuts", {}, "param 'scale' of model with_param has no prior"),
        (BayesianGMM(2), "nuts", {}, "is read from what is observed"),
        (empirical, "nuts", {}, "the prior of site 'loc' is read from what is observed"),
        (autoregression, "nuts", {}, "site 'y' depends on what is observed besides"),
        (by_factor, "nuts", {}, "is a factor, which cannot be drawn from"),
        (logged, "nuts", {}, "site 'y' observes something else than entries of an argument of logged"),
        (tempered, "nuts", {}, "site 'y' is scaled"),
        (normal_mean, "nuts", {"simulations": 49}, "simulations=49 are too few: .* 50 or more"),
        (normal_mean, "nuts", {"simulations": 0}, "simulations=0 must be a whole number"),
        (normal_mean, "nuts", {"draws": 5}, "draws=5 are too few"),
        (normal_mean, "nutz", {}, "method 'nutz' is unknown: choose from nuts, em, cavi.*auto_normal"),
        (normal_mean, 3, {}, "method is a int"),
        (normal_mean, "auto_delta", {}, "auto_delta gives one point"),
        (normal_mean, nothing, {}, "nothing gave a NoneType"),
        (normal_mean, "cavi", {}, "cavi fits a BayesianGMM, DirichletProcessGMM or UnivariateMixture"),
    ],
)
def test_bad_input_is_one_line(model: Any, method: Any, options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        calibrate(model, method, 12, **{**BRIEF, **options})
    assert "\n" not in str(error.value)


def test_a_fit_is_no_method() -> None:
    fit = exact(normal_mean, torch.zeros(4).double(), seed=0, progress=False, name="exact")
    with pytest.raises(InputError, match="method is a Fit"):
        calibrate(normal_mean, fit, 12, **BRIEF)


def test_no_prior_of_a_mixture_in_numbers_is_taken_for_one_read_from_the_data() -> None:
    made, quantities = drawn(PROPER, np.random.default_rng(0).standard_normal(30), 50)
    assert len(made) == 50
    trils = [f"precision_trils[{k},0,0]" for k in range(2)]  # the second weight is one less the first
    assert quantities.names[:-2] == ("weights[0]", *trils, "locs[0,0]", "locs[1,0]")


SLOW: Any = {"simulations": 1000, "progress": False, "jobs": 2}


@pytest.mark.slow
def test_nuts_is_calibrated_on_a_mixture() -> None:
    found = calibrate(PROPER, "nuts", 50, **SLOW)
    assert found.passed, found
    assert (found.table["chi2"] > 0.01).all(), found


@pytest.mark.slow
def test_nuts_is_calibrated_on_a_regression() -> None:
    found = calibrate(programs.regression, "nuts", (programs.X, programs.Y), **SLOW)
    assert found.passed, found
    assert (found.table["chi2"] > 0.01).all(), found


def correlated(X: Tensor, y: Tensor) -> None:
    """A regression on two columns whose correlation is 0.95: mean field loses sqrt(1 - r^2) of each sd, about 0.4."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(X @ beta, 0.5), obs=y)


@pytest.mark.slow
def test_mean_field_on_a_correlated_posterior_is_too_narrow_and_centred() -> None:
    """Its means are right and its sds too small (Bishop 2006, section 10.1.2): a U that leans to no side."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal(40)
    X = np.stack([first, 0.95 * first + (1 - 0.95**2) ** 0.5 * rng.standard_normal(40)], 1)
    method = partial(svi, guide="auto_normal", steps=1000, lr=0.03)
    found = calibrate(correlated, method, (X, np.zeros(40)), simulations=100, progress=False, jobs=2)
    betas = found.table.loc[["beta[0]", "beta[1]"]]
    assert (betas["verdict"] == "too narrow").all(), found
    assert (betas["symmetry"] > 0.01).all(), found
    assert (betas["sd_ratio"] < 0.7).all(), found
