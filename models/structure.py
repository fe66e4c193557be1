"""What is known of a Pyro model: its sites and plates, and what a program may offer beside running."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Size, Tensor, nn
from torch.distributions import constraints

__all__ = ["Extras", "Model", "Plate", "Site", "Structure", "exchangeable_dims", "model_name", "one_line"]

Model = Callable[..., Any]
COMPONENTS = "components"


class Extras(Protocol):
    """What a program may offer beside running; all of it is optional, and looked up by name.

    init: starting values of sites by name, for the data. collapsed: the program with its discrete sites summed out by
    hand. prepare: a single table, checked and in the dtype and on the device that the program wants. codes: strings as
    rows of numbers, of a model of strings; as_given: such rows as strings again. encoder_for: a guide's network from
    rows to so many numbers each. numbers_a_row: how many it takes to compute the density of a row. frozen: a copy with
    nothing left to train. restored: a copy with these params in its networks. beta: the weight of the divergence in
    training. dims: names for the dims of its params. exchangeable: the dims whose order means nothing, each with what a
    permutation does to variables that do not bear it: name -> (value, order) -> value, where entry k of what is
    permuted was entry order[k].
    """

    dims: Mapping[str, tuple[str, ...]]
    exchangeable: Sequence[str] | Mapping[str, Mapping[str, Callable[[Any, Any], Any]]]
    beta: float

    def init(self, *args: Any, seed: int | None = None) -> dict[str, Tensor]: ...

    def collapsed(self) -> Model: ...

    def prepare(self, values: Tensor, columns: tuple[str, ...]) -> Tensor: ...

    def codes(self, strings: Sequence[str], name: str) -> Tensor: ...

    def as_given(self, rows: np.ndarray) -> Any: ...

    def encoder_for(self, x: Tensor, outputs: int) -> nn.Module: ...

    @property
    def numbers_a_row(self) -> int: ...

    def frozen(self) -> Model: ...

    def restored(self, params: Mapping[str, Tensor], *args: Any) -> Model: ...


class Plate(NamedTuple):
    """A vectorized plate: its batch dim (-1 is the rightmost), rows in this run, and rows in all."""

    name: str
    dim: int
    size: int
    full_size: int


@dataclass(frozen=True)
class Site:
    """One site of a model. kind: latent, discrete, observed, factor, deterministic or param. flat: of a flat prior."""

    name: str
    kind: str
    shape: Size
    dims: tuple[str, ...]
    plates: tuple[Plate, ...]
    support: constraints.Constraint | None
    flat: bool = False


@dataclass(frozen=True)
class Structure:
    """The sites of a model and the plates around them.

    rows: the plate called `data`, else the outermost around the first observed site that has one, else None. mixed:
    whether the model brings tensors of another precision. undefined: whether an observed site's density is NaN.
    """

    sites: tuple[Site, ...]
    plates: dict[str, Plate]
    rows: Plate | None = None
    mixed: bool = False
    undefined: bool = False

    @property
    def max_plate_nesting(self) -> int:
        """How many batch dims the plates take."""
        return max((-plate.dim for plate in self.plates.values()), default=0)

    @property
    def subsampled(self) -> tuple[Plate, ...]:
        """The plates that look at fewer rows than they have."""
        return tuple(plate for plate in self.plates.values() if plate.size < plate.full_size)

    def of_kind(self, *kinds: str) -> tuple[Site, ...]:
        """The sites of those kinds, in the order the model meets them."""
        return tuple(site for site in self.sites if site.kind in kinds)

    @cached_property
    def latent(self) -> tuple[Site, ...]:
        """The continuous latent sites: what a guide approximates."""
        return self.of_kind("latent")

    @cached_property
    def discrete(self) -> tuple[Site, ...]:
        """The latent sites that enumeration sums out."""
        return self.of_kind("discrete")

    @cached_property
    def labels(self) -> tuple[Site, ...]:
        """The discrete sites with one value a row: which component a row came from."""
        return tuple(site for site in self.discrete if self.rows and [p.name for p in site.plates] == [self.rows.name])

    @cached_property
    def observed(self) -> tuple[Site, ...]:
        """The observed sites."""
        return self.of_kind("observed")

    def by_row(self, site: Site) -> bool:
        """Whether a site stands under the plate of rows."""
        return self.rows is not None and any(plate.name == self.rows.name for plate in site.plates)

    @cached_property
    def local(self) -> tuple[Site, ...]:
        """The continuous latent sites of each row."""
        return tuple(site for site in self.latent if self.by_row(site))

    @cached_property
    def shared(self) -> tuple[Site, ...]:
        """The continuous latent sites that all rows have in common."""
        return tuple(site for site in self.latent if not self.by_row(site))

    def of_all_rows(self, cut: Collection[str]) -> "Structure":
        """The same as it would be if the plates of these names looked at all of their rows."""
        if not cut:
            return self
        whole = lambda plate: plate._replace(size=plate.full_size) if plate.name in cut else plate  # noqa: E731
        plates = {name: whole(plate) for name, plate in self.plates.items()}

        def grown(site: Site) -> Site:
            sizes = (plates[d].size if d in cut else size for d, size in zip(site.dims, site.shape, strict=True))
            return replace(site, shape=Size(sizes), plates=tuple(map(whole, site.plates)))

        rows = None if self.rows is None else whole(self.rows)
        return replace(self, sites=tuple(map(grown, self.sites)), plates=plates, rows=rows)

    @property
    def only_local(self) -> bool:
        """Whether rows share no continuous latent, so that each row's posterior stands alone."""
        return bool(self.local) and not self.shared


def model_name(model: object) -> str:
    """What to call a model or guide in a message."""
    return getattr(model, "__name__", None) or type(model).__name__


def one_line(error: Exception) -> str:
    """What an exception of somebody else's code says, without the pages that may follow."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def exchangeable_dims(model: Model) -> Mapping[str, Mapping[str, Callable[[Any, Any], Any]]]:
    """The dims that a model says are exchangeable, each with what a permutation does to other variables."""
    declared = getattr(model, "exchangeable", (COMPONENTS,))
    return declared if isinstance(declared, Mapping) else {dim: {} for dim in declared}
