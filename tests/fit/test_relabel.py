"""Whatever order the components of each draw come in, relabelling brings them to one."""

from functools import partial
from itertools import permutations
from typing import Any, ClassVar

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.fit.relabel import Labels, component_features, match, permute, relabel, seen_exchangeable
from pyrometer.models import BayesianGMM
from torch import Tensor
from truths import COVARIANCES, data_of, in_doubles, mixture_of_two, normal_mixture, two_clusters

DIMS = {
    "weights": ("components",),
    "locs": ("components", "features"),
    "covariances": ("components", "features", "features_bis"),
    "transitions": ("states", "components"),
    "scale": (),
}
COMPONENTS = Labels("components", {})
X = two_clusters()


def draws_in_order(number: int = 400, components: int = 4) -> dict[str, np.ndarray]:
    """Posterior draws of components that stand apart in `locs`, the first feature rising."""
    rng = np.random.default_rng(0)
    centres = np.arange(components)[:, None] * np.array([3.0, -2.0])
    return {
        "weights": rng.dirichlet(np.full(components, 20.0), number),
        "locs": centres + 0.3 * rng.standard_normal((number, components, 2)),
        "covariances": np.eye(2) * rng.gamma(20.0, 0.05, (number, components, 1, 1)),
        "transitions": rng.random((number, 3, components)),
        "scale": rng.random(number),
    }


