"""Minus the ELBO as a plain function of the unconstrained parameters: what a graph of an SVI step is traced from.

The estimators of Pyro look at values while they run, which no graph can. These few lines are the same sums without a
look; `compiled_svi` holds them to Pyro's own before it trusts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.traceenum_elbo import _compute_dice_elbo
from torch import Tensor
from torch.distributions import kl_divergence, transform_to
from torch.overrides import TorchFunctionMode

from ...models.structure import Model, sites_of
from ..density.params import InPlaceOf
from .iwae import IWAE
from .minibatches import subsampled_to

if TYPE_CHECKING:
    from ..data.data import Data
    from .pairing import Pairing

__all__ = ["objective"]

Params = Mapping[str, Tensor]


def objective(pairing: Pairing, data: Data) -> Callable[[Params, Params], Tensor]:
    """Minus the ELBO of one particle, nats, at parameters given as unconstrained tensors by their names in the store,
    and for the rows given plate by plate.

    To be called within the param store that holds them. Where the guide leaves the discrete sites alone and the model
    has a `collapsed()`, that takes the model's place.
    """
    offer = getattr(pairing.model, "collapsed", None)
    collapsed = offer() if offer and not pairing.assigns else None
    kind = type(pairing.elbo)

    def loss(params: Params, rows: Params) -> Tensor:
        with subsampled_to(dict(rows)), _trained(params):
            if kind is TraceEnum_ELBO and collapsed is None:
                return _enumerated(pairing, data)
            if isinstance(pairing.elbo, IWAE):
                return data.run(partial(pairing.elbo.differentiable_loss, pairing.model, pairing.guide))
            return (_closed_form if kind is TraceMeanField_ELBO else _sampled)(
                collapsed or pairing.model, pairing, data
            )

    return loss


def _sampled(model: Model, pairing: Pairing, data: Data) -> Tensor:
    """log q - log p at one draw of the guide (Ranganath et al. 2014, eq. 1)."""
    guide = data.run(poutine.trace(pairing.guide).get_trace)
    joint = data.run(poutine.trace(poutine.replay(model, trace=guide)).get_trace)
    return guide.log_prob_sum() - joint.log_prob_sum(lambda _, node: not node["infer"].get("_deterministic"))


def _closed_form(model: Model, pairing: Pairing, data: Data) -> Tensor:
    """KL(q | prior) in closed form less the log likelihood at one draw."""
    guide = data.run(poutine.trace(pairing.guide).get_trace)
    joint = data.run(poutine.trace(poutine.replay(model, trace=guide)).get_trace)
    joint.compute_log_prob(lambda _, node: _counts(node))
    seen = [node["log_prob_sum"] for node in sites_of(joint).values() if _counts(node)]
    divergences = [
        node["scale"] * kl_divergence(node["fn"], joint.nodes[name]["fn"]).sum()
        for name, node in sites_of(guide).items()
    ]
    return torch.stack([torch.as_tensor(term) for term in divergences]).sum() - sum(seen)


def _counts(node: dict[str, Any]) -> bool:
    return node["is_observed"] and not node["infer"].get("_deterministic")


def _enumerated(pairing: Pairing, data: Data) -> Tensor:
    """Discrete sites summed over, in the guide by q(z), else in the model."""
    ((joint, guide),) = pairing.elbo._get_traces(pairing.program, pairing.guide, data.args, data.kwargs)
    with _NothingDropped():
        return -_compute_dice_elbo(joint, guide)


class _NothingDropped(TorchFunctionMode):
    """Pyro drops the terms of probability zero after a look at `mask.all()`; a graph keeps all of them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return True if func is torch.Tensor.all else func(*args, **(kwargs or {}))


@contextmanager
def _trained(params: Params) -> Iterator[None]:
    """Let `pyro.param`, and whatever else takes its tensors from Pyro's store, take these values."""
    store = pyro.get_param_store()
    values = {id(store._params[name]): value for name, value in params.items()}  # one tensor may bear two names
    constrained = {}
    for name, old in store._params.items():
        if id(old) in values:
            value = values[id(old)]
            constrained[name] = transform_to(store._constraints[name])(value)
            constrained[name].unconstrained = lambda value=value: value  # what Pyro's replay asks for
    with poutine.replay(params=constrained), InPlaceOf(values):
        yield
