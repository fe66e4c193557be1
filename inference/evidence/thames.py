"""THAMES: the evidence from posterior draws alone, by a harmonic mean that is truncated to an ellipsoid."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..density.log_density import Density
from ..fit.fit import Fit
from ..runtime.isolation import one_thread_if_small
from .bridge import Estimated, effective_number
from .chain_draws import ChainDraws, halves, log_joints
from .labellings import MOST, Labellings, labellings_of

VOLUME_DRAWS = 4000  # uniform in the ellipsoid
CUTS = (0.5, 0.2, 0.05, 0.01, 0.0)  # quantiles of the draws' density, below which is cut off, the first that will do
MIN_SHARE = 0.02  # of the ellipsoid that a cut must leave


class Ellipsoid(NamedTuple):
    """|tril^-1 (u - loc)| < radius in unconstrained space, cut to where log p(x, u) is above `least`, nats.

    log_volume: of what is left, with its standard error `se`.
    """

    loc: Tensor
    tril: Tensor
    radius: float
    least: float
    log_volume: float
    se: float

    def holds(self, flat: Tensor) -> Tensor:
        """Whether each vector is in the ellipsoid, cut or not: (S, dim) -> (S,)."""
        away = torch.linalg.solve_triangular(self.tril, (flat - self.loc).mT, upper=False)
        return away.square().sum(0) < self.radius**2


def thames(fit: Fit, seed: int = 0) -> Estimated:
    """log p(x) from Markov chains by THAMES (Metodiev, Perrot-Dockès, Ouadah, Irons, Latouche and Raftery 2024).

    1 / p(x) is the posterior mean of h(theta) / p(x, theta) for any density h. Here h is uniform on an ellipsoid of
    radius sqrt(dim + 1) about the draws in unconstrained space (their section 2), cut to where the density is
    above its median at the draws, or above a lower quantile where that leaves too little, and, where labels are
    exchangeable, averaged over all relabellings (the same, for mixtures, 2025). Each half of the chains makes the
    ellipsoid for the other, and the mean of the two is given.

    Raises InputError where the fit is none of Markov chains, has too few draws, or labellings are more than 720. Under
    a flat prior both numbers are NaN.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> chains = pyrometer.nuts(CorrelatedGaussian(), "faithful", warmup=300, draws=500, progress=False)
    >>> abs(pyrometer.thames(chains).value - pyrometer.bridge(chains).value) < 0.3
    True
    """
    first, second = halves(fit, "thames")
    labellings = labellings_of(fit)
    if not labellings.few:
        raise InputError(f"fit {fit.name} has more than {MOST} labellings, too many for thames: take bridge")
    if any(site.flat for site in fit.structure.latent):
        return Estimated(math.nan, math.nan)
    with one_thread_if_small(fit.data.numel), fit.data.isolated(seed), torch.no_grad():
        ways = ((first, second), (second, first))
        both = [_harmonic(fit.density, labellings, ellipsoid_of(fit.density, of), end) for of, end in ways]
    apart = abs(both[0].value - both[1].value) / 2
    return Estimated(sum(one.value for one in both) / 2, max(math.hypot(both[0].se, both[1].se) / 2, apart))


def ellipsoid_of(density: Density, draws: ChainDraws) -> Ellipsoid:
    """The ellipsoid of some draws, its volume found by uniform draws in it."""
    flat = draws.flat(density)
    dim = flat.shape[1]
    log_p = log_joints(density, draws.sites) + density.constrain(flat)[1]
    tril = torch.linalg.cholesky(torch.cov(flat.mT).reshape(dim, dim))
    radius = math.sqrt(dim + 1)
    direction = torch.randn(VOLUME_DRAWS, dim).to(flat)
    length = radius * torch.rand(VOLUME_DRAWS, 1).to(flat) ** (1 / dim)
    inside = flat.mean(0) + (length * direction / direction.norm(dim=1, keepdim=True)) @ tril.mT
    sites, log_jacobian = density.constrain(inside)
    density_inside = log_joints(density, sites) + log_jacobian
    levels = [float(log_p.quantile(cut)) for cut in CUTS]
    shares = [float((density_inside > level).double().mean()) for level in levels]
    least, share = next((pair for pair in zip(levels, shares, strict=True) if pair[1] > MIN_SHARE), (0.0, 0.0))
    if share == 0:
        raise InputError("the ellipsoid about the draws misses where the posterior is: draw more, or take bridge")
    ball = dim / 2 * math.log(math.pi) - math.lgamma(dim / 2 + 1) + dim * math.log(radius)
    volume = ball + float(tril.diagonal().log().sum()) + math.log(share)
    return Ellipsoid(flat.mean(0), tril, radius, least, volume, math.sqrt((1 - share) / share / VOLUME_DRAWS))


def _harmonic(density: Density, labellings: Labellings, where: Ellipsoid, end: ChainDraws) -> Estimated:
    log_joint = log_joints(density, end.sites)
    log_h = labellings.log_mean(partial(_log_h, density, where, log_joint), end.sites)
    terms = (log_h - log_joint).double().cpu().numpy()
    highest = terms.max()
    if highest == -math.inf:
        return Estimated(math.nan, math.nan)
    values = np.exp(terms - highest).reshape(end.chains, -1)
    spread = values.std() / values.mean() / math.sqrt(effective_number(values))
    return Estimated(float(-highest - math.log(values.mean())), math.hypot(spread, where.se))


def _log_h(density: Density, where: Ellipsoid, log_joint: Tensor, sites: dict[str, Tensor]) -> Tensor:
    """log of the uniform density, over the model's own sites, of some relabellings side by side: (R S,).

    log_joint: (S,), which no relabelling changes.
    """
    flat = density.unconstrain(sites)
    log_jacobian = density.constrain(flat)[1]
    dense = log_joint.repeat(len(flat) // len(log_joint)) + log_jacobian > where.least
    return torch.where(where.holds(flat) & dense, -where.log_volume - log_jacobian, -math.inf)
