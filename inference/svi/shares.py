"""A training whose steps several processes take together, held to what one process does before the first."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor

from ...errors import InputError
from ...guides import Guide
from ...models.structure import Model, model_name
from ..data.data import Data, structure_on
from ..density.batch_size import with_batch_size
from ..distributed.averaging import differentiable
from ..distributed.group import SHARED_FROM, Group
from ..distributed.share import Share, bits, share_of
from ..mapped.blocks import evenly_spaced
from ..runtime.pyro_private import stored_params
from ..steps.compiled_steps import ROUNDING, Schedule, joined
from ..steps.minibatches import Minibatches
from ..steps.plan import Plan
from .checkpoint import known_by
from .training import Start, begin

LOOKED_AT = 10_000  # rows, of all that should be alike in all processes


@dataclass(frozen=True)
class Batches:
    """What the model of a training looks at in a step.

    own: the model on the rows of this process. whole: the same on those of all of them. size: of the whole batch, None
    where that is up to the model. share: which of it are this process's own, None where it is alone.
    """

    own: Model
    whole: Model
    size: int | None
    share: Share | None = None

    def schedule(self, data: Data, **options: Any) -> Schedule:
        """That of a training on its own rows."""
        plates, beta = structure_on(self.own, data).subsampled, getattr(self.own, "beta", 1.0)
        return Schedule(plates=plates, share=self.share, beta=beta, **options)


def batches_of(group: Group, plan: Plan) -> Batches:
    """The rows of a step, the plan's for each process, or all of them; the model knows of it.

    Raises InputError where the model cannot be cut into shares.
    """
    if group.processes < SHARED_FROM:
        return Batches(plan.model, plan.model, plan.batch_size)
    model, data = plan.model, plan.data
    structure, rows = structure_on(model, data), data.rows or 0
    if structure.rows is None:
        what = f"model {model_name(model)} has no plate of rows"
        raise InputError(f"{what}, which {group.processes} processes would share: take one process")
    each = structure.rows.size if structure.rows in structure.subsampled else rows
    size = min(each * group.processes, rows)
    if size < group.processes:
        raise InputError(f"{rows} rows are too few for {group.processes} processes: start fewer")
    share = share_of(group, size)
    try:
        whole = with_batch_size(model, None if size == rows else size)
        own = with_batch_size(model, share.size)
    except InputError as error:
        raise InputError(f"{group.processes} processes share the rows of a step, and {error}") from error
    before, after = (structure_on(cut, data).plates for cut in (whole, own))
    cut = [name for name, plate in after.items() if plate.size != before[name].size]
    if group.processes > 1 and [before[name].size for name in cut] != [size]:
        plates = f"plates {', '.join(cut)}" if cut else "no plate"
        what = f"batch_size of model {model_name(model)} is of {plates}, and several processes share that of the rows"
        raise InputError(f"{what}: give it to the plate of the rows alone, or take one process")
    return Batches(own, whole, size, replace(share, plate=(*cut, "")[0]))


def begin_shared(
    plan: Plan,
    optimizer: Callable[[], PyroOptim],
    seed: int,
    schedule: Schedule,
    batches: Batches,
    place: Callable[[Guide, int], Any] | None = None,
) -> Start:
    """A fresh start of one process, or of all, each on its share; where it begins is what one process makes of it.

    For the arguments see `begin`.
    """

    def start(model: Model, batch_size: int | None, schedule: Schedule) -> Start:
        pairing = partial(plan.paired, model, batch_size)
        return begin(pairing, optimizer(), plan.data, seed, schedule, place, plan.rows)

    share = batches.share
    if share is None:
        return start(batches.own, batches.size, schedule)
    plates = structure_on(batches.whole, plan.data).subsampled
    whole = start(batches.whole, batches.size, replace(schedule, plates=plates, share=None))
    own = start(batches.own, share.size, schedule)
    _check_alike(share.group, whole, own, known_by(batches.whole))
    own.values = share.group.of_first(whole.values)
    _check_gradient(share, whole, own)
    return own


def _check_alike(group: Group, whole: Start, own: Start, model: str) -> None:
    """Refuse processes that train something else each, and parameters that go by the rows of a batch."""
    shapes, wanted = ({name: tuple(value.shape) for name, value in start.values.items()} for start in (own, whole))
    differs = next((name for name in shapes | wanted if shapes.get(name) != wanted.get(name)), None)
    if differs is not None:
        here, there = shapes.get(differs), wanted.get(differs)
        what = f"parameter {differs!r} has shape {here} for {own.minibatches.plates[0].size} rows and {there} for all"
        raise InputError(f"{what}: several processes cannot share it, take one")
    data = own.data
    looked = data.take(evenly_spaced(data.rows or 0, LOOKED_AT))
    options = {name: getattr(whole.schedule, name) for name in ("steps", "compile", "plates", "warmup", "beta")}
    group.check_same(
        model=model,
        guide=repr(type(own.pairing.guide)),
        parameters=wanted,
        estimator=own.pairing.estimator,
        seed=own.seed,
        data=[(tuple(value.shape), value.dtype, int(bits(value))) for value in looked.tensors],
        options={**options, "optimizer": repr(own.svi.optim.pt_optim_args)},
    )


def _check_gradient(share: Share, whole: Start, own: Start) -> None:
    """Refuse a pair whose loss and gradient on a whole batch are not the mean of its shares, under one noise."""
    expected = _first_gradient(whole)
    if not expected.isfinite().all():
        return  # the first step says what is wrong
    found = share.mean(_first_gradient(own).expand(expected.shape))
    scale = expected.abs()
    scale[1:] = scale[1:].max() if len(scale) > 1 else 1.0
    scale[0] = scale[0].clamp(min=1.0)
    gap = ((found - expected).abs() / scale.clamp(min=torch.finfo(scale.dtype).tiny)).max()
    if found.isfinite().all() and gap > ROUNDING[own.data.dtype][1]:
        why = "as by batch normalisation, or noise that is not a row's own"
        raise InputError(f"loss and gradient of a batch are not the mean of its shares, {why}: take one process")


def _first_gradient(start: Start) -> Tensor:
    """Loss, nats, and gradient by all parameters by name, end to end, as of the first step: (1 + P,); NaN, (1,)."""
    minibatches, loss = start.minibatches, differentiable(start.pairing.elbo)
    batches = Minibatches(minibatches.plates, 0, minibatches.warmup, minibatches.beta, minibatches.share)
    with start.at_work(start.seed), torch.enable_grad():
        try:
            with batches.messenger(batches.draw(1)[0], 0):
                value = start.data.run(partial(loss, start.pairing.program, start.pairing.guide))
            named = sorted((name, param) for name, param in stored_params().items() if param.requires_grad)
            params = [param for _, param in named]
            trained = params and value.requires_grad
            parts = torch.autograd.grad(value, params, allow_unused=True, materialize_grads=True) if trained else []
        except InputError as error:  # of all processes alike
            raise InputError(str(error).splitlines()[0]) from error  # Pyro adds pages to it
        except Exception:  # a factorization, say, of some rows
            return torch.full((1,), math.nan, dtype=torch.float64, device=start.data.like.device)
        return joined([value.detach().reshape(1), *parts]).double()
