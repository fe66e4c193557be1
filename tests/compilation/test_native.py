"""A density as a C function is the density: its numbers, its edges, and its library, which is built once."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyrometer.inference.compilation import compiled, native
from pyrometer.inference.compilation.compiled import value_and_gradient
from pyrometer.inference.data.as_data import data_for
from pyrometer.inference.data.data import Data
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.mcmc import engines
from pyrometer.inference.mcmc.chains import start_of
from pyrometer.models import BayesianGMM
from pyrometer.models.gallery import GALLERY
from torch import Tensor
from truths import normal_mean, two_clusters

X = two_clusters()[:, 0]
POSITIVE, UNIT, COUNTS = X.abs() + 0.1, X.sigmoid(), X.abs().round()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder for libraries, empty at first, and nothing loaded."""
    monkeypatch.setenv("PYROMETER_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "_loaded", {})
    native.folder.cache_clear()
    yield tmp_path
    native.folder.cache_clear()


def held_to_eager(model: Any, x: Any, dtype: torch.dtype | None = None) -> Any:
    """The native density of a model, its value and gradient compared at fresh points."""
    data, _ = data_for(model, x, dtype)
    with data.isolated(3):
        density = Density(model, data)
        start = start_of(density, 3)
        fn, how = value_and_gradient(density.log_density, start, start + 0.1, tiers=("native",))
        assert how == "native"
        rtol = 1e-3 if data.floating == torch.float32 else 1e-7
        for _ in range(3):
            point = (start + 0.2 * torch.randn_like(start)).requires_grad_()
            value = density.log_density(point)
            (gradient,) = torch.autograd.grad(value, point)
            got, got_gradient = fn(point)
            torch.testing.assert_close(got, value.detach(), rtol=rtol, atol=1e-6)
            scale = float(gradient.abs().max())
            torch.testing.assert_close(got_gradient, gradient, rtol=rtol, atol=rtol * scale)
    return fn


@pytest.mark.parametrize("name", GALLERY)
def test_a_published_posterior_has_its_own_density_as_a_c_function(name: str) -> None:
    posterior = GALLERY[name]
    held_to_eager(posterior.model, posterior.data())


def likelihood(of: Callable[[Tensor, Tensor], Any]) -> Callable[[Tensor], None]:
    """A model with a location, a scale, and that likelihood of them."""

    def model(y: Tensor) -> None:
        loc, scale = pyro.sample("loc", dist.Normal(0.0, 1.0)), pyro.sample("scale", dist.HalfNormal(1.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", of(loc, scale), obs=y)

    return model


@pytest.mark.parametrize(
    ("of", "y"),
    [
        (lambda a, b: dist.StudentT(2 + b, a, b), X),
        (lambda a, b: dist.Gamma(b, a.exp()), POSITIVE),
        (lambda a, b: dist.Beta(b, a.exp()), UNIT),
        (lambda a, b: dist.NegativeBinomial(b, logits=a), COUNTS),
        (lambda a, b: dist.GammaPoisson(b, a.exp()), COUNTS),
        (lambda a, b: dist.ZeroInflatedPoisson(b, gate=a.sigmoid()), COUNTS),
        (lambda a, b: dist.Binomial(50, logits=a * b), COUNTS),
        (lambda a, b: dist.Bernoulli(logits=a * b), (X > 0).double()),
        (lambda a, b: dist.VonMises(a, b), UNIT),
        (lambda a, b: dist.Weibull(b, a.exp()), POSITIVE),
        (lambda a, b: dist.Bernoulli(dist.Normal(0.0, 1.0).cdf(a * b)), (X > 0).double()),
        (
            lambda a, b: dist.MixtureSameFamily(dist.Categorical(b.new_ones(2)), dist.Normal(torch.stack([a, b]), 1.0)),
            X,
        ),
    ],
    ids=[
        "t",
        "gamma",
        "beta",
        "negbin",
        "gampois",
        "zip",
        "binomial",
        "logit",
        "vonmises",
        "weibull",
        "probit",
        "mixture",
    ],
)
def test_a_likelihood_has_its_own_density_as_a_c_function(of: Callable[[Tensor, Tensor], Any], y: Tensor) -> None:
    held_to_eager(likelihood(of), y)


def correlated(y: Tensor) -> None:
    factor = pyro.sample("factor", dist.LKJCholesky(3, 2.0))
    scales = pyro.sample("scales", dist.HalfCauchy(y.new_ones(3)).to_event(1))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.MultivariateNormal(y.new_zeros(3), scale_tril=scales.unsqueeze(-1) * factor), obs=y)


def process(x: Tensor, y: Tensor) -> None:
    length, sd = pyro.sample("length", dist.Gamma(3.0, 2.0)), pyro.sample("sd", dist.HalfNormal(1.0))
    covariance = sd**2 * torch.exp(-0.5 * ((x.unsqueeze(-1) - x) / length) ** 2) + 0.1 * torch.eye(len(x))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), covariance), obs=y)


