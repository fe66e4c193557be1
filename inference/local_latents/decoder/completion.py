"""Rows with missing entries, filled in by a chain between q(z | x) and p(x_missing | z).

z ~ q(z | x), x_missing ~ p(x | z) (Rezende, Mohamed and Wierstra 2014, appendix F), which converges to
p(x_missing | x_observed) where q is the posterior.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ....errors import InputError
from ....models.structure import model_name
from ...data.data import Data
from ...density.row_density import RowDensity
from ..target import check_tells, row_posterior
from .observed import expected, observed

if TYPE_CHECKING:
    from ...data.as_data import DataLike
    from ..row_fit import RowFit


def completed(fit: RowFit, x_new: DataLike, mask: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """The mean over the second half of the chain: (M, *row). Arguments as `RowFit.complete` has them."""
    if steps < 2:
        raise InputError(f"steps={steps} must be 2 or more")
    known, given = _partly_known(fit, x_new, mask)
    means = list(_chain(fit, known, given, steps, seed))[steps // 2 :]
    return torch.where(known, given.values, torch.stack(means).mean(0)).cpu().numpy()


def completions(fit: RowFit, x_new: DataLike, mask: np.ndarray, draws: int, steps: int, seed: int) -> np.ndarray:
    """The ends of so many chains: (draws, M, *row). Arguments as `RowFit.complete` has them."""
    known, given = _partly_known(fit, x_new, mask)
    many = given.take(torch.arange(len(known)).repeat(draws))
    known = known.repeat(draws, *(1 for _ in known.shape[1:]))
    *_, last = _chain(fit, known, many, steps, seed)
    found = torch.where(known, many.values, last)
    return found.reshape(draws, *given.values.shape).cpu().numpy()


def _partly_known(fit: RowFit, x_new: DataLike, mask: np.ndarray) -> tuple[Tensor, Data]:
    """Which entries are known, (M, *row), and the rows, 0 elsewhere."""
    if hasattr(fit.model, "codes"):
        raise InputError(f"model {model_name(fit.model)} is of strings, which have no missing entries to complete")
    if fit.structure.discrete:
        raise InputError(f"model {model_name(fit.model)} has discrete sites, which no completion draws")
    known, row = np.asarray(mask, bool), tuple(fit.data.values.shape[1:])
    x, *further = x_new if isinstance(x_new, tuple) else (x_new,)
    if known.shape != np.shape(x) or known.shape[1:] != row:
        found = f"mask {known.shape} and x_new {np.shape(x)}"
        raise InputError(f"{found} must have the shape of the rows, {('M', *row)}")
    check_tells(fit.name, fit.guide, new=True)
    filled = np.where(known, np.asarray(x), 0.0)
    given = fit.new_data((filled, *further) if further else filled)
    return torch.tensor(known, device=given.values.device), given


def _chain(fit: RowFit, known: Tensor, given: Data, steps: int, seed: int) -> Iterator[Tensor]:
    """E[x | z] along the chain, a step each: (M, *row)."""
    with given.isolated(seed), torch.no_grad():
        rows = RowDensity(fit.density.on(given))
        z = rows.prior_draw()
        for _ in range(steps):
            drawn = torch.where(known, given.values, observed(rows.density, z, lambda node: node["fn"].sample()))
            filled = rows.on(_with_values(given, drawn))
            z = row_posterior(fit.guide, filled, None).sample()
            yield expected(rows.density, z)


def _with_values(data: Data, values: Tensor) -> Data:
    """Data with another first array."""
    return data.map(lambda value: values if value is data.values else value)
