"""Rows with a latent vector each, log p(x_n, z_n) and q(z | x): what every estimator takes, some rows at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide, AutoNormal
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal

from ...errors import InputError
from ...models.structure import model_name, one_line
from ..density.log_density import MAX_NUMBERS_AT_ONCE
from ..density.row_density import RowDensity

WIDEST = 512  # units assumed in the widest layer of a decoder
BLOCK = 256  # rows at once


def tells_q(guide: Any) -> bool:
    """Whether q(z | x) of a row can be had from a guide: by its `posterior(x, rows)`, or as it is an AutoNormal."""
    return isinstance(guide, AutoNormal) or hasattr(guide, "posterior")


def tells_new(guide: Any) -> bool:
    """Whether q(z | x) can be had of rows that the guide was not trained on, as its attribute `amortized` says."""
    return tells_q(guide) and getattr(guide, "amortized", False)


def check_tells(name: str, guide: Any, new: bool) -> None:
    """Refuse a guide that does not tell its q(z | x), or not of new rows, which it was not trained on."""
    if new and not tells_new(guide) and (tells_q(guide) or isinstance(guide, AutoGuide)):
        mend = "choose an encoder, or let it say amortized = True"
        raise InputError(f"guide {name} has a q for each training row and for no other: {mend}")
    if not tells_q(guide):
        mend = "give it a method posterior(x, rows), or choose an encoder, free or auto_normal"
        raise InputError(f"guide {name} does not tell its q(z | x): {mend}")


def row_posterior(guide: Any, density: RowDensity, rows: Tensor | None) -> Distribution:
    """q(z | x) of the rows of a density, z a row's vector as that has it: batch (M,), event (L,).

    guide: has posterior(x, rows), and takes the further arguments of the model behind these where it has a place for
    them; or is an AutoNormal, a function x -> Distribution, or a Distribution. rows: (M,),
    which training rows these are; None of rows that the guide was not trained on.
    """
    if isinstance(guide, Distribution):
        return guide
    if isinstance(guide, AutoNormal):
        return _auto_normal(guide, density, rows)
    if not tells_q(guide):
        return guide(density.data.values)
    x, *further = density.data.tensors
    takes = len(inspect.signature(guide.posterior).parameters) - 2  # beyond x and rows
    return guide.posterior(x, rows, *further[: max(takes, 0)])


def _auto_normal(guide: AutoNormal, density: RowDensity, rows: Tensor | None) -> Distribution:
    """An AutoNormal's, which has a normal for each entry in unconstrained space."""
    parts = []
    for place in density.places:
        both = [attrgetter(place.site.name)(each).movedim(place.axis, 0) for each in (guide.locs, guide.scales)]
        parts.append([value.reshape(len(value), -1) for value in both])
    loc, scale = (torch.cat(columns, -1) for columns in zip(*parts, strict=True))
    return Independent(Normal(loc[rows], scale[rows]), 1)


@dataclass(frozen=True)
class Target:
    """What every estimator takes.

    density: log p(x_n, z_n) and p(z_n) of M rows. guide: tells q(z | x), as `row_posterior` has it. rows: which
    training rows these are, (M,), for guides with a q of its own for each. new: the guide was trained on none of them.
    """

    density: RowDensity
    guide: Any
    rows: Tensor
    new: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def q(self) -> Distribution:
        """q(z | x) of these rows: batch (M,), event (L,)."""
        with torch.no_grad():
            return self.trainable_q(self.guide)

    def trainable_q(self, guide: Any) -> Distribution:
        """That of another guide, gradients flowing."""
        return row_posterior(guide, self.density, None if self.new else self.rows)

    def take(self, place: Tensor | slice) -> Target:
        """The same of some of the rows."""
        return replace(self, density=self.density.take(place), rows=self.rows[place])

    @property
    def can_be_cut(self) -> bool:
        """Whether some rows can be had alone: not where the guide is one Distribution of them all."""
        return not isinstance(self.guide, Distribution)

    def blocks(self, size: int | None = None) -> Iterator[Target]:
        """The same for a few rows at a time; all at once where q is one Distribution, which cannot be cut."""
        size = size or BLOCK
        if not self.can_be_cut or len(self) <= size:
            return iter((self,))
        return (self.take(slice(start, start + size)) for start in range(0, len(self), size))

    def draws_at_once(self, draws: int) -> list[int]:
        """How many draws to take at a time, so that no tensor outgrows 100 MB: numbers that sum to `draws`."""
        widest = getattr(self.density.density.model, "numbers_a_row", max(WIDEST, self.density.data.row_numel))
        most = max(1, MAX_NUMBERS_AT_ONCE // (len(self) * widest))
        return [min(most, draws - start) for start in range(0, draws, most)]

    def isolated(self, seed: int) -> AbstractContextManager[None]:
        """Pyro without a trace left behind."""
        return self.density.data.isolated(seed)


def target_of(density: RowDensity, guide: Any, rows: Tensor | None = None, new: bool = False) -> Target:
    """Put log p(x, z) and guide together, and see that their shapes agree, by one draw for two of the rows.

    rows: which training rows these are, all in order by default. Raises InputError where shapes disagree.
    """
    number, device = density.data.rows or 0, density.data.values.device
    rows = torch.arange(number, device=device) if rows is None else torch.as_tensor(rows, device=device)
    if rows.shape != (number,):
        raise InputError(f"rows has shape {tuple(rows.shape)} for {number} rows of x: give one number a row")
    target = Target(density, guide, rows, new)
    with target.isolated(0), torch.no_grad():
        _check(next(target.blocks(2)))
    return target


def _check(target: Target) -> None:
    """Hold one draw to the shapes that were promised."""
    number, guide = len(target), model_name(target.guide)
    model = target.density.density.model
    try:
        q = target.q
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"guide {guide} fails on these rows: {one_line(error)}") from error
    if not isinstance(q, Distribution) or tuple(q.batch_shape) != (number,) or len(q.event_shape) != 1:
        found = f"{type(q).__name__}, batch {tuple(getattr(q, 'batch_shape', ()))}"
        raise InputError(f"guide {guide} gives {found}: q(z | x) needs batch ({number},), event (latent,)")
    own = target.density.own_log_joint
    draws = Size((3,) if own else ())  # of a trace one draw tells if it runs
    try:
        value = (own or target.density.traced_log_joint)(q.sample(draws))
    except Exception as error:
        raise InputError(f"log_joint of {model_name(model)} fails on a draw of q: {one_line(error)}") from error
    if value.shape != (*draws, number):
        found = f"log_joint gives shape {tuple(value.shape)}"
        raise InputError(f"{found} for three draws of {number} rows: one number each")
