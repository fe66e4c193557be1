"""What is to be trained: model, guide and data, paired and cut into minibatches; what `svi` and `train` share."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide

from ...errors import InputError, check_name
from ...guides import Guide, GuideFactory
from ...models.structure import Model, Structure, model_name
from ..data.as_data import DataLike, data_for
from ..data.data import Data, structure_on
from ..density.batch_size import on_all_rows, with_batch_size
from .guide_of import guide_of, local_kind
from .pairing import Pairing, pair

MINIBATCH = 2048  # rows of a file, of which all are never in memory


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    model: a copy, trained in place, whose networks are made for these rows. guide: whatever names or makes one.
    structure: of the model on all rows. batch_size: rows a step, None where that is up to the model, which knows of it.
    """

    model: Model
    guide: str | GuideFactory | Guide
    name: str
    data: Data
    structure: Structure
    estimator: str | ELBO
    batch_size: int | None = None

    @property
    def local(self) -> bool:
        """Whether rows share no continuous latent."""
        return self.structure.only_local

    @property
    def rows(self) -> int:
        """Rows that the ELBO is a sum of where no two of them share a latent, else 1."""
        return self.data.rows or 1 if self.local else 1

    @cached_property
    def guide_kind(self) -> tuple[bool, bool]:
        """Whether the guide has a q(z | x) a row, and whether by a network that rows share."""
        return local_kind(self.guide, self.model)

    @property
    def own_batch_size(self) -> int | None:
        """Rows a step, as the model says."""
        return getattr(self.model, "batch_size", None)

    def in_batches(self, batch_size: int | None) -> Plan:
        """The same in minibatches, of all rows at most; None leaves it to the model.

        Raises InputError where it takes none.
        """
        if batch_size is not None and self.data.rows:
            batch_size = min(batch_size, self.data.rows)
        model = self.model if batch_size is None else with_batch_size(self.model, batch_size)
        return replace(self, model=model, batch_size=batch_size)

    def check_guide_of_file(self) -> None:
        """Refuse a guide with numbers of its own for every row of a file."""
        if self.data.mapped is not None and not self.guide_kind[1]:
            what = f"guide {self.name} has a q of its own for each of the {self.data.rows} rows of a file"
            raise InputError(f"{what}: choose an encoder, which has one for all")

    def paired(self, model: Model, batch_size: int | None) -> Pairing:
        """The model, in minibatches of its own, and a fresh guide. Raises InputError where they do not fit."""
        guide = guide_of(self.guide, model, batch_size)
        if isinstance(guide, AutoGuide) and not self.structure.of_kind("latent", "param"):
            what = f"model {model_name(model)} has no continuous latent site and no param"
            raise InputError(f"{what}, and guide {self.name} is of these alone: there is nothing to train")
        return pair(model, guide, self.name, self.data, structure_on(model, self.data), self.estimator)


def planned(
    model: Model,
    guide: str | GuideFactory | Guide,
    x: DataLike,
    name: str | None,
    estimator: str | ELBO,
    dtype: torch.dtype | None = None,
) -> Plan:
    """What is to be trained, of what a user hands in: data checked, and a copy of the model. Arguments as `svi`'s."""
    if name is not None:
        check_name(name)
    model = copy.deepcopy(model)
    data, structure = data_for(on_all_rows(model), x, dtype, by_rows=True)
    name = name or (guide if isinstance(guide, str) else model_name(guide))
    return Plan(model, guide, name, data, structure, estimator)


def minibatch_of_file(data: Data) -> int | None:
    """Rows a step of data in a file; None of what is in memory."""
    return None if data.mapped is None else min(MINIBATCH, max(1, (data.rows or 1) // 2))
