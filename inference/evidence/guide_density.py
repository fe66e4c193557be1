"""log q(theta) of a trained guide at any theta, not at its own draws alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.infer.autoguide import AutoLaplaceApproximation
from torch import Tensor

from ...models.structure import sites_of
from ..compilation.batched import over_draws
from ..density.log_density import Density
from ..density.params import with_params
from ..fit.approximation import laplace
from ..fit.fit import Fit
from .labellings import LogDensity

Sites = Mapping[str, Tensor]
OF_ONE_SITE = "_unconstrained"  # how a guide calls its own site for one of the model's, as Pyro's AutoNormal does


def guide_density(fit: Fit, other: Sites) -> LogDensity | None:
    """log q of a fit's guide over the model's continuous sites, q(z) left out; None where it cannot be evaluated.

    To be called, and used, within `isolated`. It can be evaluated where all that the guide draws are the model's own
    sites, or these in unconstrained space, one by one or as one vector. other: a draw, name -> Tensor, at which this is
    tried, best one that the guide would not have made.
    """
    guide, density = fit.guide, fit.density
    if guide is None:
        return None
    if isinstance(guide, AutoLaplaceApproximation):  # a Delta, whose curvature is found anew
        q = laplace(with_params(guide, fit.params), density)
        return partial(of_unconstrained, density, q.log_prob)
    latent = {site.name for site in density.structure.latent}
    discrete = {site.name for site in density.structure.discrete}
    with fit.data.some_rows():
        drawn = sites_of(fit.data.run(poutine.trace(with_params(guide, fit.params)).get_trace))
    auxiliary = [name for name in drawn if name not in latent | discrete]
    whole = {name for name in auxiliary if drawn[name]["value"].numel() == density.dim}
    if not all(name in whole or name.removesuffix(OF_ONE_SITE) in latent for name in auxiliary):
        return None
    own = [name for name in latent if not (auxiliary and isinstance(drawn[name]["fn"], Delta))]
    given = partial(_given, density, auxiliary, own)
    if not _settled(fit, given(other), other):
        return None

    def one(sites: Sites) -> Any:
        return _trace(fit, given(sites)).log_prob_sum(lambda name, _: name not in discrete)

    return lambda sites: over_draws(one, sites, density.chunk())


def of_unconstrained(density: Density, log_prob: Callable[[Tensor], Tensor], sites: Sites) -> Tensor:
    """A density of flat unconstrained vectors (S, dim) as one over the sites: (S,)."""
    flat = density.unconstrain(sites)
    return log_prob(flat) - density.constrain(flat)[1]


def _given(density: Density, auxiliary: Sequence[str], own: Sequence[str], sites: Sites) -> dict[str, Tensor]:
    """What a guide draws where the model's sites have these values: one draw, name -> Tensor.

    auxiliary: the guide's sites that the model has not. own: the model's, those left out that follow from the others.
    """
    rows, file = density.structure.rows, density.data.mapped
    some = lambda site: () if file is not None and rows and density.structure.by_row(site) else site.shape  # noqa: E731
    given = {site.name: torch.zeros(some(site), dtype=torch.long) for site in density.structure.discrete}
    for name in auxiliary:
        of = name.removesuffix(OF_ONE_SITE)
        given[name] = density.transforms[of].inv(sites[of]) if of in sites else density.unconstrain(sites)
    return {**given, **{name: sites[name] for name in own}}


def _trace(fit: Fit, given: Sites) -> poutine.Trace:
    program = poutine.condition(with_params(fit.guide, fit.params), data=dict(given))
    with fit.data.some_rows():
        return fit.data.run(poutine.trace(program).get_trace)


def _settled(fit: Fit, given: Sites, sites: Sites) -> bool:
    """Whether these values leave nothing in the guide to chance, and give the model's sites their own."""
    nodes = sites_of(_trace(fit, given))
    rest = {name: node for name, node in nodes.items() if name not in given}
    follow = all(torch.allclose(node["value"], sites[name], rtol=1e-4) for name, node in rest.items() if name in sites)
    return follow and all(isinstance(node["fn"], Delta) for node in rest.values())
