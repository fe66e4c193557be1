"""Figures that do not depend on how components are labelled: they show a relabelling that failed."""

from __future__ import annotations

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor

from .batched import over_draws
from .fit import Fit
from .isolation import isolated, one_thread_if_small

__all__ = ["co_clustering", "invariants"]

ROWS, DRAWS = 300, 200  # at most so many, evenly spaced: the figures need no more


def co_clustering(fit: Fit) -> np.ndarray | None:
    """p(z_i = z_j | x) for pairs of rows: (M, M), M at most 300; None where no site labels rows."""
    if not fit.density.structure.labels:
        return None
    rows = _spaced(len(fit.data.values), ROWS)
    x = fit.data.values[rows]

    def together(sites: dict[str, Tensor]) -> Tensor:
        share = fit.density.assignment_logits(sites, x).softmax(-1)
        return share @ share.mT

    with one_thread_if_small(x), isolated(0, x.dtype):
        sites = {name: value[_spaced(fit.number, DRAWS)] for name, value in fit.sites().items()}
        return over_draws(together, sites, fit.density.chunk(ROWS)).mean(0).cpu().numpy()


def invariants(fits: dict[str, Fit], reference: Fit) -> DataFrame:
    """How far each fit is from the reference in label-invariant terms, a row a fit.

    lpd_gap: mean |log p(x_n | x) - the reference's| over the fitted rows, nats. co_clustering_gap: mean
    |p(z_i = z_j | x) - the reference's| over pairs of rows; NaN for a model without a discrete site.
    """
    lpd, pairs = reference.log_predictive(), co_clustering(reference)
    rows = {}
    for name, fit in fits.items():
        mine = co_clustering(fit)
        gap = float("nan") if mine is None or pairs is None else float(np.abs(mine - pairs).mean())
        rows[name] = {"lpd_gap": float(np.abs(fit.log_predictive() - lpd).mean()), "co_clustering_gap": gap}
    return DataFrame.from_dict(rows, orient="index")


def _spaced(number: int, at_most: int) -> Tensor:
    return torch.linspace(0, number - 1, min(number, at_most)).long()
