"""Probabilistic PCA in closed form: what a linear decoder learns, and where any other may begin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PCA", "pca"]

ROWS = 5000  # at most, evenly spaced: a start needs no more
SPARE, ROUNDS = 10, 24  # further directions, and rounds of subspace iteration, that make the first ones exact
NARROWEST = 1e-2  # of a deviation from the mean: rows that lie in a plane leave no noise


@dataclass(frozen=True)
class PCA:
    """x = loadings z + mean + scale noise, at its greatest likelihood (Tipping and Bishop 1999, eqs. 7 and 8).

    mean: (D,). loadings: (D, L), columns orthogonal, the same way round for the same rows, of length 0 where rows have
    no further direction. scale: of the noise. unit: the deviation of an entry from its mean, a root mean square; 1
    where all rows are the same.
    """

    mean: Tensor
    loadings: Tensor
    scale: float
    unit: float

    def posterior(self) -> tuple[Tensor, Tensor]:
        """E[z | x] as weights (L, D) of x - mean, and the deviation of each z given x, (L,)."""
        precision = self.loadings.square().sum(0) / self.scale**2 + 1
        return self.loadings.T / (precision.unsqueeze(-1) * self.scale**2), precision.rsqrt()


def pca(x: Tensor, latent: int, most: float = 1.0) -> PCA:
    """That of rows x (N, D) with z of so many entries, at most such a share of D; in doubles."""
    x = x[:: max(1, len(x) // ROWS)].double()
    number, entries = x.shape
    mean = x.mean(0)
    total = (x - mean).square().sum() / number
    unit = float((total / entries).sqrt()) or 1.0
    kept = min(latent, int(most * entries), entries - 1, number - 1)
    wide = min(kept + SPARE, number, entries)
    with torch.random.fork_rng([]):  # the same rows, the same directions
        torch.manual_seed(0)
        _, singular, directions = torch.pca_lowrank(x, q=wide, niter=ROUNDS)
    variances = singular[:kept].square() / number
    rest = (total - variances.sum()).clamp(min=0) / (entries - kept)
    scale = max(float(rest.sqrt()), NARROWEST * unit)
    loadings, directions = x.new_zeros(entries, latent), directions[:, :kept]
    loadings[:, :kept] = directions * directions.pow(3).sum(0).sign() * (variances - scale**2).clamp(min=0).sqrt()
    return PCA(mean, loadings, scale, unit)
