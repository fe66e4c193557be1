"""Centred sites: locations whose scale is itself latent, of which a posterior has the shape of a funnel."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import constraints

from ...models.structure import Model
from ...models.trace import sites_of
from ..data.data import Data, structure_on


def centred_sites(model: Model, data: Data) -> list[str]:
    """The latent sites of a location and a scale, on the real line, whose scale follows a positive latent site.

    They are those that `pyro.infer.reparam.LocScaleReparam` takes (Papaspiliopoulos, Roberts and Sköld 2007). Found by
    halving all positive sites, the others held, and looking at the scales.
    """
    structure = structure_on(model, data)
    positive = {site.name for site in structure.latent if _is_positive(site.support)}
    if not positive:
        return []
    with data.isolated(0), data.some_rows(), torch.no_grad():
        nodes = sites_of(poutine.trace(model).get_trace(*data.args, **data.kwargs))
        held = {name: node["value"] for name, node in nodes.items() if not node["is_observed"]}
        halved = {name: value / 2 if name in positive else value for name, value in held.items()}
        moved = sites_of(poutine.trace(poutine.condition(model, halved)).get_trace(*data.args, **data.kwargs))
    scales = {site.name: [_scale_of(each[site.name]["fn"]) for each in (nodes, moved)] for site in structure.latent}
    return [name for name, (a, b) in scales.items() if a is not None and b is not None and not torch.allclose(a, b)]


def _is_positive(support: Any) -> bool:
    low = getattr(support, "lower_bound", None)
    return low is not None and bool(torch.as_tensor(low == 0).all())


def _scale_of(fn: Any) -> torch.Tensor | None:
    """The scale of a distribution of a location and a scale on the real line, batched or not; None of any other."""
    while isinstance(fn, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution):
        fn = fn.base_dist
    if getattr(fn, "support", None) is not constraints.real or not hasattr(fn, "loc"):
        return None
    return getattr(fn, "scale", None)
