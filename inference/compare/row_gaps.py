"""The gaps of a comparison: each guide that tells q(z | x) of a row, held to NUTS over z on some rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from ...errors import InputError
from ...models.structure import Model
from ..density.log_density import Density
from ..density.row_density import RowDensity
from ..fit.fit import Fit
from ..local_latents.gaps import amortisation_gaps
from ..local_latents.row_fit import RowFit
from ..local_latents.row_posterior import tells_q
from .columns import first_line
from .problem import Problem

__all__ = ["gaps_of"]


def gaps_of(
    problem: Problem, fits: Mapping[str, Fit], model: Model, known: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """The gaps of every guide, those known already as they are, and what a reader must know of them."""
    chosen = _chosen(problem.rows, problem.data.rows or 0)
    told = {name: fit.by_row() for name, fit in fits.items() if isinstance(fit, RowFit) and tells_q(fit.guide)}
    notes = [f"{name}: its q(z | x) cannot be had row by row, so no gap" for name in fits if name not in told]
    left = {name: guide for name, guide in told.items() if name not in known.index.get_level_values(0)}
    if left:
        options = {name: value for name, value in problem.nuts.items() if name in ("warmup", "draws", "chains")}
        settings = {"progress": problem.progress, **options}
        density = RowDensity(Density(model, problem.data), problem.data.take(chosen))
        try:
            more = amortisation_gaps(density, left, rows=chosen, nuts=settings, seed=problem.seed)
            known = pd.concat([known, more]) if len(known) else more
        except KeyboardInterrupt:  # the fits are not lost
            notes.append("interrupted before the gaps were known")
        except Exception as error:
            notes.append(f"no gaps ({first_line(error)})")
    if len(known):
        sound = known.groupby(level="guide")["converged"].sum().iloc[0]
        notes.append(
            f"gaps are means over {len(known.index.unique('row'))} rows, nats a row; NUTS converged on {sound} of "
            "them, and bias and sd_ratio are medians over those"
        )
    return known, notes


def _chosen(rows: int | Sequence[int], number: int) -> torch.Tensor:
    """The numbers of the rows: those given, or so many evenly spaced."""
    if isinstance(rows, int):
        if not rows >= 1:
            raise InputError(f"rows={rows} must be 1 or more, or the numbers of the rows")
        return torch.linspace(0, number - 1, min(rows, number)).round().long()
    chosen = torch.as_tensor(list(rows))
    if chosen.numel() == 0 or chosen.is_floating_point() or not ((chosen >= 0) & (chosen < number)).all():
        raise InputError(f"rows must be numbers of rows from 0 to {number - 1}")
    return chosen
