"""The plane in which rows are drawn: their two columns, or of more the directions that tell the components apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ...data.data import Data
from ...mapped.blocks import evenly_spaced
from ...runtime.arviz import groups_of, idata_of
from ..drawing.figure import cut

if TYPE_CHECKING:
    from ...fit.fit import Fit

ROWS, DRAWS = 2000, 300  # at most so many, evenly spaced, behind a plane or a picture
NAMED, LONGEST = 3, 11  # columns named on an axis, those that weigh most, and characters of such a name


@dataclass(frozen=True, eq=False)
class Plane:
    """An affine map of rows (..., D) into one or two dimensions. directions: (1 or 2, D). centre: (D,).

    labels: what stands on its axes.
    """

    directions: np.ndarray
    centre: np.ndarray
    labels: tuple[str, ...]

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Where rows, or locs, lie: (..., D) -> (..., 1 or 2)."""
        return (rows - self.centre) @ self.directions.T

    @property
    def label_size(self) -> float:
        """Points of the labels: what says how a direction was found is long."""
        return 9 if "\n" not in self.labels[0] else 7

    def of_covariances(self, covariances: np.ndarray) -> np.ndarray:
        """Theirs in the plane: (..., D, D) -> (..., 2, 2)."""
        return self.directions @ covariances @ self.directions.T


def plane_of(fit: Fit) -> Plane:
    """The plane for the rows of a fit.

    Of more than two columns, each scaled to variance 1: the linear discriminants (Fisher 1936) of the likeliest
    components; where there are two of these, beside the one discriminant the first principal direction of what it
    leaves; where there are none, the first two principal directions.
    """
    rows, names = rows_of(fit.data), columns_of_rows(fit.data)
    if len(names) <= 2:
        return Plane(np.eye(len(names)), np.zeros(len(names)), names)
    centre, sd = rows.mean(0), rows.std(0)
    scale = np.where(sd > 0, sd, 1.0)
    scaled = (rows - centre) / scale
    directions, labels = _discriminants(fit, scaled, names) if fit.structure.labels else (np.zeros((0, len(names))), [])
    if len(directions) < 2:
        more, said = _principal(scaled, directions, 2 - len(directions), names)
        directions, labels = np.concatenate([directions, more]), [*labels, *said]
    return Plane(directions / scale, centre, tuple(labels))


def rows_of(data: Data) -> np.ndarray:
    """What is cut along the rows, side by side: (N, D)."""
    parts = [value for value in data.tensors if data.has_rows(value)]
    return np.concatenate([value.reshape(len(value), -1).cpu().numpy() for value in parts], 1).astype(float)


def columns_of_rows(data: Data) -> tuple[str, ...]:
    """The names of the columns of `rows_of`."""
    if len(data.tensors) == 1 and data.columns:
        return data.columns
    names = list[str]()
    for name, value in data.named.items():
        if data.has_rows(value):
            width = value[0].numel()
            known = data.tables.get(name, tuple(f"{name}[{i}]" for i in range(width)) if width > 1 else (name,))
            names += known
    return tuple(names)


def thinned(fit: Fit, draws: int = DRAWS) -> Fit:
    """The same with so many draws at most, evenly spaced."""
    return with_draws(fit, np.arange(0, fit.posterior.sizes["draw"], -(-fit.number // draws)))


def with_draws(fit: Fit, places: np.ndarray) -> Fit:
    """The same with some of its draws: their numbers in each chain, one several times where so many are wanted."""
    groups = {name: group.isel(draw=places, missing_dims="ignore") for name, group in groups_of(fit.idata).items()}
    return replace(fit, idata=idata_of(groups))


def shown_rows(fit: Fit) -> np.ndarray:
    """The numbers of at most ROWS rows, evenly spaced: (M,)."""
    return evenly_spaced(fit.number_of_rows, ROWS).numpy()


def shares_of(fit: Fit, places: np.ndarray) -> np.ndarray:
    """The responsibilities of some of the rows that were fitted: (M, K)."""
    return thinned(fit).responsibilities().to_numpy()[places]


def _discriminants(fit: Fit, scaled: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """At most two directions that tell the likeliest components apart, and what they are."""
    chosen = shown_rows(fit)
    components = shares_of(fit, chosen).argmax(1)
    number = len(np.unique(components))
    if number < 2 or len(chosen) <= number:
        return np.zeros((0, len(names))), []
    found = LinearDiscriminantAnalysis().fit(scaled[chosen], components)
    shares = found.explained_variance_ratio_[:2]
    directions = found.scalings_.T[: len(shares)]
    how = [f"discriminant {k + 1} ({share:.0%})" for k, share in enumerate(shares)]
    return directions, [f"{said}\n{_weighty(each, names)}" for said, each in zip(how, directions, strict=True)]


def _principal(
    scaled: np.ndarray, taken: np.ndarray, number: int, names: tuple[str, ...]
) -> tuple[np.ndarray, list[str]]:
    """Principal directions of what directions (0 or 1, D) that are taken leave of the rows, and what they are."""
    units = taken / np.linalg.norm(taken, axis=1, keepdims=True) if len(taken) else taken
    found = PCA(number).fit(scaled - scaled @ units.T @ units)
    of = "of the rest" if len(taken) else "({:.0%} of the variance)"
    how = [f"principal direction {k + 1} {of.format(share)}" for k, share in enumerate(found.explained_variance_ratio_)]
    said = [f"{text}\n{_weighty(each, names)}" for text, each in zip(how, found.components_, strict=True)]
    return found.components_, said


def _weighty(direction: np.ndarray, names: tuple[str, ...]) -> str:
    """The columns that weigh most in a direction of scaled columns, in that order, with their signs."""
    most = np.argsort(-np.abs(direction))[:NAMED]
    return " ".join(f"{'−' if direction[i] < 0 else '+'}{cut(names[i], LONGEST)}" for i in most)
