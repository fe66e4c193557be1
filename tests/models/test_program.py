"""Any program runs: flat priors are given a value, whole numbers are observed, float32 and float64 are promoted."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroSample
from pyrometer import nuts, svi
from pyrometer.inference.density.log_density import Density
from pyrometer.models.program import Promoted, is_flat, permissive
from pyrometer.models.trace import read_structure
from torch import Tensor
from truths import data_of, in_doubles, standard_errors

SUPPORTS: list[tuple[Any, tuple[int, ...]]] = [
    (constraints.real, ()),
    (constraints.positive, ()),
    (constraints.interval(2.0, 3.0), ()),
    (constraints.simplex, (3,)),
    (constraints.ordered_vector, (4,)),
    (constraints.lower_cholesky, (2, 2)),
]


@pytest.mark.parametrize(("support", "event"), SUPPORTS, ids=lambda value: str(value))
def test_a_flat_prior_is_given_a_point_of_its_support(support: Any, event: tuple[int, ...]) -> None:
    def model() -> Tensor:
        with pyro.plate("several", 5):
            return pyro.sample("a", dist.ImproperUniform(support, (), event))

    with in_doubles(validate=False), permissive():
        value = model()
    assert value.shape == (5, *event)
    assert value.dtype == torch.float64
    assert bool(support.check(value).all())
    assert len(value.reshape(5, -1)[:, 0].unique()) == 5


def test_a_flat_prior_is_known_masked_expanded_or_as_an_event_and_no_other_is() -> None:
    flat = dist.ImproperUniform(constraints.real, (), ())
    for fn in (flat, flat.mask(True), flat.expand([3]), flat.expand([3]).to_event(1), flat.to_event(0)):
        assert is_flat(fn)
    for fn in (dist.Normal(0.0, 1.0), dist.Uniform(0.0, 1.0), dist.Normal(0.0, 1.0).expand([3]).to_event(1)):
        assert not is_flat(fn)


def test_a_value_that_a_flat_site_has_already_is_left_to_it() -> None:
    def model() -> Tensor:
        return pyro.sample("a", dist.ImproperUniform(constraints.real, (), ()))

    with in_doubles(validate=False), permissive():
        assert poutine.condition(model, {"a": torch.tensor(7.0)})() == 7


def flat_mean(x: Tensor) -> None:
    """p(loc) constant, x_n ~ Normal(loc, 1): the posterior is Normal(mean x, 1 / N). x: (N,)."""
    loc = pyro.sample("loc", dist.ImproperUniform(constraints.real, (), ()))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


X = torch.linspace(-1, 3, 20).double()


def test_a_flat_prior_adds_nothing_to_the_log_joint() -> None:
    with in_doubles(validate=False):
        density = Density(flat_mean, data_of(X))
        got = density.log_joint({"loc": torch.tensor(0.3).double()})
    torch.testing.assert_close(got, dist.Normal(0.3, 1.0).log_prob(X).sum())
    (site,) = density.structure.latent
    assert site.flat


def test_nuts_and_a_guide_find_the_posterior_under_a_flat_prior() -> None:
    chains = nuts(flat_mean, X, warmup=200, draws=500, chains=2, jobs=1, progress=False)
    guide = svi(flat_mean, "auto_normal", X, steps=800, lr=0.05, draws=500, progress=False)
    for fit in (chains, guide):
        draws = fit.draws()["loc"]
        assert abs(draws.mean() - 1) < 0.05
        assert abs(draws.std() * math.sqrt(20) - 1) < 0.15


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.bool])
def test_observed_whole_numbers_have_the_density_of_the_same_numbers_as_floats(kind: torch.dtype) -> None:
    counts = torch.tensor([0, 1, 1, 0, 1]).to(kind)
    rate = torch.tensor(0.3).double()

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(rate), obs=x)

    with in_doubles(), permissive():
        trace = poutine.trace(model).get_trace(counts)
        trace.compute_log_prob()
    expected = counts.double() * rate.log() + (1 - counts.double()) * (-rate).log1p()
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], expected)
    assert trace.nodes["x"]["value"].dtype == torch.float64


def test_mixed_precision_is_promoted_to_double_and_seen() -> None:
    single, double = torch.tensor([[1 / 3, 2.0], [3.0, 4.0]]), torch.randn(2, 2).double()
    with Promoted() as mode:
        product = single @ double
        mean = torch.nn.functional.linear(double, weight=single)
        stacked = torch.stack([single[0], double[0]])
    assert mode.happened
    assert product.dtype == mean.dtype == stacked.dtype == torch.float64
    torch.testing.assert_close(product, single.double() @ double, rtol=0, atol=0)
    torch.testing.assert_close(mean, double @ single.double().T, rtol=0, atol=0)


def test_one_precision_is_left_alone_and_nothing_is_seen() -> None:
    whole = torch.tensor([0, 1])
    for dtype in (torch.float32, torch.float64):
        a = torch.ones(2, 2, dtype=dtype)
        with Promoted() as mode:
            assert (a @ a).dtype == (a[whole] + whole).dtype == dtype
        assert not mode.happened


def test_what_is_written_in_place_keeps_its_precision() -> None:
    single, double = torch.zeros(2), torch.zeros(2).double()
    with Promoted():
        single.add_(torch.ones(2).double())
        double.add_(torch.full((2,), 2.0))
        single.copy_(double)
        assert double.to(single).dtype == torch.float32
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert single.tolist() == [2, 2]


COVARIATES = torch.stack([torch.ones(30), torch.linspace(-1, 1, 30)], 1)  # float32, in a closure
SLOPES = torch.tensor([0.5, -2.0]).double()
Y = COVARIATES.double() @ SLOPES + torch.linspace(-0.3, 0.3, 30).double().sin()


def in_a_closure(y: Tensor) -> None:
    """b ~ Normal(0, 10), y_n ~ Normal(x_n b, 1), x in float32 from outside. y: (N,)."""
    b = pyro.sample("b", dist.Normal(torch.zeros(2), 10.0).to_event(1))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(COVARIATES @ b, 1.0), obs=y)


def exact_regression() -> tuple[Tensor, Tensor]:
    """Mean (2,) and standard deviations (2,) of the conjugate posterior."""
    x = COVARIATES.double()
    covariance = torch.linalg.inv(x.T @ x + torch.eye(2).double() / 100)
    return covariance @ x.T @ Y, covariance.diagonal().sqrt()


def test_a_model_with_float32_in_a_closure_is_seen_to_be_mixed_and_one_without_is_not() -> None:
    with in_doubles():
        assert read_structure(in_a_closure, Y).mixed
        assert not read_structure(flat_mean, X).mixed


def test_a_regression_on_float32_in_a_closure_has_the_conjugate_posterior() -> None:
    mean, sd = exact_regression()
    guide = svi(in_a_closure, "auto_mvn", Y, steps=1500, lr=0.05, draws=2000, progress=False)
    chains = nuts(in_a_closure, Y, warmup=300, draws=1000, chains=2, jobs=1, progress=False)
    for fit in (guide, chains):
        draws = fit.draws()["b"]
        assert draws.dtype == "float64"
        assert (abs(draws.mean(0) - mean.numpy()) < 0.15 * sd.numpy()).all()
        assert (abs(draws.std(0) / sd.numpy() - 1) < 0.15).all()
    assert standard_errors(guide.draws()["b"][:, 0], mean[0].item()) < 10


class Linear(PyroModule):
    """The same regression as a `PyroModule` with a `PyroSample`, made in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.net = PyroModule[torch.nn.Linear](2, 1, bias=False)
        self.net.weight = PyroSample(dist.Normal(0.0, 10.0).expand([1, 2]).to_event(2))

    def forward(self, y: Tensor) -> None:
        """y: (N,)."""
        mean = self.net(COVARIATES).squeeze(-1)
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def test_a_pyro_module_in_float32_has_the_same_posterior_and_nuts_runs_it_compiled() -> None:
    mean, sd = exact_regression()
    fit = nuts(Linear(), Y, warmup=300, draws=1000, chains=2, jobs=1, progress=False)
    draws = fit.draws()["net.weight"][:, 0]
    assert (abs(draws.mean(0) - mean.numpy()) < 0.15 * sd.numpy()).all()
    assert (abs(draws.std(0) / sd.numpy() - 1) < 0.15).all()
    assert fit.compiled == "native"


