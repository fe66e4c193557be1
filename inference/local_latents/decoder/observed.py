"""Observed sites given z of rows: anything of their distributions, side by side in the shape of the rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ....errors import InputError
from ....models.structure import model_name
from ...data.data import Data
from ...density.log_density import Density
from ...density.row_density import RowDensity

Of = Callable[[dict[str, Any]], Tensor]  # a site's node in a trace, with name, fn and value -> as its value, or less


def observed(density: Density, z: Tensor, of: Of) -> Tensor:
    """Something of each observed site given z (M, latent) for the rows of a density, side by side: (M, *row).

    of: gives a tensor that can be expanded to the shape of the node's value.
    """
    rows, parts = RowDensity(density), []
    trace = density.data.run(poutine.trace(density.given(rows.sites(z)[0])).get_trace)
    for site in filter(density.structure.by_row, density.structure.observed):
        node = trace.nodes[site.name]
        value = of(node).expand(node["value"].shape)
        parts.append(value.movedim(rows.axis(site), 0).reshape(len(z), -1))
    return _side_by_side(parts, density.data)


def expected(density: Density, z: Tensor, beam: int = 1) -> Tensor:
    """E[x | z] of the rows of a density, (M, *row); of rows of a class that is missing, averaged over p(y | x, z).

    beam: as `RowFit.decode` has it. Raises InputError where a site's distribution has no mean.
    """
    structure, mean = density.structure, partial(_mean_of, density=density, beam=beam)
    if not structure.discrete:
        return observed(density, z, mean)
    if len(structure.discrete) != 1 or not structure.labels:
        raise InputError(f"model {model_name(density.model)} has discrete sites: it has no one p(x | z)")
    rows, parts = RowDensity(density), []
    sites = rows.sites(z)[0]
    share = density.assignment_logits(sites).softmax(-1).T.unsqueeze(-1)  # (K, M, 1)
    trace = density.enumerated(sites)
    for site in filter(structure.by_row, structure.observed):
        node = trace.nodes[site.name]
        each = mean(node).reshape(-1, *node["value"].shape).movedim(1 + rows.axis(site), 1)
        parts.append((share * each.flatten(2)).sum(0))
    return _side_by_side(parts, density.data)


def _mean_of(node: dict[str, Any], density: Density, beam: int) -> Tensor:
    fn = node["fn"]
    if hasattr(fn, "most_likely"):
        return fn.most_likely(beam)
    try:
        mean = fn.mean
    except (NotImplementedError, AttributeError):
        mean = torch.full((), torch.nan)
    if mean.isnan().any():
        kind = type(fn).__name__
        raise InputError(f"site {node['name']!r} of model {model_name(density.model)} is a {kind}, without a mean")
    return mean


def _side_by_side(parts: list[Tensor], data: Data) -> Tensor:
    """What sites have, (M, E) each, in the shape of the rows of data where it has as many entries: (M, *row)."""
    found, row = torch.cat(parts, 1), data.values.shape[1:]
    return found.reshape(len(found), *row) if found.shape[1] == row.numel() else found
