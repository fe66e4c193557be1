"""What a Pyro model consists of, read off one trace: its sites, their kinds, and the names of their dims."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.subsample_messenger import _Subsample
from torch import Size, Tensor, nn
from torch.distributions import constraints

from ..errors import InputError
from .observed import is_undefined
from .program import is_flat, permissive

__all__ = [
    "Extras",
    "Model",
    "Plate",
    "Site",
    "Structure",
    "deterministic",
    "exchangeable_dims",
    "is_deterministic",
    "model_name",
    "one_line",
    "read_structure",
    "shapes_of_sites",
    "sites_of",
]

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


def deterministic(name: str, value: Tensor, dims: tuple[str, ...]) -> Tensor:
    """`pyro.deterministic` with names for the event dims, the rightmost `len(dims)` of value."""
    infer = {"_deterministic": True, "event_dims": list(dims)}
    return pyro.sample(name, dist.Delta(value, event_dim=len(dims)), obs=value, infer=infer)


def is_deterministic(node: Mapping[str, Any]) -> bool:
    """Whether a site was made by `pyro.deterministic`."""
    return bool(node["infer"].get("_deterministic"))


def model_name(model: object) -> str:
    """What to call a model or guide in a message."""
    return getattr(model, "__name__", None) or type(model).__name__


def one_line(error: Exception) -> str:
    """What an exception of somebody else's code says, without the pages that may follow."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def sites_of(trace: poutine.Trace) -> dict[str, dict[str, Any]]:
    """The sample sites of a trace, plates left out."""
    return {
        name: node
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and not isinstance(node["fn"], _Subsample)
    }


def read_structure(model: Model, *args: Any, **kwargs: Any) -> Structure:
    """Run the model once on the data and read its structure; nothing outside is touched but torch's generator.

    Raises InputError where the model fails on this data, or observes nothing.
    """
    with _traced(model, args, kwargs) as (trace, mode):
        nodes = sites_of(trace)
        undefined = [name for name, node in nodes.items() if node["is_observed"] and is_undefined(name, node)]
    plates = {plate.name: plate for node in nodes.values() for plate in _plates(node)}
    params = {name: node for name, node in trace.nodes.items() if node["type"] == "param"}
    dims, shares = getattr(model, "dims", {}), _share_dims(model, plates)
    sites = tuple(_site(name, node, plates, dims.get(name), shares) for name, node in {**nodes, **params}.items())
    observed = [site for site in sites if site.kind in ("observed", "factor")]
    if not observed:
        raise InputError(f"model {model_name(model)} observes nothing: give a site obs=x")
    around = next((site.plates for site in observed if site.plates), (None,))
    rows = plates.get("data", around[0])
    return Structure(sites, plates, rows, mode.happened, bool(undefined))


def shapes_of_sites(model: Model, *args: Any, **kwargs: Any) -> dict[str, Size]:
    """The shapes of sites and params in one run of the model, by name; as `read_structure` runs it, and much sooner."""
    with _traced(model, args, kwargs) as (trace, _):
        params = {name: node for name, node in trace.nodes.items() if node["type"] == "param"}
        return {name: node["value"].shape for name, node in {**sites_of(trace), **params}.items()}


@contextmanager
def _traced(model: Model, args: Any, kwargs: Any) -> Iterator[tuple[poutine.Trace, Any]]:
    """One run of a model, and whether it mixed float types. Raises InputError where it fails."""
    # Blocked, because a guide may ask within a trace.
    with poutine.block(), pyro.get_param_store().scope(), torch.no_grad(), permissive(promote=True) as mode:
        try:
            trace = poutine.trace(model).get_trace(*args, **kwargs)
        except InputError as error:
            raise InputError(str(error).splitlines()[0]) from error  # Pyro adds pages to it
        except Exception as error:
            where = _shapes(args, kwargs)
            raise InputError(f"model {model_name(model)} fails on {where}: {one_line(error)}") from error
        yield trace, mode


def exchangeable_dims(model: Model) -> Mapping[str, Mapping[str, Callable[[Any, Any], Any]]]:
    """The dims that a model says are exchangeable, each with what a permutation does to other variables."""
    declared = getattr(model, "exchangeable", (COMPONENTS,))
    return declared if isinstance(declared, Mapping) else {dim: {} for dim in declared}


def _share_dims(model: Model, plates: dict[str, Plate]) -> dict[int, str]:
    """How many entries a share of each exchangeable plate has, and its name."""
    return {plates[dim].size: dim for dim in reversed([*exchangeable_dims(model)]) if dim in plates}


def _shapes(args: Any, kwargs: Any) -> str:
    """The shapes of the data, for a message."""
    named = {f"argument {place}": value for place, value in enumerate(args, 1)} | kwargs
    shapes = {name: tuple(value.shape) for name, value in named.items() if isinstance(value, Tensor)}
    if len(shapes) == 1 and not kwargs:
        return f"data of shape {next(iter(shapes.values()))}"
    return "data of shapes " + ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _plates(node: dict[str, Any]) -> tuple[Plate, ...]:
    frames = [frame for frame in node["cond_indep_stack"] if frame.vectorized]
    return tuple(Plate(f.name, f.dim, f.size, f.full_size or f.size) for f in frames)


def _site(
    name: str, node: dict[str, Any], plates: dict[str, Plate], dims: tuple[str, ...] | None, shares: dict[int, str]
) -> Site:
    value = node["value"]
    if node["type"] == "param":
        return Site(name, "param", value.shape, dims or unnamed(name, value.dim()), (), None)
    fn = node["fn"]
    if is_deterministic(node):
        kind = "deterministic"
    elif node["is_observed"]:
        kind = "factor" if isinstance(fn, dist.Unit) else "observed"
    else:
        kind = "discrete" if fn.has_enumerate_support else "latent"
    named = dims or _site_dims(name, node, plates, shares)
    return Site(name, kind, value.shape, named, _plates(node), fn.support, is_flat(fn))


def unnamed(name: str, number: int) -> tuple[str, ...]:
    """The names ArviZ gives to dims that have none."""
    return tuple(f"{name}_dim_{i}" for i in range(number))


def _fits(shape: Size, plates: tuple[Plate, ...]) -> bool:
    """Whether a value has a dim for each plate around it."""
    return all(-plate.dim <= len(shape) and shape[plate.dim] == plate.size for plate in plates)


def _site_dims(name: str, node: dict[str, Any], plates: dict[str, Plate], shares: dict[int, str]) -> tuple[str, ...]:
    """Plate names for batch dims; the declared names, or name_dim_i, for event dims."""
    shape, event_dim = node["value"].shape, node["fn"].event_dim
    declared = node["infer"].get("event_dims")
    if is_deterministic(node) and not declared and event_dim == len(shape) and _fits(shape, _plates(node)):
        event_dim = 0  # `pyro.deterministic` takes every dim for one of the event
    dims = list(unnamed(name, len(shape)))
    for plate in _plates(node):
        if -plate.dim <= len(shape) - event_dim:
            dims[plate.dim - event_dim] = plate.name
    if declared:
        if len(declared) != event_dim:
            raise InputError(f"site {name!r} names {len(declared)} event dims and has {event_dim}: name each of them")
        dims[len(shape) - event_dim :] = declared
    elif node["fn"].support is constraints.simplex and shape[-1] in shares:  # mixture weights, named or not
        dims[-1] = shares[shape[-1]]
    return tuple(dims)
