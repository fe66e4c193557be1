"""A latent variable for each row: log p(x, z), q(z | x), and the rows, taken a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal

from ..errors import InputError
from ..models.structure import model_name, one_line
from .isolation import isolated

__all__ = ["LogJoint", "Posterior", "Target", "log_joint_of", "standard_normal", "target_of"]

LogJoint: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Posterior: TypeAlias = Callable[[Tensor, Tensor], Distribution]

LARGEST = 12_000_000  # numbers in one tensor: 100 MB
WIDEST = 512  # units assumed in the widest layer of a decoder
BLOCK = 256  # rows at once


@dataclass(frozen=True)
class Target:
    """What every estimator takes; nothing in it knows about networks.

    log_joint(z, x): log p(x, z) a row, z (..., M, L), x (M, ...) -> (..., M). posterior(x, rows): q(z | x), batch (M,),
    event (L,). x: (M, ...). rows: which training rows these are, (M,), for guides with a q of its own for each.
    whole: q was given as one Distribution, which cannot be cut into blocks.
    """

    log_joint: LogJoint
    posterior: Posterior
    x: Tensor
    rows: Tensor
    whole: bool = False

    @cached_property
    def q(self) -> Distribution:
        """q(z | x) of these rows: batch (M,), event (L,)."""
        with torch.no_grad():
            return self.posterior(self.x, self.rows)

    @property
    def prior(self) -> Distribution:
        """p(z), a standard normal a row."""
        return standard_normal(self.x, self.q.event_shape[0])

    def blocks(self) -> Iterator[Target]:
        """The same for a few rows at a time."""
        if self.whole or len(self.x) <= BLOCK:
            yield self
            return
        for x, rows in zip(self.x.split(BLOCK), self.rows.split(BLOCK), strict=True):
            yield replace(self, x=x, rows=rows)

    def draws_at_once(self, draws: int) -> list[int]:
        """How many draws to take at a time, so that no tensor outgrows 100 MB: numbers that sum to `draws`."""
        most = max(1, LARGEST // (len(self.x) * max(WIDEST, self.x[:1].numel())))
        return [min(most, draws - start) for start in range(0, draws, most)]


def standard_normal(x: Tensor, latent: int) -> Distribution:
    """Normal(0, I) for each row of x: batch (M,), event (latent,)."""
    return Independent(Normal(x.new_zeros(len(x), latent), 1.0), 1)


def log_joint_of(model: Any) -> LogJoint:
    """log p(x, z) of a model: its method `log_joint`, or the model itself where it is such a function."""
    return getattr(model, "log_joint", model)


def target_of(model: Any, guide: Any, x: Tensor, rows: Tensor | None = None) -> Target:
    """Put model, guide and rows together, and see that their shapes agree.

    model: has log_joint(z, x), or is that function. guide: has posterior(x, rows), or is a function x -> Distribution,
    or a Distribution. Raises InputError where the shapes disagree.
    """
    if x.dim() < 1 or len(x) == 0:
        raise InputError("x has no rows: give at least one")
    rows = torch.arange(len(x), device=x.device) if rows is None else torch.as_tensor(rows, device=x.device)
    if rows.shape != x.shape[:1]:
        raise InputError(f"rows has shape {tuple(rows.shape)} for {len(x)} rows of x: give one number a row")
    target = Target(log_joint_of(model), _posterior(guide), x, rows, isinstance(guide, Distribution))
    with isolated(0, x.dtype), torch.no_grad():
        _check(target if target.whole else replace(target, x=x[:2], rows=rows[:2]), model, guide)
    return target


def _posterior(guide: Any) -> Posterior:
    if isinstance(guide, Distribution):
        return lambda x, rows: guide
    if hasattr(guide, "posterior"):
        return guide.posterior
    return lambda x, rows: guide(x)


def _check(target: Target, model: Any, guide: Any) -> None:
    """Hold one draw to the shapes that were promised."""
    number = len(target.x)
    try:
        q = target.q
    except Exception as error:
        raise InputError(f"guide {model_name(guide)} fails on these rows: {one_line(error)}") from error
    if not isinstance(q, Distribution) or tuple(q.batch_shape) != (number,) or len(q.event_shape) != 1:
        found = f"{type(q).__name__}, batch {tuple(getattr(q, 'batch_shape', ()))}"
        raise InputError(f"guide {model_name(guide)} gives {found}: q(z | x) needs batch ({number},), event (latent,)")
    try:
        value = target.log_joint(q.sample(Size((3,))), target.x)
    except Exception as error:
        raise InputError(f"log_joint of {model_name(model)} fails on a draw of q: {one_line(error)}") from error
    if tuple(value.shape) != (3, number):
        raise InputError(
            f"log_joint gives shape {tuple(value.shape)} for three draws of {number} rows: one number each"
        )