def shuffled(draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each draw's components in an order of its own."""
    rng = np.random.default_rng(1)
    number, components = draws["weights"].shape
    return permute(draws, DIMS, COMPONENTS, rng.permuted(np.tile(np.arange(components), (number, 1)), axis=1))


def test_draws_permuted_at_random_are_restored() -> None:
    draws = draws_in_order()
    mixed = shuffled(draws)
    assert not np.array_equal(mixed["locs"], draws["locs"])
    order = relabel(mixed, DIMS, "components")
    restored = permute(mixed, DIMS, COMPONENTS, order)
    for name, values in draws.items():
        np.testing.assert_array_equal(restored[name], values, err_msg=name)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", [1e-170, 1e170])
def test_draws_whose_squares_are_no_numbers_are_restored(unit: float) -> None:
    draws = draws_in_order()
    draws["locs"] *= unit
    restored = permute(mixed := shuffled(draws), DIMS, COMPONENTS, relabel(mixed, DIMS, "components"))
    np.testing.assert_array_equal(restored["locs"], draws["locs"])


def test_components_stand_by_rising_mean_of_the_first_feature_of_locs() -> None:
    draws = draws_in_order()
    backwards = permute(draws, DIMS, COMPONENTS, np.tile([3, 2, 1, 0], (400, 1)))
    order = relabel(backwards, DIMS, "components")
    assert (order == [3, 2, 1, 0]).all()


def test_chains_with_switched_labels_agree_afterwards() -> None:
    mixed = draws_in_order()
    switch = np.tile(np.arange(4), (400, 1))
    switch[200:] = [2, 0, 3, 1]
    chains = permute(mixed, DIMS, COMPONENTS, switch)

    def rhat(draws: dict[str, np.ndarray]) -> float:
        return float(az.rhat(draws["locs"].reshape(2, 200, 4, 2)[..., 1, 0]))

    assert rhat(chains) > 1.5
    order = relabel(chains, DIMS, "components")
    assert rhat(permute(chains, DIMS, COMPONENTS, order)) < 1.01


def test_a_pivot_sets_the_order() -> None:
    draws = draws_in_order()
    features = component_features(draws, DIMS, "components")
    pivot = features.mean(0)[[1, 3, 0, 2]]
    order = relabel(shuffled(draws), DIMS, "components", pivot)
    expected = permute(draws, DIMS, COMPONENTS, np.tile([1, 3, 0, 2], (400, 1)))
    np.testing.assert_array_equal(permute(shuffled(draws), DIMS, COMPONENTS, order)["locs"], expected["locs"])


def test_the_match_has_the_least_squared_distance_of_all_orders() -> None:
    rng = np.random.default_rng(2)
    features, pivot, scale = rng.random((20, 4, 3)), rng.random((4, 3)), np.array([1.0, 2.0, np.inf])
    found = match(features, pivot, scale)
    for draw, order in zip(features, found, strict=True):
        costs = {p: np.square((draw[list(p)] - pivot) / scale).sum() for p in permutations(range(4))}
        assert np.isclose(costs[tuple(order)], min(costs.values()))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_every_variable_is_permuted_alike_so_that_the_log_joint_is_unchanged(covariance: Any) -> None:
    model = BayesianGMM(3, covariance)
    with in_doubles(validate=False):
        density = Density(model, data_of(X))
        flat = density.unconstrain(model.init(X, seed=0)) + 0.2 * torch.randn(4, 1)
        points = [density.constrain(u)[0] for u in flat]
        dims = {site.name: site.dims for site in density.structure.latent}
        draws = {name: torch.stack([point[name] for point in points]).numpy() for name in dims}
        order = np.array([[2, 0, 1], [1, 0, 2], [0, 2, 1], [2, 1, 0]])
        switched = {name: torch.as_tensor(value) for name, value in permute(draws, dims, COMPONENTS, order).items()}
        before = [density.log_joint(point) for point in points]
        after = [density.log_joint({name: value[s] for name, value in switched.items()}) for s in range(4)]
    torch.testing.assert_close(torch.stack(after), torch.stack(before))
    assert not np.array_equal(switched["weights"].numpy(), draws["weights"])


def test_draws_without_components_are_left_as_they_are() -> None:
    draws = {"scale": np.ones(5), "transitions": np.ones((5, 2))}
    dims = {"scale": (), "transitions": ("states",)}
    np.testing.assert_array_equal(
        permute(draws, dims, COMPONENTS, np.zeros((5, 0), int))["transitions"], draws["transitions"]
    )


def test_one_draw_and_one_component_are_no_special_case() -> None:
    one = {"locs": np.array([[[5.0], [2.0]]])}
    dims = {"locs": ("components", "features")}
    order = relabel(one, dims, "components")
    assert order.tolist() == [[1, 0]]
    single = relabel({"locs": np.ones((7, 1, 2))}, dims, "components")
    assert single.tolist() == [[0]] * 7


def seen(model: Any, sites: dict[str, Tensor]) -> tuple[list[str], tuple[str, ...]]:
    """The dims that were seen to be exchangeable at these draws, name -> (S, ...), and what was refused."""
    with in_doubles(validate=False):
        labels, refused = seen_exchangeable(Density(model, data_of(X[:, 0])), sites)
    return [each.dim for each in labels], refused


MIXTURE = {
    "weights": torch.tensor([[0.2, 0.8], [0.4, 0.6]]).double(),
    "locs": torch.tensor([[0.0, 5.0], [-1.0, 6.0]]).double(),
}


def told_apart(x: Tensor) -> None:
    """locs_k ~ Normal(k, 3), x_n ~ sum_k weights_k Normal(locs_k, 1)."""
    mixture_of_two(x, "locs", dist.Normal(torch.arange(2.0), 3.0), partial(dist.Normal, scale=1.0))


def test_a_dim_is_exchangeable_where_a_permutation_leaves_the_density_as_it_is() -> None:
    assert seen(normal_mixture, MIXTURE) == (["components"], ())


def test_a_dim_whose_prior_tells_its_entries_apart_is_not_and_a_remark_says_so() -> None:
    dims, refused = seen(told_apart, MIXTURE)
    assert dims == []
    assert len(refused) == 1
    assert "components is not exchangeable: permuting weights, locs changes the density" in refused[0]


def mixing_by_a_share(x: Tensor) -> None:
    """theta ~ Beta(5, 5), locs_k ~ Normal(0, 3), x_n ~ theta Normal(locs_0, 1) + (1 - theta) Normal(locs_1, 1)."""
    theta = pyro.sample("theta", dist.Beta(5.0, 5.0))
    with pyro.plate("components", 2):
        locs = pyro.sample("locs", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.stack([theta, 1 - theta])))
        pyro.sample("x", dist.Normal(locs[z], 1.0), obs=x)


class Declared:
    """The same, with what a permutation does to theta."""

    exchangeable: ClassVar[Any] = {"components": {"theta": lambda theta, order: theta if order[0] == 0 else 1 - theta}}

    def __call__(self, x: Tensor) -> None:
        mixing_by_a_share(x)


def test_what_a_permutation_does_to_other_variables_can_be_told() -> None:
    sites = {"theta": torch.tensor([0.2, 0.4]).double(), "locs": MIXTURE["locs"]}
    assert seen(mixing_by_a_share, sites)[0] == []
    assert seen(Declared(), sites) == (["components"], ())
    labels = Labels("components", Declared.exchangeable["components"])
    draws = {name: value.numpy() for name, value in sites.items()}
    dims = {"theta": (), "locs": ("components",)}
    turned = permute(draws, dims, labels, np.array([[1, 0], [0, 1]]))
    np.testing.assert_allclose(turned["theta"], [0.8, 0.4])
    np.testing.assert_array_equal(turned["locs"], [[5.0, 0.0], [-1.0, 6.0]])
