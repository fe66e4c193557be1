"""The arguments of a program: what they are called, and which of them it only observes."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

__all__ = ["Parameters", "only_observes", "parameters_of"]


class Parameters(NamedTuple):
    """What a model can be called with. names: in order; required: those without a default; open: it takes any more."""

    names: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    open: bool = True


def parameters_of(model: Callable[..., Any] | None) -> Parameters:
    """The parameters of a program that data can be given for; `batch_size` is none of them."""
    program = model and _signed(model)
    try:
        found = inspect.signature(program).parameters.values() if program else None
    except (TypeError, ValueError):  # what is written in C may have no signature
        found = None
    if found is None:
        return Parameters()
    plain = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "batch_size"]
    required = tuple(p.name for p in plain if p.default is p.empty)
    more = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in found)
    bound = model.keywords if isinstance(model, partial) else {}
    return Parameters(tuple(p.name for p in plain if p.name not in bound), required, more)


def _signed(model: Callable[..., Any]) -> Callable[..., Any]:
    """What bears a program's signature: of a module its forward, not the general call."""
    model = inspect.unwrap(model)
    if isinstance(model, partial):
        return partial(_signed(model.func), *model.args, **model.keywords)
    return model.forward if isinstance(model, nn.Module) else model


def only_observes(model: Callable[..., Any], arguments: dict[str, Any], key: str, positional: int) -> bool:
    """Whether an array is observed and nothing else: at the same latent values, zeros in its place change no density.

    arguments: of the program by name, the first `positional` of them given by position.
    """

    def traced(program: Callable[..., Any], named: dict[str, Any]) -> poutine.Trace:
        args = list(named.values())[:positional]
        return poutine.trace(program).get_trace(*args, **dict(list(named.items())[positional:]))

    def density(trace: poutine.Trace, site: str) -> Tensor:
        return trace.nodes[site]["fn"].log_prob(first.nodes[site]["value"]).nan_to_num()

    with poutine.block(), pyro.get_param_store().scope(), torch.no_grad(), torch.random.fork_rng():
        try:
            first = traced(model, arguments)
            zeros = traced(poutine.replay(model, first), {**arguments, key: torch.zeros_like(arguments[key])})
            return all(torch.equal(density(first, site), density(zeros, site)) for site in first.observation_nodes)
        except Exception:  # a program that fails with zeros needs the values
            return False
