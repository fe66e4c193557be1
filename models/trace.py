"""One run of a Pyro model, read: its sites, their kinds, and the names of their dims."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.subsample_messenger import _Subsample
from torch import Size, Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from ..errors import InputError
from .program import is_flat, permissive
from .structure import Model, Plate, Site, Structure, exchangeable_dims, model_name, one_line

__all__ = ["deterministic", "is_deterministic", "read_structure", "shapes_of_sites", "sites_of"]


def deterministic(name: str, value: Tensor, dims: tuple[str, ...]) -> Tensor:
    """`pyro.deterministic` with names for the event dims, the rightmost `len(dims)` of value."""
    infer = {"_deterministic": True, "event_dims": list(dims)}
    return pyro.sample(name, dist.Delta(value, event_dim=len(dims)), obs=value, infer=infer)


def is_deterministic(node: Mapping[str, Any]) -> bool:
    """Whether a site was made by `pyro.deterministic`."""
    return bool(node["infer"].get("_deterministic"))


def sites_of(trace: poutine.Trace) -> dict[str, dict[str, Any]]:
    """The sample sites of a trace, plates left out."""
    return {
        name: node
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and not isinstance(node["fn"], _Subsample)
    }


def _params_of(trace: poutine.Trace) -> dict[str, dict[str, Any]]:
    return {name: node for name, node in trace.nodes.items() if node["type"] == "param"}


def read_structure(model: Model, *args: Any, **kwargs: Any) -> Structure:
    """Run the model once on the data and read its structure; nothing outside is touched but torch's generator.

    Raises InputError where the model fails on this data, or observes nothing.
    """
    with _traced(model, args, kwargs) as (trace, mode):
        nodes = sites_of(trace)
        undefined = [name for name, node in nodes.items() if node["is_observed"] and _is_undefined(name, node)]
    plates = {plate.name: plate for node in nodes.values() for plate in _plates(node)}
    dims, shares = getattr(model, "dims", {}), _share_dims(model, plates)
    every = {**nodes, **_params_of(trace)}
    sites = tuple(_site(name, node, plates, dims.get(name), shares) for name, node in every.items())
    observed = [site for site in sites if site.kind in ("observed", "factor")]
    if not observed:
        raise InputError(f"model {model_name(model)} observes nothing: give a site obs=x")
    around = next((site.plates for site in observed if site.plates), (None,))
    rows = plates.get("data", around[0])
    return Structure(sites, plates, rows, mode.happened, bool(undefined))


def shapes_of_sites(model: Model, *args: Any, **kwargs: Any) -> dict[str, Size]:
    """The shapes of sites and params in one run of the model, by name; as `read_structure` runs it, and much sooner."""
    with _traced(model, args, kwargs) as (trace, _):
        return {name: node["value"].shape for name, node in {**sites_of(trace), **_params_of(trace)}.items()}


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


def _share_dims(model: Model, plates: dict[str, Plate]) -> dict[int, str]:
    """How many entries a share of each exchangeable plate has, and its name."""
    return {plates[dim].size: dim for dim in reversed([*exchangeable_dims(model)]) if dim in plates}


def _is_undefined(name: str, node: dict[str, Any]) -> bool:
    """Whether an observed value has a density that is no number. Raises InputError where it has none, by its shape."""
    fn, value = node["fn"], node["value"]
    if not isinstance(value, Tensor):
        raise InputError(f"site {name!r} observes a {type(value).__name__}: hand in an array, or make it a tensor")
    try:
        log_prob = fn.log_prob(value)
    except NotImplementedError:
        return False
    except (ValueError, RuntimeError) as error:
        if _alike(value.shape, fn.shape()):
            _refuse_outside(name, node)
            return False
        own, shape = tuple(fn.shape()), tuple(value.shape)
        has = f"site {name!r} observes values of shape {shape}, and its distribution is of {own}"
        raise InputError(f"{has}: give it data of that shape, or it a dim more, .expand([...]).to_event()") from error
    _refuse_undeclared(name, node, log_prob.shape)
    _refuse_outside(name, node)
    mask = node["mask"] if isinstance(node["mask"], Tensor) else torch.tensor(node["mask"] is not False)
    return bool((log_prob.isnan() & mask).any())


def _refuse_outside(name: str, node: dict[str, Any]) -> None:
    """Refuse a value that is not in the support, where this is the same whatever is drawn; what is masked may be."""
    fn, value, mask = node["fn"], node["value"], node["mask"]
    masks = [torch.as_tensor(True if mask is None else mask)]
    if isinstance(fn, dist.MaskedDistribution):
        masks, fn = [*masks, torch.as_tensor(fn._mask)], fn.base_dist
    try:
        family, support = fn, fn.support
    except NotImplementedError:  # of a distribution of the user's own
        return
    while isinstance(family, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        if isinstance(family, dist.MaskedDistribution):
            return
        family = family.base_dist
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if not (says := _said(support)):
        return
    support = constraints.unit_interval if support is constraints.boolean else support  # with labels that are not sure
    outside = ~(support.check(value) | value.isnan())
    for each in masks:
        outside = outside & each.reshape((*each.shape, *[1] * fn.event_dim))
    if outside.any():
        at = outside.nonzero()[0].tolist()
        found = f"site {name!r} observes {value.expand(outside.shape)[tuple(at)].item():.6g}"
        what = f"{type(family).__name__} takes {says}"
        where = f"row {at[0]}" if len(at) == 1 else f"entry {at}"
        raise InputError(f"{found} in {where}, and {what}: recode it, or take another distribution")


def _said(support: Constraint | None) -> str:
    """What numbers a constraint lets through, in words; empty where these are all, vectors, or what a draw decides."""
    low, high = (getattr(support, f"{end}_bound", None) for end in ("lower", "upper"))
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return ""
    match support:
        case constraints.boolean:
            return "numbers from 0 to 1"
        case constraints.integer_interval():
            return f"whole numbers from {low} to {high}"
        case constraints.nonnegative_integer | constraints.positive_integer:
            return f"whole numbers from {low}"
        case constraints.greater_than():
            return f"numbers above {low:g}"
        case constraints.greater_than_eq():
            return f"numbers from {low:g}"
        case constraints.interval():
            return f"numbers from {low:g} to {high:g}"
    return ""


def _refuse_undeclared(name: str, node: dict[str, Any], shape: Size) -> None:
    """Refuse a site in plates whose densities have a dim more, for a column against a row: each counts many times.

    Pyro refuses it too where its validation is on.
    """
    plates = _plates(node)
    for dim, size in enumerate(shape, -len(shape)):
        if plates and size > 1 and dim not in [plate.dim for plate in plates]:
            has = f"site {name!r} has densities of shape {tuple(shape)}, and its plates do not declare dim {dim}"
            raise InputError(f"{has}: hand in a vector for a table of one column, or take .to_event(1) or a plate")


def _alike(one: Size, other: Size) -> bool:
    """Whether values of these shapes go together."""
    try:
        torch.broadcast_shapes(one, other)
    except RuntimeError:
        return False
    return True


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
        return Site(name, "param", value.shape, dims or _unnamed(name, value.dim()), (), None)
    fn = node["fn"]
    if is_deterministic(node):
        kind = "deterministic"
    elif node["is_observed"]:
        kind = "factor" if isinstance(fn, dist.Unit) else "observed"
    else:
        kind = "discrete" if fn.has_enumerate_support else "latent"
    named = dims or _site_dims(name, node, plates, shares)
    return Site(name, kind, value.shape, named, _plates(node), fn.support, is_flat(fn))


def _unnamed(name: str, number: int) -> tuple[str, ...]:
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
    dims = list(_unnamed(name, len(shape)))
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
