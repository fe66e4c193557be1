"""Whatever is a guide, a method or a Fit can be named in compare; the options of svi can be given once for all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import answers
import numpy as np
import programs
import pyro
import pyro.distributions as dist
import pytest
import torch
from agreement import BRIEF, CHAINS, TRAINING, means_agree, one_line
from programs import FRAME, X, Y
from pyro import poutine
from pyro.contrib.easyguide import EasyGuide
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam
from pyrometer import Comparison, Fit, InputError, compare, nuts, svi
from torch import Tensor, nn
from torch.distributions import constraints

POSTERIOR = answers.independent(X).posterior(Y)
GROUPED = answers.independent(answers.group_design(FRAME)).posterior(torch.tensor(FRAME["earnings"].to_numpy()))
TINY: dict[str, Any] = {**BRIEF, "steps": 60, "draws": 50, "warmup": 50}
Guide = Callable[..., Any]


def written(X: Tensor, y: Tensor) -> None:
    """A guide as a function of the model's own arguments; it is called on data and on nothing else."""
    assert isinstance(X, Tensor)
    assert isinstance(y, Tensor)
    loc = pyro.param("loc", lambda: torch.zeros(2))
    scale = pyro.param("scale", lambda: 0.1 * torch.ones(2), constraint=constraints.positive)
    pyro.sample("beta", dist.Normal(loc, scale).to_event(1))


class WrittenClass:
    """A guide as a class of the model: an instance is made a fit."""

    def __init__(self, model: Guide) -> None:
        assert model is not None

    def __call__(self, X: Tensor, y: Tensor) -> None:
        written(X, y)


class WrittenModule(nn.Module):
    """A guide as a plain module, with parameters in float32 as torch makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2, dtype=torch.float32))
        self.log_scale = nn.Parameter(-2 * torch.ones(2, dtype=torch.float32))

    def forward(self, X: Tensor, y: Tensor) -> None:
        pyro.module("written", self)
        pyro.sample("beta", dist.Normal(self.loc, self.log_scale.exp()).to_event(1))


class WrittenPyroModule(PyroModule):
    """A guide as one of Pyro's modules."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = PyroParam(torch.zeros(2))
        self.scale = PyroParam(0.1 * torch.ones(2), constraint=constraints.positive)

    def forward(self, X: Tensor, y: Tensor) -> None:
        pyro.sample("beta", dist.Normal(self.loc, self.scale).to_event(1))


class Easy(EasyGuide):
    """An EasyGuide: one Gaussian for the whole model."""

    def guide(self, X: Tensor, y: Tensor) -> None:
        group = self.group(match=".*")
        loc = pyro.param("easy_loc", lambda: torch.zeros(group.event_shape))
        scale = pyro.param("easy_scale", lambda: 0.1 * torch.ones(group.event_shape), constraint=constraints.positive)
        group.sample("latents", dist.Normal(loc, scale).to_event(1))


