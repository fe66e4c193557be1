"""Label switching: where labels mean nothing, every draw's are put in the order of one pivot."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from ...models.structure import exchangeable_dims
from ..density.log_density import Density

Draws = Mapping[str, Any]
Dims = Mapping[str, tuple[str, ...]]
ROUNDS = 50  # of matching and averaging, at most; three settle most posteriors, ten those with noisy features
POINTS = 3  # draws at which a density is held to its permuted self
SAME = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative, between sums in another order


class Labels(NamedTuple):
    """One exchangeable dim of a model: its name, and what a permutation does to the variables that do not bear it."""

    dim: str
    actions: Mapping[str, Callable[[Any, Any], Any]]

    def permuted(self, values: Any, name: str, dims: Dims, order: np.ndarray) -> Any:
        """One variable's draws (S, ...), tensor or array, under one permutation (K,)."""
        if self.dim in dims[name]:
            before = (slice(None),) * (1 + dims[name].index(self.dim))
            return values[(*before, order)]
        return self.actions[name](values, order) if name in self.actions else values


def seen_exchangeable(density: Density, draws: Mapping[str, Tensor]) -> tuple[tuple[Labels, ...], tuple[str, ...]]:
    """The dims that a model says are exchangeable and whose permutation was seen to leave its density as it is.

    draws: latent sites or params, name -> (S, ...), of which a few are tried; a swap of the first two labels and a turn
    of all make every permutation. Returns the dims, and for each that failed a line that says so. Within `isolated`.
    """
    dims = {site.name: site.dims for site in density.structure.sites}
    kept, refused = [], []
    for dim, actions in exchangeable_dims(density.model).items():
        bearers = [name for name in draws if dim in dims[name]]
        sizes = {draws[name].shape[1 + dims[name].index(dim)] for name in bearers}
        labels, size = Labels(dim, actions), max(sizes, default=0)
        if size < 2:
            continue
        swap, turn = np.array([1, 0, *range(2, size)]), np.roll(np.arange(size), 1)
        if len(sizes) == 1 and all(_unchanged(density, draws, dims, labels, order) for order in (swap, turn)):
            kept.append(labels)
        else:
            why = f"permuting {', '.join(bearers)} changes the density, so labels stay as drawn"
            refused.append(f"{dim} is not exchangeable: {why}")
    return tuple(kept), tuple(refused)


def _unchanged(density: Density, draws: Mapping[str, Tensor], dims: Dims, labels: Labels, order: np.ndarray) -> bool:
    number = len(next(iter(draws.values())))
    with torch.no_grad():
        for draw in np.unique(np.linspace(0, number - 1, POINTS).astype(int)):
            here = {name: value[draw : draw + 1] for name, value in draws.items()}
            there = {name: labels.permuted(value, name, dims, order) for name, value in here.items()}
            before, after = (density.log_joint({name: v[0] for name, v in at.items()}) for at in (here, there))
            close = (before - after).abs() <= SAME.get(before.dtype, 1e-3) * before.abs().clamp(min=1.0)
            if before.isfinite() and not close:
                return False
    return True


def component_features(draws: Draws, dims: Dims, dim: str) -> np.ndarray:
    """All that varies by component, side by side: name -> (S, ...) becomes (S, K, F)."""
    parts = [np.moveaxis(draws[name], 1 + dims[name].index(dim), 1) for name in draws if dim in dims[name]]
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], -1)


def match(features: np.ndarray, pivot: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """For each draw the order of its components that lies closest to the pivot (Hungarian; Stephens 2000, sec. 4).

    features: (S, K, F). pivot: (K, F). scale: (F,), the unit of each feature's squared distance. Returns (S, K):
    component `order[s, k]` of draw s plays the part of component k of the pivot.
    """
    costs = (cdist(pivot / scale, draw, "sqeuclidean") for draw in features / scale)
    return np.stack([linear_sum_assignment(cost)[1] for cost in costs])


def permute(draws: Draws, dims: Dims, labels: Labels, order: np.ndarray) -> dict[str, np.ndarray]:
    """Draws with their labels in that order: name -> (S, ...), order (S, K)."""
    result = {name: values.copy() for name, values in draws.items()}
    orders, which = np.unique(order, axis=0, return_inverse=True)
    for number, one in enumerate(orders):
        chosen = which.reshape(-1) == number
        for name, values in draws.items():
            result[name][chosen] = labels.permuted(values[chosen], name, dims, one)
    return result


def relabel(draws: Draws, dims: Dims, dim: str, pivot: np.ndarray | None = None, first: int = 0) -> np.ndarray:
    """The order that puts every draw in the labelling of one pivot: (S, K).

    pivot: (K, F) as `component_features` lays it out. None starts at draw number `first` and moves to the mean of the
    draws so matched until the orders settle; components then stand by rising mean of the first feature of `locs`, or
    of the first variable that varies by component.
    """
    features = component_features(draws, dims, dim)
    scale = _spread(features.reshape(-1, features.shape[-1]))
    if pivot is not None:
        return match(features, pivot, scale)
    order = match(features, features[first], scale)
    for _ in range(ROUNDS):
        matched = np.take_along_axis(features, order[..., None], 1)
        scale = _spread((matched - matched.mean(0)).reshape(-1, features.shape[-1]))
        previous, order = order, match(features, matched.mean(0), scale)
        if (order == previous).all():
            break
    key = component_features({"locs": draws["locs"]}, dims, dim) if dim in dims.get("locs", ()) else features
    first_feature = np.take_along_axis(key, order[..., None], 1)[..., 0].mean(0)
    return order[:, np.argsort(first_feature)]


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation of each column, infinite where constant, so that it never decides: (S, F) -> (F,)."""
    largest = np.abs(values).max(0, initial=0.0)
    unit = np.where(largest > 0, largest, 1.0)  # whose squares are numbers, as the values' need not be
    sd = (values / unit).std(0)
    return np.where(sd > 1e-12, sd * unit, np.inf)
