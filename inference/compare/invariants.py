"""Figures that do not depend on how components are labelled: they show a relabelling that failed."""

from collections.abc import Mapping

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor

from ..compilation.batched import over_draws
from ..fit.fit import Fit
from ..runtime.isolation import one_thread_if_small
from .columns import first_line

ROWS, DRAWS = 300, 200  # at most so many, evenly spaced: the figures need no more


def co_clustering(fit: Fit) -> np.ndarray | None:
    """p(z_i = z_j | x) for pairs of rows: (M, M), M at most 300; None where no site labels rows."""
    if not fit.structure.labels or fit.structure.local:
        return None
    data = fit.data.take(_spaced(fit.data.rows or 0, ROWS))

    def together(sites: dict[str, Tensor]) -> Tensor:
        share = fit.density.assignment_logits(sites, data).softmax(-1)
        return share @ share.mT

    with one_thread_if_small(data.numel), data.isolated(0):
        sites = {name: value[_spaced(fit.number, DRAWS)] for name, value in fit.sites().items()}
        return over_draws(together, sites, fit.density.chunk(ROWS)).mean(0).cpu().numpy()


def invariants(fits: Mapping[str, Fit], reference: Fit) -> tuple[DataFrame, list[str]]:
    """How far each fit is from the reference in label-invariant terms, a row a fit; and a note for what failed.

    lpd_gap: mean |log p(x_n | x) - the reference's| over the fitted rows, nats. co_clustering_gap: mean
    |p(z_i = z_j | x) - the reference's| over pairs of rows; NaN for a model without a discrete site.
    """
    if reference.structure.rows is None:
        return DataFrame(), []
    rows, notes, theirs = {}, [], None
    for name, fit in {"": reference, **fits}.items():
        try:
            lpd, pairs = fit.log_predictive(), co_clustering(fit)
            theirs = theirs or (lpd, pairs)
            gap = float("nan") if pairs is None or theirs[1] is None else float(np.abs(pairs - theirs[1]).mean())
            rows[name] = {"lpd_gap": float(np.abs(lpd - theirs[0]).mean()), "co_clustering_gap": gap}
        except (Exception, KeyboardInterrupt) as error:  # costs its own row and nothing else
            notes.append(f"{name or reference.name}: no label-invariant distances ({first_line(error)})")
            if theirs is None:
                break
    rows.pop("", None)
    return DataFrame.from_dict(rows, orient="index"), notes


def _spaced(number: int, at_most: int) -> Tensor:
    return torch.linspace(0, number - 1, min(number, at_most)).long()