class Counted:
    """A factory that keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, model: Guide) -> Guide:
        self.calls.append((model,))
        return AutoNormal(model)


def kinds() -> dict[str, Any]:
    """Every kind of guide, for `regression`."""
    return {
        "name": "auto_normal",
        "factory": lambda model: AutoMultivariateNormal(model),
        "function": written,
        "class": WrittenClass,
        "autoguide_class": AutoNormal,
        "autoguide": AutoNormal(programs.regression),
        "multivariate": AutoMultivariateNormal(programs.regression, init_scale=0.05),
        "easy": Easy(programs.regression),
        "module": WrittenModule(),
        "pyro_module": WrittenPyroModule(),
    }


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_kind_of_guide_finds_the_posterior_means(kind: str) -> None:
    fit = svi(programs.regression, kinds()[kind], (X, Y), **TRAINING)
    means_agree(fit, "beta", POSTERIOR.mean, POSTERIOR.stddev)
    found = fit.idata["posterior"]["beta"].values.reshape(-1, 2).std(0)
    np.testing.assert_allclose(found, POSTERIOR.stddev, rtol=0.5)


def test_a_flow_goes_with_a_model_of_cauchys() -> None:
    def model(y: Tensor) -> None:
        scale = pyro.sample("scale", dist.HalfCauchy(2.5))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(0.0, scale), obs=y)

    fit = svi(model, "auto_iaf", torch.randn(30).double(), steps=50, progress=False)
    assert fit.idata["observed_data"]["y"].shape == (30,)


def test_a_list_of_autoguides_is_a_guide() -> None:
    guide = AutoGuideList(programs.by_group)
    guide.append(AutoNormal(poutine.block(programs.by_group, expose=["alpha"])))
    guide.append(AutoDelta(poutine.block(programs.by_group, expose=["slope"])))
    fit = svi(programs.by_group, guide, FRAME, **TRAINING)
    means_agree(fit, "alpha", GROUPED.mean[:3], GROUPED.stddev[:3])
    means_agree(fit, "slope", GROUPED.mean[3], GROUPED.stddev[3])


def test_all_kinds_stand_in_one_table_and_what_was_handed_in_is_untouched() -> None:
    guides = kinds()
    before = guides["module"].loc.detach().clone()
    found = compare(programs.regression, (X, Y), guides, **TINY)
    assert list(found) == ["nuts", *guides]
    assert not found.skipped
    torch.testing.assert_close(guides["module"].loc.detach(), before)
    assert guides["autoguide"].prototype_trace is None  # never run: a copy was
    assert not list(pyro.get_param_store().keys())


@pytest.mark.parametrize("kind", ["autoguide", "module", "pyro_module", "function"])
def test_a_second_fit_does_not_start_where_the_first_ended(kind: str) -> None:
    guide = kinds()[kind]
    first, second = (svi(programs.regression, guide, (X, Y), steps=60, draws=20, progress=False) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)


def test_a_factory_is_called_once_a_fit_on_the_model_and_never_on_data() -> None:
    factory = Counted()
    svi(programs.regression, lambda model: factory(model), (X, Y), steps=20, draws=20, progress=False)
    assert len(factory.calls) == 1
    assert not any(isinstance(argument, Tensor) for argument in factory.calls[0])
    assert callable(factory.calls[0][0])


def test_a_guide_for_a_model_of_one_argument_is_told_from_a_factory() -> None:
    calls: list[Any] = []

    def guide(y: Tensor) -> None:
        calls.append(y)
        loc = pyro.param("loc", lambda: torch.zeros(()))
        pyro.sample("mu", dist.Normal(loc, 0.2))

    svi(programs.normal_mean, guide, Y, steps=20, draws=20, progress=False)
    assert all(isinstance(call, Tensor) for call in calls)  # no trial call with the model
    fit = svi(programs.normal_mean, lambda model: AutoNormal(model), Y, **TRAINING)
    truth = answers.independent(torch.ones(len(Y), 1).double(), noise=1.0).posterior(Y)
    means_agree(fit, "mu", truth.mean, truth.stddev)


# Methods and fits


def test_methods_bound_with_their_options_and_fits_stand_beside_guides() -> None:
    before = svi(programs.regression, "auto_mvn", (X, Y), steps=80, draws=60, progress=False, name="earlier")
    entries = {
        "mvn": "auto_mvn",
        "fast": partial(svi, guide="auto_mvn", lr=0.05),
        "iwae": partial(svi, guide="auto_normal", estimator="IWAE"),
        "short_chains": partial(nuts, warmup=50, draws=30, chains=2),
        "before": before,
    }
    found = compare(programs.regression, (X, Y), entries, **TINY)
    assert list(found.table.index) == ["nuts", *entries]
    assert not found.skipped
    np.testing.assert_array_equal(found["before"].losses, before.losses)
    np.testing.assert_array_equal(found["before"].idata["posterior"]["beta"], before.idata["posterior"]["beta"])
    assert found["fast"].steps == TINY["steps"]  # what is not bound comes from compare
    assert not np.array_equal(found["fast"].losses, found["mvn"].losses)
    assert "IWAE" in found.table.loc["iwae", "estimator"] or "Renyi" in found.table.loc["iwae", "estimator"]
    assert found["short_chains"].idata["posterior"].sizes["draw"] == 30
    assert np.isfinite(found.table.loc["short_chains", "rhat"])


def test_a_bound_method_gives_the_numbers_that_it_gives_alone() -> None:
    sizes: dict[str, Any] = {"steps": 60, "draws": 50}
    bound = partial(svi, guide="auto_normal", lr=0.05, **sizes)
    found = compare(programs.regression, (X, Y), {"bound": bound}, reference=None, seed=3, **TINY)
    alone = svi(programs.regression, "auto_normal", (X, Y), lr=0.05, seed=3, progress=False, **sizes)
    np.testing.assert_array_equal(found["bound"].losses, alone.losses)


def test_a_method_of_the_users_own_is_any_function_that_gives_a_fit() -> None:
    def twice_as_long(model: Guide, data: Any, *, seed: int, progress: bool, name: str, **options: Any) -> Fit:
        return svi(model, "auto_normal", data, steps=120, draws=40, seed=seed, progress=progress, name=name)

    found = compare(programs.regression, (X, Y), {"own": twice_as_long}, reference=None, **TINY)
    assert found["own"].steps == 120
    assert found["own"].name == "own"


def test_a_fit_of_other_data_is_no_entry() -> None:
    other = svi(programs.regression, "auto_normal", (X, Y + 1), steps=20, draws=20, progress=False)
    with pytest.raises(InputError, match="data") as caught:
        compare(programs.regression, (X, Y), {"other": other}, reference=None, **TINY)
    one_line(caught)


def test_entries_of_one_name_are_refused_and_so_is_a_reference_that_bears_that_of_another() -> None:
    twice = [partial(svi, guide="auto_normal"), partial(svi, guide="auto_mvn")]
    with pytest.raises(InputError, match="2 entries have only the names svi") as caught:
        compare(programs.regression, (X, Y), twice, reference=None, **TINY)
    one_line(caught)
    before = svi(programs.regression, "auto_mvn", (X, Y), steps=20, draws=20, progress=False)
    with pytest.raises(InputError, match="reference auto_mvn has the name of an entry") as caught:
        compare(programs.regression, (X, Y), ["auto_mvn"], reference=before, **TINY)
    one_line(caught)


def test_a_fit_is_called_what_its_entry_is() -> None:
    before = svi(programs.regression, "auto_mvn", (X, Y), steps=20, draws=20, progress=False)
    found = compare(programs.regression, (X, Y), {"a": before, "b": before}, reference=None, **TINY)
    assert [fit.name for fit in found.fits.values()] == ["a", "b"] == list(found.table.index)


def test_a_list_of_autoguides_is_one_entry() -> None:
    guide = AutoGuideList(programs.regression)
    guide.append(AutoNormal(programs.regression))
    found = compare(programs.regression, (X, Y), guide, reference=None, **TINY)
    assert list(found) == ["AutoGuideList"]


# Options of svi, once for all


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.05},
        {"optimizer": "Adam", "lr": 0.02},
        {"optimizer": torch.optim.SGD, "lr": 1e-4},
        {"optimizer": pyro.optim.Adam({"lr": 0.03})},
        {"estimator": "Renyi"},
        {"estimator": Trace_ELBO(num_particles=3)},
    ],
    ids=["lr", "adam", "class", "pyro_optim", "estimator", "elbo"],
)
def test_options_of_svi_reach_every_guide(options: dict[str, Any]) -> None:
    found = compare(programs.regression, (X, Y), ["auto_normal", "auto_mvn"], reference=None, **{**TINY, **options})
    for name in ("auto_normal", "auto_mvn"):
        alone = svi(programs.regression, name, (X, Y), steps=60, draws=50, progress=False, **options)
        np.testing.assert_array_equal(found[name].losses, alone.losses)
        plain = svi(programs.regression, name, (X, Y), steps=60, draws=50, progress=False)
        assert not np.array_equal(found[name].losses, plain.losses)


def test_an_optimizer_of_torch_is_taken_as_a_pattern() -> None:
    """Its class and its settings; the parameters that it was made with are nobody's."""
    pattern = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.03, betas=(0.8, 0.99))
    like = pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 0.03, "betas": (0.8, 0.99)})
    fits = [
        svi(programs.regression, "auto_normal", (X, Y), optimizer=optimizer, steps=60, draws=20, progress=False)
        for optimizer in (pattern, like)
    ]
    np.testing.assert_allclose(fits[0].losses, fits[1].losses)


