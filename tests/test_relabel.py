"""Whatever order the components of each draw come in, relabelling brings them to one."""

from itertools import permutations
from typing import Any

import arviz as az
import numpy as np
import pytest
import torch
from pyrometer.inference.density import Density
from pyrometer.inference.relabel import Labels, component_features, match, permute, relabel
from pyrometer.models import BayesianGMM
from truths import COVARIANCES, data_of, in_doubles, two_clusters

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
    assert order is not None
    restored = permute(mixed, DIMS, COMPONENTS, order)
    for name, values in draws.items():
        np.testing.assert_array_equal(restored[name], values, err_msg=name)


def test_components_stand_by_rising_mean_of_the_first_feature_of_locs() -> None:
    draws = draws_in_order()
    backwards = permute(draws, DIMS, COMPONENTS, np.tile([3, 2, 1, 0], (400, 1)))
    order = relabel(backwards, DIMS, "components")
    assert order is not None
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
    assert order is not None
    assert rhat(permute(chains, DIMS, COMPONENTS, order)) < 1.01


def test_a_pivot_sets_the_order() -> None:
    draws = draws_in_order()
    features = component_features(draws, DIMS, "components")
    assert features is not None
    pivot = features.mean(0)[[1, 3, 0, 2]]
    order = relabel(shuffled(draws), DIMS, "components", pivot)
    assert order is not None
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
    assert relabel(draws, dims, "components") is None
    assert component_features(draws, dims, "components") is None
    np.testing.assert_array_equal(permute(draws, dims, COMPONENTS, np.zeros((5, 0), int))["transitions"], draws["transitions"])


def test_one_draw_and_one_component_are_no_special_case() -> None:
    one = {"locs": np.array([[[5.0], [2.0]]])}
    dims = {"locs": ("components", "features")}
    order = relabel(one, dims, "components")
    assert order is not None
    assert order.tolist() == [[1, 0]]
    single = relabel({"locs": np.ones((7, 1, 2))}, dims, "components")
    assert single is not None
    assert single.tolist() == [[0]] * 7
