"""Why latent units lie idle: a noise that is still too large, rows that vary in fewer directions, or the KL term."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from ..mapped.blocks import evenly_spaced
from .decoder.observed import observed

if TYPE_CHECKING:
    from .row_fit import RowFit

ROWS = 1000  # that are looked at, at most
MEND = "try warmup, or fewer of them"
TOO_LARGE = 1.2  # of a noise's sd, in what reconstructions are off by


def why_inactive(fit: RowFit) -> str:
    """One line on the units of a fit whose q(z | x) is the prior; empty where all of them are active.

    A Gaussian's noise is held to what reconstructions are off by. Else the directions are counted in which rows vary by
    more than the model's noise and the chance of so few rows, the eigenvalues of their covariance in units of the noise
    above (1 + sqrt(D / N))^2 (Marchenko and Pastur 1967): in probabilistic PCA no unit can be active beyond these
    (Lucas et al. 2019).
    """
    active = fit.active_units()
    if active.all():
        return ""
    said = f"{int((~active).sum())} of {len(active)} latent units are inactive: their q(z | x) is the prior"
    if fit.structure.discrete:  # no one p(x | z)
        return f"{said}; {MEND}"
    place = evenly_spaced(fit.data.rows or 0, ROWS)
    z, density = torch.as_tensor(fit.encode())[place].to(fit.data.like), fit.density.on(fit.data.take(place))
    with density.data.isolated(0), torch.no_grad():
        try:
            off = observed(density, z, lambda node: node["value"] - node["fn"].mean).double()
            noise = observed(density, z, lambda node: node["fn"].variance).double()
        except NotImplementedError:  # strings, say, have no mean
            return f"{said}; {MEND}"
        learned = observed(density, z, lambda node: node["value"].new_full((), _is_normal(node["fn"]))).all()
    rms, sd = float(off.square().mean().sqrt()), float(noise.mean().sqrt())
    if learned and sd > TOO_LARGE * rms:
        found = f"the noise of p(x | z), sd {sd:.3g}, is still above what reconstructions are off by, {rms:.3g}"
        return f"{said}; {found}: train longer, or raise lr"
    directions = _directions(density.data.values.flatten(1).double().cpu(), noise.flatten(1).mean(0).cpu())
    if directions <= active.sum():
        what = f"rows vary by more than the noise in {directions} direction{'s' * (directions != 1)} only"
        mend = f"latent={max(directions, 1)} would do" if len(active) > 1 else "there is nothing to encode"
        return f"{said}; {what}: {mend}"
    return f"{said}; the KL term outweighs what they would add: {MEND}"


def _is_normal(fn: Distribution) -> float:
    return float(isinstance(fn.base_dist if isinstance(fn, Independent) else fn, Normal))


def _directions(x: Tensor, variance: Tensor) -> int:
    """How many eigenvalues of the covariance of x (N, D), in units of a noise of variance (D,), chance cannot give."""
    number, entries = x.shape
    scaled = (x - x.mean(0)) / variance.clamp(min=1e-12).sqrt()
    eigenvalues = torch.linalg.svdvals(scaled).square() / number
    return int((eigenvalues > (1 + np.sqrt(entries / number)) ** 2).sum())
