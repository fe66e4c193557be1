"""One trace tells what a model consists of, and touches nothing."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.models import GMM, BayesianGMM
from pyrometer.models.structure import Structure, model_name
from pyrometer.models.trace import deterministic, read_structure
from torch import Tensor
from truths import in_doubles, poisson_mixture, two_clusters

X = two_clusters()


def structure(model: Any, x: Tensor = X) -> Structure:
    """What `read_structure` says of it."""
    with in_doubles():
        return read_structure(model, x)


def table(found: Structure) -> dict[str, tuple[str, tuple[str, ...]]]:
    """name -> (kind, dims)."""
    return {site.name: (site.kind, site.dims) for site in found.sites}


def test_every_site_of_a_mixture_has_its_kind_and_named_dims() -> None:
    found = structure(BayesianGMM(3))
    matrix = ("components", "features", "features_bis")
    assert table(found) == {
        "weights": ("latent", ("components",)),
        "precision_trils": ("latent", matrix),
        "locs": ("latent", ("components", "features")),
        "covariances": ("deterministic", matrix),
        "z": ("discrete", ("data",)),
        "x": ("observed", ("data", "features")),
    }
    assert [site.name for site in found.latent] == ["weights", "precision_trils", "locs"]
    assert [site.name for site in found.discrete] == ["z"]
    assert found.max_plate_nesting == 1
    assert not found.subsampled


def test_the_params_of_a_model_are_sites_with_dims_too() -> None:
    found = table(structure(GMM(3, "diagonal")))
    assert found["weights"] == ("param", ("components",))
    assert found["scales"] == ("param", ("components", "features"))
    assert found["z"] == ("discrete", ("data",))


def test_a_minibatch_is_seen() -> None:
    found = structure(BayesianGMM(3, batch_size=5))
    assert found.subsampled
    assert (found.plates["data"].size, found.plates["data"].full_size) == (5, len(X))


def test_unnamed_mixture_weights_bear_the_dim_components() -> None:
    found = structure(poisson_mixture, torch.arange(5.0).double())
    assert table(found)["weights"] == ("latent", ("components",))
    assert table(found)["rates"] == ("latent", ("components",))


def test_a_simplex_of_another_size_bears_no_dim_of_components() -> None:
    def model(x: Tensor) -> None:
        pyro.sample("shares", dist.Dirichlet(torch.ones(4)))
        with pyro.plate("components", 2):
            pyro.sample("locs", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([2]).to_event(1), obs=x)

    assert table(structure(model))["shares"] == ("latent", ("shares_dim_0",))


def test_nested_plates_name_batch_dims_from_the_right() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("features", 2, dim=-1):
            loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(x), dim=-2):
                pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    found = structure(model)
    assert table(found) == {"loc": ("latent", ("features",)), "x": ("observed", ("data", "features"))}
    assert found.max_plate_nesting == 2


def rows_of(found: Structure) -> str | None:
    """The name of the plate of rows."""
    return found.rows.name if found.rows else None


def test_the_rows_are_the_plate_called_data_wherever_it_stands() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("features", 2, dim=-1), pyro.plate("data", len(x), dim=-2):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    assert rows_of(structure(model)) == "data"


def test_without_a_plate_called_data_the_rows_are_the_outermost_around_the_first_observed_site() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("groups", 3):
            loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x), dim=-2), pyro.plate("entries", 2, dim=-1):
            pyro.sample("x", dist.Normal(loc.sum(), 1.0), obs=x)

    found = structure(model)
    assert rows_of(found) == "rows"
    assert [site.name for site in found.shared] == ["loc"]
    assert found.local == ()


def test_a_model_without_plates_has_no_rows() -> None:
    def model(x: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(loc, 1.0).expand(x.shape).to_event(2), obs=x)

    found = structure(model)
    assert found.rows is None
    assert found.labels == ()
    assert [site.name for site in found.shared] == ["loc"]


def test_latents_under_the_plate_of_rows_are_local_and_the_others_shared() -> None:
    def model(x: Tensor) -> None:
        tau = pyro.sample("tau", dist.LogNormal(0.0, 1.0))
        kind = pyro.sample("kind", dist.Bernoulli(0.3))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, tau))
            label = pyro.sample("label", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(z + label + kind, 1.0), obs=x)

    found = structure(model, X[:, 0])
    assert [site.name for site in found.local] == ["z"]
    assert [site.name for site in found.shared] == ["tau"]
    assert [site.name for site in found.discrete] == ["kind", "label"]
    assert [site.name for site in found.labels] == ["label"]


def test_reading_leaves_the_param_store_and_an_outer_trace_alone() -> None:
    with in_doubles():
        pyro.param("mine", torch.ones(2))
        trace = pyro.poutine.trace(lambda: read_structure(GMM(2), X)).get_trace()
        assert list(pyro.get_param_store()) == ["mine"]
    assert set(trace.nodes) <= {"_INPUT", "_RETURN"}


def model_without_observation(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("loc", dist.Normal(0.0, 1.0))


def model_with_misnamed_dims(x: Tensor) -> None:
    deterministic("mean", x.mean(0), ())
    with pyro.plate("data", len(x)):
        normal = dist.Normal(0.0, 1.0).expand([2]).to_event(1)
        pyro.sample("x", normal, obs=x, infer={"event_dims": ["a", "b"]})


def model_that_fails(x: Tensor) -> None:
    raise RuntimeError("no such\nthing")


@pytest.mark.parametrize(
    ("model", "fragment"),
    [
        (model_without_observation, "model model_without_observation observes nothing: give a site obs=x"),
        (model_with_misnamed_dims, "site 'x' names 2 event dims and has 1: name each of them"),
        (model_that_fails, r"model model_that_fails fails on data of shape \(24, 2\): RuntimeError: no such$"),
    ],
)
def test_a_model_that_cannot_be_read_is_refused_in_one_line(model: Any, fragment: str) -> None:
    with pytest.raises(InputError, match=fragment) as caught:
        structure(model)
    assert "\n" not in str(caught.value)


def test_an_error_without_words_is_told_by_its_kind() -> None:
    def model(x: Tensor) -> None:
        raise AssertionError

    with pytest.raises(InputError, match="AssertionError"):
        structure(model)


def test_a_model_is_called_by_its_function_or_class() -> None:
    assert model_name(poisson_mixture) == "poisson_mixture"
    assert model_name(GMM(2)) == "GMM"


def test_a_deterministic_site_bears_the_plates_around_it() -> None:
    def schools(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("schools", len(y)):
            eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
            theta = pyro.deterministic("theta", mu + eta)
            pyro.deterministic("pair", torch.stack([eta, eta], -1), event_dim=1)
            pyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    dims = {site.name: site.dims for site in read_structure(schools, torch.zeros(5)).sites}
    assert dims["theta"] == ("schools",)
    assert dims["pair"] == ("schools", "pair_dim_1")
    assert dims["mu"] == ()
