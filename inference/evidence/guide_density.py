"""log q(theta) of a trained guide at any theta, not at its own draws alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.infer.autoguide import AutoContinuous, AutoLaplaceApproximation, AutoNormal, AutoNormalizingFlow
from torch import Tensor

from ...models.structure import sites_of
from ..compilation.batched import over_draws
from ..density.log_density import Density
from ..density.params import with_params
from ..fit.approximation import laplace
from ..fit.fit import Fit
from ..runtime.pyro_private import flat_site
from .labellings import LogDensity

Sites = Mapping[str, Tensor]


def guide_density(fit: Fit) -> LogDensity | None:
    """log q of a fit's guide over the model's continuous sites, q(z) left out; None where it cannot be evaluated.

    To be called, and used, within `isolated`. A guide can be evaluated where its sites are the model's own, or where it
    is one of Pyro's AutoGuides whose Gaussian is known in unconstrained space; a flow cannot.
    """
    guide, density = fit.guide, fit.density
    if guide is None:
        return None
    if isinstance(guide, AutoLaplaceApproximation):
        q = laplace(with_params(guide, fit.params), density)
        return partial(of_unconstrained, density, q.log_prob)
    given = partial(_given, guide, density)
    first = {name: value[0] for name, value in fit.sites().items()}
    if not _known(fit, given(first)):
        return None

    def log_q(sites: Sites) -> Tensor:
        return over_draws(partial(_log_prob, fit, given), dict(sites), density.chunk())

    return log_q


def of_unconstrained(density: Density, log_prob: Callable[[Tensor], Tensor], sites: Sites) -> Tensor:
    """A density of flat unconstrained vectors (S, dim) as one over the sites: (S,)."""
    flat = density.unconstrain(sites)
    return log_prob(flat) - density.constrain(flat)[1]


def _given(guide: Any, density: Density, sites: Sites) -> dict[str, Tensor]:
    """The values of a guide's own sites where the model's have these: one draw, name -> Tensor."""
    names = [site.name for site in density.structure.latent]
    free = {name: density.transforms[name].inv(sites[name]) for name in names}
    given = {site.name: torch.zeros(site.shape, dtype=torch.long) for site in density.structure.discrete}
    for part in guide.modules() if isinstance(guide, torch.nn.Module) else ():
        own = [name for name, _ in part.prototype_trace.iter_stochastic_nodes()] if _is_gaussian(part) else []
        if isinstance(part, AutoNormal):
            given |= {f"{name}_unconstrained": free[name] for name in own}
        elif own:
            given[flat_site(part)] = torch.cat([free[name].reshape(-1) for name in own])
        names = [name for name in names if name not in own]  # these follow from the others
    return {**given, **{name: sites[name] for name in names}}


def _is_gaussian(part: Any) -> bool:
    return isinstance(part, AutoNormal | AutoContinuous) and not isinstance(part, AutoNormalizingFlow)


def _trace(fit: Fit, given: Sites) -> poutine.Trace:
    program = poutine.condition(with_params(fit.guide, fit.params), data=dict(given))
    return fit.data.run(poutine.trace(program).get_trace)


def _known(fit: Fit, given: Sites) -> bool:
    """Whether these values leave nothing in the guide to chance."""
    return all(node["is_observed"] or isinstance(node["fn"], Delta) for node in sites_of(_trace(fit, given)).values())


def _log_prob(fit: Fit, given: Callable[[Sites], Sites], sites: Sites) -> Tensor:
    discrete = {site.name for site in fit.structure.discrete}
    log_prob: Any = _trace(fit, given(sites)).log_prob_sum(lambda name, _: name not in discrete)
    return log_prob