def test_an_option_that_is_bound_goes_before_that_of_compare() -> None:
    entries = {"slow": partial(svi, guide="auto_normal", lr=1e-6), "fast": "auto_normal"}
    found = compare(programs.regression, (X, Y + 20), entries, reference=None, **{**TINY, "lr": 0.1})
    assert found["fast"].losses[-10:].mean() < found["slow"].losses[-10:].mean()


# The Comparison


@pytest.fixture(scope="module")
def small() -> Comparison:
    return compare(programs.regression, (X, Y), {"normal": "auto_normal", "mvn": "auto_mvn"}, **TINY)


def test_a_comparison_is_a_collection_of_its_fits(small: Comparison) -> None:
    assert len(small) == 3
    assert list(small) == ["nuts", "normal", "mvn"]
    assert "mvn" in small
    assert "laplace" not in small
    assert [small[name].name for name in small] == ["nuts", "normal", "mvn"]


@pytest.mark.parametrize("more", ["fit", "guide"])
def test_adding_gives_a_new_comparison_and_runs_nothing_again(
    small: Comparison, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: Any = "auto_laplace"
    if more == "fit":
        later = svi(programs.regression, "auto_laplace", (X, Y), steps=60, draws=50, progress=False)
    larger = small.add({"laplace": later})
    assert list(larger) == ["nuts", "normal", "mvn", "laplace"]
    assert list(small) == ["nuts", "normal", "mvn"]
    assert larger.reference == "nuts"
    assert list(larger.table.columns) == list(small.table.columns)
    for name in small:
        np.testing.assert_array_equal(larger[name].losses, small[name].losses)
        np.testing.assert_array_equal(larger[name].idata["posterior"]["beta"], small[name].idata["posterior"]["beta"])
        assert larger.table.loc[name, "seconds"] == small.table.loc[name, "seconds"]  # it did not run again
    assert np.isfinite(larger.table.loc["laplace", "bias"])


def test_no_guides_are_none() -> None:
    chains = {name: value for name, value in CHAINS.items() if name != "progress"}
    found = compare(programs.regression, (X, Y), [], **{**TINY, **chains})
    assert list(found) == ["nuts"]
    means_agree(found["nuts"], "beta", POSTERIOR.mean, POSTERIOR.stddev)
    with pytest.raises(InputError) as caught:
        compare(programs.regression, (X, Y), [], reference=None, **TINY)
    one_line(caught)
