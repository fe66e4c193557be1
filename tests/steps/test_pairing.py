"""A model and guide that do not fit are refused in one line before any training; those that do get their estimator."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO
from pyro.optim import PyroOptim
from pyrometer import svi
from pyrometer.errors import InputError
from pyrometer.guides import catalogue
from pyrometer.inference.steps.pairing import pair
from pyrometer.models import GMM, BayesianGMM
from pyrometer.models.trace import read_structure
from torch import Tensor
from torch.distributions import constraints
from truths import COUNTS, data_of, in_doubles, normal_guide, normal_mean, poisson_guide, poisson_mixture, two_clusters

X = two_clusters()
COLUMN = X[:, 0]


class Untouched(PyroOptim):
    """An optimizer that must not be asked for a step."""

    def __init__(self) -> None:
        super().__init__(torch.optim.SGD, {"lr": 0.1})

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("a step was taken")


def refusal(model: Any, guide: Any, x: Tensor = X, **options: Any) -> str:
    """The one line that the pair is refused with."""
    with pytest.raises(InputError) as caught:
        svi(model, guide, x, **{"optimizer": Untouched(), "steps": 3, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def no_rates(x: Tensor) -> None:
    pyro.sample("weights", dist.Dirichlet(torch.ones(2)))


def extra_site(x: Tensor) -> None:
    poisson_guide(x)
    pyro.sample("rate", dist.Normal(0.0, 1.0))


def observed_site(x: Tensor) -> None:
    poisson_guide(x)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Poisson(1.0))


def wrong_shape(x: Tensor) -> None:
    pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
    pyro.sample("rates", dist.Gamma(1.0, 1.0))


def wrong_support(x: Tensor) -> None:
    pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("components", 2):
        pyro.sample("rates", dist.Normal(50.0, 1e-3))


def wrong_value(x: Tensor) -> None:
    pyro.sample("weights", dist.Delta(torch.tensor([0.5, 0.9]), event_dim=1))
    with pyro.plate("components", 2):
        pyro.sample("rates", dist.Gamma(1.0, 1.0))


def too_many_categories(x: Tensor) -> None:
    poisson_guide(x)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})


def unplated_assignments(x: Tensor) -> None:
    poisson_guide(x)
    pyro.sample("z", dist.Categorical(torch.ones(len(x), 2)), infer={"enumerate": "parallel"})


def broken(x: Tensor) -> None:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("guide", "fragments"),
    [
        (no_rates, ("guide no_rates does not sample site 'rates' of model poisson_mixture", "add pyro.sample('rates'")),
        (extra_site, ("samples 'rate', which is not a site of model poisson_mixture", "one of weights, rates, z")),
        (observed_site, ("samples 'x', which is observed in model poisson_mixture", "remove it")),
        (wrong_shape, ("site 'rates' has shape () in guide wrong_shape and (2,) in the model",)),
        (wrong_support, ("guide wrong_support draws site 'rates' outside its support", "choose a distribution")),
        (wrong_value, ("guide wrong_value draws site 'weights' outside its support",)),
        (too_many_categories, ("guide too_many_categories draws site 'z' outside its support",)),
        (unplated_assignments, ("site 'z'", "plate")),
        (broken, ("guide broken fails on this data: KeyError",)),
        ("structured", ("model poisson_mixture has no guide 'structured': choose one of auto_delta",)),
    ],
)
def test_a_guide_that_does_not_fit_is_refused_before_training(guide: Any, fragments: tuple[str, ...]) -> None:
    line = refusal(poisson_mixture, guide, COUNTS)
    for fragment in fragments:
        assert fragment in line


@pytest.mark.parametrize(
    ("estimator", "guide", "fragment"),
    [
        (
            "Elbow",
            "structured",
            "estimator='Elbow' is unknown: choose auto, Trace, TraceMeanField, TraceGraph, TraceEnum",
        ),
        ("Trace", "structured", "Trace_ELBO cannot sum out site 'z', which guide structured leaves to the estimator"),
        ("TraceGraph", "full_mean_field", "TraceGraph_ELBO cannot sum out site 'z'"),
        ("TraceMeanField", "sampled", "TraceMeanField_ELBO needs reparameterised sites, and 'z' is discrete"),
        ("Renyi", "sampled", "RenyiELBO needs reparameterised sites, and 'z' is discrete"),
        (Trace_ELBO(), "mean_field", "Trace_ELBO cannot sum out site 'z'"),
    ],
)
def test_an_estimator_that_would_be_wrong_is_refused_before_training(estimator: Any, guide: str, fragment: str) -> None:
    assert fragment in refusal(BayesianGMM(2), guide, estimator=estimator)


def normal_by_batches(x: Tensor, batch_size: int | None = None) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x[rows])


@pytest.mark.parametrize("estimator", ["Renyi", RenyiELBO(num_particles=3)])
def test_renyi_with_minibatches_is_refused(estimator: Any) -> None:
    line = refusal(normal_by_batches, normal_guide, COLUMN, estimator=estimator, batch_size=5)
    assert "RenyiELBO is biased under minibatches: leave batch_size out" in line


def test_a_batch_size_that_a_model_cannot_take_is_refused() -> None:
    assert "normal_mean takes no batch_size: write it as def model(x, batch_size=None)" in refusal(
        normal_mean, normal_guide, COLUMN, batch_size=5
    )


def test_a_model_that_never_sees_all_rows_is_refused() -> None:
    def always_some(x: Tensor) -> None:
        normal_by_batches(x, batch_size=5)

    assert "model always_some always looks at some rows only" in refusal(always_some, normal_guide, COLUMN)


@pytest.mark.parametrize("option", ["steps", "starts", "draws"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_a_number_that_cannot_be_is_refused(option: str, value: Any) -> None:
    line = refusal(normal_mean, normal_guide, COLUMN, **{option: value})
    assert line == f"{option}={value} must be a whole number, 1 or more"


def test_an_optimizer_that_is_none_is_refused() -> None:
    assert "optimizer='Adamant' is unknown: choose ClippedAdam" in refusal(
        normal_mean, normal_guide, COLUMN, optimizer="Adamant"
    )


def test_fewer_rows_than_components_are_refused() -> None:
    assert "fewer than 30 components" in refusal(BayesianGMM(30), "structured")


def chosen(model: Any, guide: Any, x: Tensor = X, estimator: Any = "auto") -> str:
    """The estimator of the pair."""
    with in_doubles(validate=False):
        made = catalogue(model)[guide](model) if isinstance(guide, str) else guide
        return pair(model, made, "guide", data_of(x), read_structure(model, x), estimator).estimator


@pytest.mark.parametrize(
    ("model", "guide", "estimator"),
    [
        (GMM(2), "marginal", "TraceEnum_ELBO"),
        (GMM(2), "responsibilities", "TraceEnum_ELBO"),
        (GMM(2), "amortized", "TraceEnum_ELBO"),
        (GMM(2), "sampled", "TraceGraph_ELBO"),
        (BayesianGMM(2), "structured", "TraceEnum_ELBO"),
        (BayesianGMM(2), "full_mean_field", "TraceEnum_ELBO"),
        (BayesianGMM(2), "sampled", "TraceGraph_ELBO"),
        (BayesianGMM(2), "auto_mvn", "TraceEnum_ELBO"),
    ],
)
def test_the_treatment_of_z_chooses_the_estimator(model: Any, guide: str, estimator: str) -> None:
    assert chosen(model, guide) == estimator


def test_without_discrete_sites_every_known_kl_is_taken_in_closed_form() -> None:
    def laplace_guide(x: Tensor) -> None:
        loc = pyro.param("loc_loc", lambda: torch.zeros(()))
        pyro.sample("loc", dist.StudentT(4.0, loc))

    assert chosen(normal_mean, normal_guide, COLUMN) == "TraceMeanField_ELBO"
    assert chosen(normal_mean, laplace_guide, COLUMN) == "Trace_ELBO"
    assert chosen(normal_mean, "auto_delta", COLUMN) == "Trace_ELBO"


def test_sites_in_another_order_have_no_closed_form() -> None:
    """TraceMeanField_ELBO demands the model's order."""

    def model(x: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, scale), obs=x)

    def guide(x: Tensor) -> None:
        scale = pyro.param("s", lambda: torch.ones(()), constraint=constraints.positive)
        pyro.sample("scale", dist.LogNormal(0.0, scale))
        pyro.sample("loc", dist.Normal(0.0, scale))

    assert chosen(model, guide, COLUMN) == "Trace_ELBO"


