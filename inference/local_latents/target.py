"""Rows with a latent vector each, log p(x_n, z_n) and q(z | x): what every estimator takes, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal

from ...errors import InputError
from ...models.structure import model_name, one_line
from ..data.data import Data
from ..density.log_density import MAX_NUMBERS_AT_ONCE
from ..density.row_density import RowDensity

LogJoint: TypeAlias = Callable[[Tensor], Tensor]
Posterior: TypeAlias = Callable[[Tensor, Tensor | None], Distribution]

WIDEST = 512  # units assumed in the widest layer of a decoder
BLOCK = 256  # rows at once


@dataclass(frozen=True)
class RowFunction:
    """log p(x_n, z_n) as a function of z (..., M, L) and x (M, ...) -> (..., M), with z standard normal a priori."""

    function: Callable[[Tensor, Tensor], Tensor]
    data: Data
    latent: int

    def log_joint(self, z: Tensor) -> Tensor:
        """Nats: (..., M, L) -> (..., M)."""
        return self.function(z, self.data.values)

    @property
    def prior(self) -> Distribution:
        """p(z): batch (M,), event (L,)."""
        return Independent(Normal(self.data.values.new_zeros(len(self.data.values), self.latent), 1.0), 1)

    def take(self, rows: Tensor | slice) -> RowFunction:
        """The same of some of the rows."""
        return replace(self, data=self.data.take(rows))


LocalDensity: TypeAlias = RowDensity | RowFunction


def local_density(model: Any, x: Tensor | None, latent: int) -> LocalDensity:
    """One as it is; for rows x (M, ...), what has log_joint(z, x) or is that function."""
    if isinstance(model, RowDensity | RowFunction):
        return model
    if x is None or x.dim() < 1 or len(x) == 0:
        raise InputError("x has no rows: give at least one")
    return RowFunction(getattr(model, "log_joint", model), Data((x,), rows=len(x)), latent)


@dataclass(frozen=True)
class Target:
    """What every estimator takes; nothing in it knows about networks or programs.

    density: log p(x_n, z_n) and p(z_n) of M rows. posterior(x, rows): q(z | x), batch (M,), event (L,). rows: which
    training rows these are, (M,), for guides with a q of its own for each. whole: q was given as one Distribution,
    which cannot be cut into blocks.
    """

    density: LocalDensity
    posterior: Posterior
    rows: Tensor
    whole: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def q(self) -> Distribution:
        """q(z | x) of these rows: batch (M,), event (L,)."""
        with torch.no_grad():
            return self.posterior(self.density.data.values, self.rows)

    def take(self, place: slice) -> Target:
        """The same of some of the rows."""
        return replace(self, density=self.density.take(place), rows=self.rows[place])

    def blocks(self, size: int | None = None) -> Iterator[Target]:
        """The same for a few rows at a time."""
        size = size or BLOCK
        if self.whole or len(self) <= size:
            return iter((self,))
        return (self.take(slice(start, start + size)) for start in range(0, len(self), size))

    def draws_at_once(self, draws: int) -> list[int]:
        """How many draws to take at a time, so that no tensor outgrows 100 MB: numbers that sum to `draws`."""
        most = max(1, MAX_NUMBERS_AT_ONCE // (len(self) * max(WIDEST, self.density.data.row_numel)))
        return [min(most, draws - start) for start in range(0, draws, most)]

    def isolated(self, seed: int) -> AbstractContextManager[None]:
        """Pyro without a trace left behind."""
        return self.density.data.isolated(seed)


def target_of(model: Any, guide: Any, x: Tensor | None = None, rows: Tensor | None = None) -> Target:
    """Put model, guide and rows together, and see that their shapes agree.

    model: a RowDensity, which has its rows; or for rows x, what has log_joint(z, x), or is that function. guide: has
    posterior(x, rows), or is a function x -> Distribution, or a Distribution. Raises InputError where shapes disagree.
    """
    density = local_density(model, x, 0)
    number, values = density.data.rows or 0, density.data.values
    rows = torch.arange(number, device=values.device) if rows is None else torch.as_tensor(rows, device=values.device)
    if rows.shape != (number,):
        raise InputError(f"rows has shape {tuple(rows.shape)} for {number} rows of x: give one number a row")
    target = Target(density, _posterior(guide), rows, isinstance(guide, Distribution))
    name = model_name(density.density.model if isinstance(density, RowDensity) else model)
    with target.isolated(0), torch.no_grad():
        latent = _check(target if target.whole else target.take(slice(0, 2)), name, guide)
    return target if isinstance(density, RowDensity) else replace(target, density=replace(density, latent=latent))


def _posterior(guide: Any) -> Posterior:
    if isinstance(guide, Distribution):
        return lambda x, rows: guide
    if hasattr(guide, "posterior"):
        return guide.posterior
    return lambda x, rows: guide(x)


def _check(target: Target, name: str, guide: Any) -> int:
    """Hold one draw to the shapes that were promised; how many entries z has."""
    number = len(target)
    try:
        q = target.q
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"guide {model_name(guide)} fails on these rows: {one_line(error)}") from error
    if not isinstance(q, Distribution) or tuple(q.batch_shape) != (number,) or len(q.event_shape) != 1:
        found = f"{type(q).__name__}, batch {tuple(getattr(q, 'batch_shape', ()))}"
        raise InputError(f"guide {model_name(guide)} gives {found}: q(z | x) needs batch ({number},), event (latent,)")
    draws = Size(() if isinstance(target.density, RowDensity) else (3,))  # of a trace one draw tells if it runs
    try:
        value = target.density.log_joint(q.sample(draws))
    except Exception as error:
        raise InputError(f"log_joint of {name} fails on a draw of q: {one_line(error)}") from error
    if value.shape != (*draws, number):
        found = f"log_joint gives shape {tuple(value.shape)}"
        raise InputError(f"{found} for three draws of {number} rows: one number each")
    return q.event_shape[0]
