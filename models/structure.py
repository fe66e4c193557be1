"""What a Pyro model consists of, read off one trace: its sites, their kinds, and the names of their dims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.subsample_messenger import _Subsample
from torch import Size, Tensor
from torch.distributions import constraints

from ..errors import InputError

__all__ = [
    "Model",
    "Plate",
    "Site",
    "Structure",
    "deterministic",
    "model_name",
    "one_line",
    "read_structure",
    "sites_of",
]

Model = Callable[[Tensor], Any]


class Plate(NamedTuple):
    """A vectorized plate: its batch dim (-1 is the rightmost), rows in this run, and rows in all."""

    name: str
    dim: int
    size: int
    full_size: int


@dataclass(frozen=True)
class Site:
    """One site of a model. kind: latent, discrete, observed, deterministic or param."""

    name: str
    kind: str
    shape: Size
    dims: tuple[str, ...]
    plates: tuple[Plate, ...]
    support: constraints.Constraint | None


@dataclass(frozen=True)
class Structure:
    """The sites of a model and the plates around them."""

    sites: tuple[Site, ...]
    plates: dict[str, Plate]

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
        return tuple(site for site in self.discrete if [plate.name for plate in site.plates] == ["data"])


def deterministic(name: str, value: Tensor, dims: tuple[str, ...]) -> Tensor:
    """`pyro.deterministic` with names for the event dims, the rightmost `len(dims)` of value."""
    infer = {"_deterministic": True, "event_dims": list(dims)}
    return pyro.sample(name, dist.Delta(value, event_dim=len(dims)), obs=value, infer=infer)


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


def read_structure(model: Model, x: Tensor) -> Structure:
    """Run the model once on x and read its structure; nothing outside is touched but torch's generator.

    Raises InputError where the model fails on this data, observes nothing, or has no plate named `data`.
    """
    with poutine.block(), pyro.get_param_store().scope(), torch.no_grad():  # blocked: a guide may ask within a trace
        try:
            trace = poutine.trace(model).get_trace(x)
        except InputError as error:
            raise InputError(str(error).splitlines()[0]) from error  # Pyro adds pages to it
        except Exception as error:
            shape = tuple(x.shape)
            raise InputError(f"model {model_name(model)} fails on data of shape {shape}: {one_line(error)}") from error
    nodes = sites_of(trace)
    plates = {plate.name: plate for node in nodes.values() for plate in _plates(node)}
    params = {name: node for name, node in trace.nodes.items() if node["type"] == "param"}
    dims = getattr(model, "dims", {})
    sites = tuple(_site(name, node, plates, dims.get(name)) for name, node in {**nodes, **params}.items())
    if not any(site.kind == "observed" for site in sites):
        raise InputError(f"model {model_name(model)} observes nothing: give a site obs=x")
    if "data" not in plates:
        where = "put its observations under pyro.plate('data', len(x))"
        raise InputError(f"model {model_name(model)} has no plate named 'data': {where}")
    return Structure(sites, plates)


def _plates(node: dict[str, Any]) -> tuple[Plate, ...]:
    frames = [frame for frame in node["cond_indep_stack"] if frame.vectorized]
    return tuple(Plate(f.name, f.dim, f.size, f.full_size or f.size) for f in frames)


def _site(name: str, node: dict[str, Any], plates: dict[str, Plate], dims: tuple[str, ...] | None) -> Site:
    value = node["value"]
    if node["type"] == "param":
        return Site(name, "param", value.shape, dims or unnamed(name, value.dim()), (), None)
    fn = node["fn"]
    if node["infer"].get("_deterministic"):
        kind = "deterministic"
    elif node["is_observed"]:
        kind = "observed"
    else:
        kind = "discrete" if fn.has_enumerate_support else "latent"
    return Site(name, kind, value.shape, dims or _site_dims(name, node, plates), _plates(node), fn.support)


def unnamed(name: str, number: int) -> tuple[str, ...]:
    """The names ArviZ gives to dims that have none."""
    return tuple(f"{name}_dim_{i}" for i in range(number))


def _site_dims(name: str, node: dict[str, Any], plates: dict[str, Plate]) -> tuple[str, ...]:
    """Plate names for batch dims; the declared names, or name_dim_i, for event dims."""
    shape, event_dim = node["value"].shape, node["fn"].event_dim
    dims = list(unnamed(name, len(shape)))
    for plate in _plates(node):
        if -plate.dim <= len(shape) - event_dim:
            dims[plate.dim - event_dim] = plate.name
    declared = node["infer"].get("event_dims")
    if declared:
        if len(declared) != event_dim:
            raise InputError(f"site {name!r} names {len(declared)} event dims and has {event_dim}: name each of them")
        dims[len(shape) - event_dim :] = declared
    elif _is_share(node["fn"].support, shape, plates):
        dims[-1] = "components"
    return tuple(dims)


def _is_share(support: object, shape: Size, plates: dict[str, Plate]) -> bool:
    """Whether a simplex has one entry a component: mixture weights, whether their dim is named or not."""
    simplex = support is constraints.simplex
    return simplex and "components" in plates and shape[-1:] == (plates["components"].size,)
