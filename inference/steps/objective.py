"""Minus the ELBO as a plain function of the unconstrained parameters: what a graph of an SVI step is traced from.

The estimators of Pyro look at values while they run, which no graph can. These few lines are the same sums without a
look; `compiled_steps` holds them to Pyro's own before it trusts them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import kl_divergence, transform_to
from torch.overrides import TorchFunctionMode

from ...guides import Guide
from ...models.structure import Model
from ...models.trace import is_deterministic, sites_of
from ..data.data import Data
from ..density.params import InPlaceOf
from ..runtime.pyro_private import enumerated_elbo, stored_constraint, stored_params, traces_of
from .iwae import IWAE
from .pairing import Pairing


def objective(pairing: Pairing, data: Data) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """Minus the ELBO of one particle, nats, at unconstrained parameters given by their names in the store.

    To be called within the param store that holds them. Where the guide leaves the discrete sites alone and the model
    has a `collapsed()`, that takes the model's place.
    """
    model, guide, elbo = pairing.model, pairing.guide, pairing.elbo
    offer = getattr(model, "collapsed", None)
    collapsed = offer() if offer and not pairing.assigns else None
    if isinstance(elbo, IWAE):
        estimate: Callable[[], Tensor] = partial(data.run, partial(elbo.differentiable_loss, model, guide))
    elif isinstance(elbo, TraceEnum_ELBO) and collapsed is None:
        estimate = partial(_enumerated, pairing, data)
    else:
        known = isinstance(elbo, TraceMeanField_ELBO)
        estimate = partial(_closed_form if known else _sampled, collapsed or model, guide, data)

    def loss(params: Mapping[str, Tensor]) -> Tensor:
        with _trained(params):
            return estimate()

    return loss


def not_finite(pairing: Pairing, data: Data) -> str:
    """The parameters in Pyro's store, and the sites of a draw, that are not finite, for a message; empty of none."""
    named = pyro.get_param_store().named_parameters()
    bad = [f"parameter {name!r}" for name, value in named if not value.isfinite().all()]
    try:
        for trace in _traces(pairing.program, pairing.guide, data):
            trace.compute_log_prob()
            sites = sites_of(trace).items()
            bad += [f"site {name!r}" for name, node in sites if not node["log_prob"].isfinite().all()]
    except Exception:
        pass  # what the parameters tell must do
    return f" ({', '.join(dict.fromkeys(bad))} not finite)" if bad else ""


def _traces(model: Model, guide: Guide, data: Data) -> tuple[poutine.Trace, poutine.Trace]:
    """A trace of the guide, and one of the model at its draw."""
    own = data.run(poutine.trace(guide).get_trace)
    return own, data.run(poutine.trace(poutine.replay(model, trace=own)).get_trace)


def _sampled(model: Model, guide: Guide, data: Data) -> Tensor:
    """log q - log p at one draw of the guide (Ranganath et al. 2014, eq. 1)."""
    own, joint = _traces(model, guide, data)
    return own.log_prob_sum() - joint.log_prob_sum(lambda _, node: not is_deterministic(node))


def _closed_form(model: Model, guide: Guide, data: Data) -> Tensor:
    """KL(q | prior) in closed form less the log likelihood at one draw."""
    own, joint = _traces(model, guide, data)
    seen = joint.log_prob_sum(lambda _, node: node["is_observed"] and not is_deterministic(node))
    q, p = sites_of(own), sites_of(joint)
    return (
        torch.stack([q[name]["scale"] * kl_divergence(q[name]["fn"], p[name]["fn"]).sum() for name in q]).sum() - seen
    )


def _enumerated(pairing: Pairing, data: Data) -> Tensor:
    """Discrete sites summed over, in the guide by q(z), else in the model."""
    joint, own = traces_of(pairing.elbo, pairing.program, pairing.guide, data.args, data.kwargs)
    with _NothingDropped():
        return -enumerated_elbo(joint, own)


class _NothingDropped(TorchFunctionMode):
    """Pyro drops the terms of probability zero after a look at `mask.all()`; a graph keeps all of them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return True if func is torch.Tensor.all else func(*args, **(kwargs or {}))


@contextmanager
def _trained(params: Mapping[str, Tensor]) -> Iterator[None]:
    """Let `pyro.param`, and whatever else takes its tensors from Pyro's store, take these values."""
    stored = stored_params()
    values = {id(stored[name]): value for name, value in params.items()}  # one tensor may bear two names
    constrained = {}
    for name, old in stored.items():
        if id(old) in values:
            value = values[id(old)]
            constrained[name] = transform_to(stored_constraint(name))(value)
            constrained[name].unconstrained = lambda value=value: value  # what Pyro's replay asks for
    with poutine.replay(params=constrained), InPlaceOf(values):
        yield