def ordered(x: Tensor, y: Tensor) -> None:
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    cuts = pyro.sample(
        "cuts", dist.TransformedDistribution(dist.Normal(torch.zeros(3), 1.0), dist.transforms.OrderedTransform())
    )
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.OrderedLogistic(slope * x, cuts), obs=y)


def wide(x: Tensor, y: Tensor) -> None:
    """More columns than are spelt out, so that BLAS multiplies; by turns as they lie and turned."""
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([x.shape[1], 2]).to_event(2))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(torch.tanh(x @ weights), 1.0).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (correlated, torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()),
        (process, (torch.arange(12.0), torch.sin(torch.arange(12.0)))),
        (ordered, (X, (COUNTS % 4).long())),
        (wide, (torch.randn(300, 40, generator=torch.Generator().manual_seed(1)), torch.zeros(300, 2))),
        (BayesianGMM(2), two_clusters()),  # for which a loop keeps an array of its own
    ],
    ids=["lkj", "process", "ordered", "wide", "components"],
)
def test_factors_products_and_indices_are_taken_along(model: Any, x: Any) -> None:
    held_to_eager(model, x)


def test_float32_stays_float32() -> None:
    fn = held_to_eager(normal_mean, X, torch.float32)
    assert {part.dtype for part in fn(torch.zeros(1))} == {torch.float32}


def test_many_points_at_once_are_each_of_them_and_edges_are_told() -> None:
    fn = held_to_eager(likelihood(lambda a, b: dist.Normal(a, b)), X)
    points = torch.tensor([[0.1, 0.2], [1.0, -1.0], [0.0, 800.0], [float("nan"), 0.0]]).double()
    values, gradients = fn.many(points)
    for point, value, gradient in zip(points, values, gradients, strict=True):
        torch.testing.assert_close(fn(point), (value, gradient), rtol=0, atol=0, equal_nan=True)
    assert values.isfinite().tolist() == [True, True, False, False]


def test_an_index_that_does_not_exist_is_told_as_eager_torch_tells_it() -> None:
    levels = torch.tensor([0.0, 1.0, 5.0]).double()

    def stepped(at: Tensor) -> Tensor:
        return -((levels[at.long()] + at - 2) ** 2).sum()

    point = torch.tensor([0.5, 1.5]).double()
    fn, how = value_and_gradient(stepped, point, point + 0.4, tiers=("native",))
    assert how == "native"
    for run in (fn, stepped):
        for outside in (7.0, -9.0, 1e15):  # the last one far from all memory
            with pytest.raises(IndexError):
                run(torch.tensor([0.5, outside]).double())


def test_constants_that_share_memory_in_one_data_set_need_not_in_the_next(cache: Path) -> None:
    def model(a: Tensor, b: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(a)):
            pyro.sample("y", dist.Normal(loc * b, 1.0), obs=a)

    both = torch.randn(2, 20).double()
    point = torch.tensor([0.3]).double()
    for a, b in ((both[0], both[1]), (both[1].clone(), both[0].clone())):
        density = Density(model, Data((a, b), rows=20))
        with density.data.isolated(0):
            value = density.log_density(point).item()
            fn, how = value_and_gradient(density.log_density, point, point + 1, tiers=("native",))
            assert how == "native"
            assert fn(point)[0].item() == pytest.approx(value)
    assert len(list(cache.iterdir())) == 1


def test_a_point_of_another_length_is_refused_before_memory_is_read() -> None:
    fn = held_to_eager(normal_mean, X)
    with pytest.raises(ValueError, match=r"points have shape \(1, 3\), but need \(S, 1\)"):
        fn(torch.zeros(3).double())


