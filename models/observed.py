"""What a model observes, held to the distribution it is observed by: its shape, and its support."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from ..errors import InputError

__all__ = ["is_undefined"]


def is_undefined(name: str, node: dict[str, Any]) -> bool:
    """Whether an observed value has a density that is no number.

    Raises InputError where it has none, by its shape, and where it lies outside of the support: Pyro's own validation
    is off, and what `log_prob` gives there may be any number.
    """
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
    dims = [frame.dim for frame in node["cond_indep_stack"] if frame.vectorized]
    for dim, size in enumerate(shape, -len(shape)):
        if dims and size > 1 and dim not in dims:
            has = f"site {name!r} has densities of shape {tuple(shape)}, and its plates do not declare dim {dim}"
            raise InputError(f"{has}: hand in a vector for a table of one column, or take .to_event(1) or a plate")


def _alike(one: Size, other: Size) -> bool:
    """Whether values of these shapes go together."""
    try:
        torch.broadcast_shapes(one, other)
    except RuntimeError:
        return False
    return True
