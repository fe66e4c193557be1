"""Centred sites: locations whose scale is itself latent, of which a posterior has the shape of a funnel."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from pyro import poutine
from pyro.infer.inspect import get_dependencies
from torch.distributions import constraints

from ...models.structure import Model, sites_of
from ..data.data import Data, structure_on


def centred_sites(model: Model, data: Data) -> list[str]:
    """The latent sites of a location and a scale, on the real line, whose prior depends on a positive latent site.

    They are those that `pyro.infer.reparam.LocScaleReparam` takes (Papaspiliopoulos, Roberts and Sköld 2007). None
    where Pyro cannot follow the model's dependencies.
    """
    structure = structure_on(model, data)
    positive = {site.name for site in structure.latent if _is_positive(site.support)}
    if not positive:
        return []
    try:
        with data.isolated(0):
            above = get_dependencies(model, data.args, data.kwargs)["prior_dependencies"]
            nodes = sites_of(poutine.trace(model).get_trace(*data.args, **data.kwargs))
    except Exception:  # a suggestion is not worth an error
        return []
    names = [site.name for site in structure.latent if site.name not in positive]
    return [name for name in names if positive & set(above.get(name, ())) and _has_scale(nodes[name]["fn"])]


def _is_positive(support: Any) -> bool:
    low = getattr(support, "lower_bound", None)
    return low is not None and bool((low == 0) if isinstance(low, float | int) else (low == 0).all())


def _has_scale(fn: Any) -> bool:
    """Whether a distribution is one of a location and a scale on the real line, batched or not."""
    while isinstance(fn, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution):
        fn = fn.base_dist
    return getattr(fn, "support", None) is constraints.real and hasattr(fn, "loc") and hasattr(fn, "scale")
