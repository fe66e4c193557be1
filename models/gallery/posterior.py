"""A published posterior: its model, its data, and what is known about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
from pandas import DataFrame

from ...datasets.published import published_data, reference
from ...display.objects import described

__all__ = ["Posterior"]


@dataclass(frozen=True)
class Posterior:
    """A Pyro program with the data and the reference moments of a posterior of posteriordb.

    The program's sites, latent or deterministic, have the names of the reference's variables.

    Parameters
    ----------
    name : one of `pyrometer.datasets.PUBLISHED`.
    model : the program.
    arguments : the program's arguments from the published data, by default those of the same name.
    """

    _repr_html_ = described

    name: str
    model: Callable[..., None]
    arguments: Callable[[Mapping[str, Any]], Mapping[str, Any]] = field(default=dict, repr=False)

    def data(self) -> dict[str, Any]:
        """What the model is called with, by the names of its parameters: arrays of float64 or int64, and numbers."""
        arguments = self.arguments(published_data(self.name))
        return {name: arguments[name] for name in signature(self.model).parameters}

    def reference(self) -> DataFrame:
        """Columns mean, sd, q05, q50, q95 and n of the reference draws, a row for each scalar."""
        return reference(self.name)

    def scalars(self, draws: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The scalars of the reference, by its names, from draws of the model's sites.

        Parameters
        ----------
        draws
            Site -> array (..., *site's shape), such as (draws, *shape) or (chains, draws, *shape).

        Returns
        -------
        dict
            Name of a scalar -> array (...), in the order of the reference.
        """
        return {name: _entry(name, draws) for name in self.reference().index}


def _entry(name: str, draws: Mapping[str, Any]) -> np.ndarray:
    """theta[2, 1] is entry (1, 0) of the draws of theta."""
    site, _, index = name.removesuffix("]").partition("[")
    places: tuple[Any, ...] = (..., *(int(number) - 1 for number in index.split(",") if number))
    return np.asarray(draws[site])[places]
