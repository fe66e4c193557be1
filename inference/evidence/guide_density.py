"""log q(theta) of a trained guide at any theta, not at its own draws alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.infer.autoguide import AutoLaplaceApproximation
from torch import Tensor

from ...models.trace import sites_of
from ..compilation.batched import over_draws
from ..density.in_blocks import log_joints
from ..density.log_density import Density
from ..density.params import with_params
from ..fit.approximation import laplace
from ..fit.fit import Fit
from .labellings import LogDensity, labellings_of, log_mean
from .proposal import of_unconstrained

Sites = Mapping[str, Tensor]
MATCHED = 0.99  # of the draws, whose weights must be found again at one of their relabellings
SAME = {torch.float64: 1e-6, torch.float32: 1e-3}  # relative, of a weight found again
OF_ONE_SITE = "_unconstrained"  # how a guide calls its own site for one of the model's, as Pyro's AutoNormal does


class Known(NamedTuple):
    """q of a fit's guide, known at any draw: log_q, over the sites that the guide draws.

    log_joint, log_mean: at the fit's own draws, log p(x, theta) and the log of the mean of q over relabellings: (S,).
    """

    log_q: LogDensity
    log_joint: Tensor
    log_mean: Tensor


def known_density(fit: Fit) -> Known | None:
    """q of a fit's guide, or None where it cannot be evaluated; to be called, and used, within `isolated`.

    A fit's draws were relabelled, so that each one's own weight must be that of some relabelling: what does not give
    the weights back is not q.
    """
    labellings, density = labellings_of(fit), fit.density
    try:
        sites = {name: value for name, value in fit.sites().items() if name in density.transforms}
        *_, moved = labellings.each({name: value[:1] for name, value in sites.items()})
        log_q = guide_density(fit, {name: value[0] for name, value in moved.items()})
        if log_q is None:
            return None
        each = labellings.of_each(log_q, sites)
    except (RuntimeError, ValueError, NotImplementedError):
        return None
    if density.data.mapped is not None:
        log_joint = log_joints(density, fit.sites())
    else:
        log_joint = over_draws(density.of_data("log_joint"), fit.sites(), density.chunk())
    own = torch.as_tensor(fit.log_weights).to(log_joint)
    return Known(log_q, log_joint, log_mean(each)) if _found_again(log_joint - each, own) >= MATCHED else None


def _found_again(weights: Tensor, own: Tensor) -> float:
    """The share of draws whose own weight, (S,), is among those under every relabelling, (labellings, S)."""
    close = (weights - own).abs() <= SAME.get(own.dtype, 1e-3) * own.abs().clamp(min=1.0)
    return float(close.any(0).double().mean())


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
