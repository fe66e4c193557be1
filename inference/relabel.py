"""Label switching: every draw's components are put in the order of one pivot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = ["COMPONENTS", "component_features", "match", "permute", "relabel"]

COMPONENTS = "components"
Draws = Mapping[str, np.ndarray]
Dims = Mapping[str, tuple[str, ...]]
ROUNDS = 50  # of matching and averaging, at most; three settle most posteriors, ten those with noisy features


def component_features(draws: Draws, dims: Dims) -> np.ndarray | None:
    """All that varies by component, side by side: name -> (S, ...) becomes (S, K, F); None where nothing does."""
    parts = []
    for name, values in draws.items():
        if COMPONENTS in dims[name]:
            moved = np.moveaxis(values, 1 + dims[name].index(COMPONENTS), 1)
            parts.append(moved.reshape(*moved.shape[:2], -1))
    return np.concatenate(parts, -1) if parts else None


def match(features: np.ndarray, pivot: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """For each draw the order of its components that lies closest to the pivot (Hungarian; Stephens 2000, sec. 4).

    features: (S, K, F). pivot: (K, F). scale: (F,), the unit of each feature's squared distance. Returns (S, K):
    component `order[s, k]` of draw s plays the part of component k of the pivot.
    """
    a, b = features / scale, pivot / scale
    cost = np.square(a).sum(-1)[:, None, :] + np.square(b).sum(-1)[None, :, None] - 2 * np.einsum("kf,sjf->skj", b, a)
    return np.stack([linear_sum_assignment(c)[1] for c in cost])


def permute(draws: Draws, dims: Dims, order: np.ndarray) -> dict[str, np.ndarray]:
    """Draws with their components in that order: name -> (S, ...), order (S, K)."""
    result = {}
    for name, values in draws.items():
        if COMPONENTS in dims[name]:
            axis = 1 + dims[name].index(COMPONENTS)
            index = order.reshape(len(order), *[1] * (axis - 1), -1, *[1] * (values.ndim - axis - 1))
            values = np.take_along_axis(values, index, axis)
        result[name] = values
    return result


def relabel(draws: Draws, dims: Dims, pivot: np.ndarray | None = None, first: int = 0) -> np.ndarray | None:
    """The order that puts every draw in the labelling of one pivot: (S, K), or None without components.

    pivot: (K, F) as `component_features` lays it out. None starts at draw number `first` and moves to the mean of the
    draws so matched until the orders settle; components then stand by rising mean of the first feature of `locs`, or
    of the first variable that varies by component.
    """
    features = component_features(draws, dims)
    if features is None:
        return None
    scale = _spread(features.reshape(-1, features.shape[-1]))
    if pivot is not None:
        return match(features, pivot, scale)
    pivot = features[first]
    order = match(features, pivot, scale)
    for _ in range(ROUNDS):
        matched = np.take_along_axis(features, order[..., None], 1)
        scale = _spread((matched - matched.mean(0)).reshape(-1, features.shape[-1]))
        previous, order = order, match(features, matched.mean(0), scale)
        if (order == previous).all():
            break
    key = component_features({"locs": draws["locs"]}, dims) if COMPONENTS in dims.get("locs", ()) else None
    first_feature = np.take_along_axis(features if key is None else key, order[..., None], 1)[..., 0].mean(0)
    return order[:, np.argsort(first_feature)]


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation of each column, infinite where constant, so that it never decides: (S, F) -> (F,)."""
    sd = values.std(0)
    return np.where(sd > 1e-12 * np.abs(values).max(0, initial=1e-300), sd, np.inf)