def test_a_program_that_no_graph_can_follow_is_promoted_in_the_samplers_own_thread_too() -> None:
    def looks(y: Tensor) -> None:
        in_a_closure(y)
        sign = pyro.sample("sign", dist.Normal(0.0, 1.0))
        pyro.factor("half", y.new_zeros(()) if float(sign.detach()) > 0 else sign)

    fit = nuts(looks, Y, warmup=50, draws=50, chains=1, compile=False, progress=False)
    assert fit.compiled == "eager"
    assert fit.draws()["b"].shape == (50, 2)


def test_a_distribution_made_while_pyro_checked_its_values_is_traced_all_the_same() -> None:
    """`expand` remembers the validation of its day; the user's own object is left as it is."""
    prior = dist.Normal(torch.zeros(2).double(), 10.0).expand([2]).to_event(1)

    def model(y: Tensor) -> None:
        b = pyro.sample("b", prior)
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(b.sum(), 1.0), obs=y)

    assert prior.base_dist._validate_args
    assert nuts(model, Y, warmup=20, draws=20, chains=1, progress=False).compiled == "script"
    assert svi(model, "auto_normal", Y, steps=120, draws=5, progress=False).compiled == "script"
    assert prior.base_dist._validate_args


def test_all_in_float32_where_that_is_asked_for() -> None:
    fit = svi(in_a_closure, "auto_normal", Y, dtype=torch.float32, steps=20, draws=20, progress=False)
    assert fit.data.dtype == torch.float32
    assert fit.draws()["b"].dtype == "float32"