def test_a_library_is_built_once_for_all_data_of_a_size(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Mock(side_effect=subprocess.run)
    monkeypatch.setattr(native.subprocess, "run", run)
    held_to_eager(normal_mean, X)
    native._loaded.clear()  # as in another process
    held_to_eager(normal_mean, 3 * X + 1)
    assert run.call_count == 1
    held_to_eager(normal_mean, X[:-1])
    assert run.call_count == 2
    assert len(list(cache.iterdir())) == 2


def test_a_library_that_is_broken_is_built_anew_and_the_oldest_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_to_eager(normal_mean, X)
    (library,) = cache.iterdir()
    library.unlink()  # and not written over: this process has it in memory
    library.write_bytes(b"half a library")
    native._loaded.clear()
    held_to_eager(normal_mean, X)
    monkeypatch.setattr(native, "KEPT_LIBRARIES", 1)
    held_to_eager(normal_mean, X[:-2])
    assert library not in cache.iterdir()
    assert len(list(cache.iterdir())) == 1


@pytest.mark.filterwarnings("error::UserWarning")
def test_what_a_program_sees_besides_its_data_may_change_between_two_fits() -> None:
    scale = [1.0]

    def model(y: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 100.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(loc, scale[0]), obs=y)

    for scale[0] in (1.0, 4.0):
        fit = pyrometer.nuts(model, X, chains=2, compile=True, progress=False)
        assert fit.compiled == "native"
        assert float(fit.posterior["loc"].std()) == pytest.approx(scale[0] / len(X) ** 0.5, rel=0.15)


@pytest.mark.filterwarnings("error::UserWarning")
def test_data_that_choose_other_rows_than_the_data_before_are_traced_anew() -> None:
    def model(y: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 100.0))
        pyro.factor("y", dist.Normal(loc, 1.0).log_prob(y[y > 0]).sum())

    for y in (X, -2 * X):
        fit = pyrometer.nuts(model, y, chains=2, compile=True, progress=False)
        assert fit.compiled == "native"
        assert float(fit.posterior["loc"].mean()) == pytest.approx(float(y[y > 0].mean()), abs=0.2)


def test_two_processes_may_build_one_library(cache: Path) -> None:
    code = "import torch; from pyrometer.inference.compilation.compiled import value_and_gradient; "
    code += "at = torch.arange(9.0).double(); "
    code += "print(value_and_gradient(lambda point: point.exp().sum(), at, at + 1, tiers=('native',))[1])"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in "ab"]
    assert [process.communicate(timeout=120)[0].strip() for process in both] == ["native", "native"]
    assert [file.suffix for file in cache.iterdir()] == [".so"]


def test_a_cache_that_cannot_be_written_costs_only_the_next_build(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("PYROMETER_CACHE", str(cache / "file"))
    native.folder.cache_clear()
    held_to_eager(normal_mean, X)


def refused(*_: object, **__: object) -> Any:
    raise native.NoGraph("there is no C++ compiler")


def test_without_a_compiler_the_next_tier_runs_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "native", refused)
    monkeypatch.setattr(compiled, "MIN_SECONDS_FOR_INDUCTOR", 1e9)
    with pytest.warns(UserWarning, match="runs as script, for it has no form in C .*no C\\+\\+ compiler") as caught:
        fit = pyrometer.nuts(normal_mean, X, progress=False)
    assert fit.compiled == "script"
    assert len([warning for warning in caught if "no C++" in str(warning.message)]) == 1


def test_auto_chooses_by_the_size_of_the_work() -> None:
    options: dict[str, Any] = {"chains": 2, "progress": False}
    assert pyrometer.nuts(normal_mean, X, warmup=50, draws=50, **options).compiled == "script"
    assert pyrometer.nuts(normal_mean, X, **options).compiled == "native"


def test_a_sampler_that_takes_no_c_function_calls_it_through_python(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"chains": 1, "warmup": 100, "draws": 200, "compile": True, "progress": False}
    straight = pyrometer.nuts(normal_mean, X, **options)
    monkeypatch.setattr(engines, "PRIVATE", ("another name",))
    through = pyrometer.nuts(normal_mean, X, **options)
    np.testing.assert_allclose(straight.posterior["loc"], through.posterior["loc"], rtol=1e-12)


def test_the_draws_do_not_depend_on_how_many_cores_there_are() -> None:
    one, two = (
        pyrometer.nuts(normal_mean, X, chains=3, jobs=jobs, compile=True, seed=4, progress=False) for jobs in (1, 3)
    )
    np.testing.assert_array_equal(one.posterior["loc"], two.posterior["loc"])