@pytest.mark.parametrize("estimator", ["TraceEnum", "TraceEnum_ELBO", "TraceEnumELBO"])
def test_an_estimator_may_be_named_in_full_or_in_short(estimator: str) -> None:
    assert chosen(BayesianGMM(2), "structured", estimator=estimator) == "TraceEnum_ELBO"


def test_an_elbo_of_pyros_is_taken_as_it_is() -> None:
    assert chosen(normal_mean, normal_guide, COLUMN, RenyiELBO(num_particles=3)) == "RenyiELBO"


@pytest.mark.parametrize("estimator", ["Trace", "TraceMeanField", "TraceGraph", "TraceEnum", "Renyi"])
def test_every_sound_estimator_reaches_the_conjugate_evidence(estimator: str) -> None:
    """The posterior is in the guide's family, so that each bound is tight at its best."""
    x = COLUMN - COLUMN.mean() + 0.5
    fit = svi(normal_mean, normal_guide, x, estimator=estimator, steps=600, lr=0.05, draws=10)
    rows = len(x)
    joint = dist.MultivariateNormal(torch.zeros(rows).double(), torch.eye(rows).double() + 1)  # x, loc integrated out
    assert fit.estimator.startswith(estimator)
    last = fit.losses[-200:]
    tolerance = 0.2 if estimator == "Renyi" else 0.05 + 5 * last.std() / 200**0.5  # the best guide is not quite reached
    assert abs(-last.mean() - joint.log_prob(x).item()) < tolerance
    if estimator != "Renyi":  # its bound is flat in q about the posterior
        assert abs(fit.params["loc_loc"].item() - x.sum().item() / (rows + 1)) < 0.2 * (rows + 1) ** -0.5
        assert abs(fit.params["loc_scale"].item() * (rows + 1) ** 0.5 - 1) < 0.1
