"""The arguments of a program: what they are called, and which of them it only observes."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ..errors import InputError
from .structure import model_name, one_line

__all__ = ["Parameters", "blamed", "only_observes", "parameters_of"]


class Parameters(NamedTuple):
    """What a model can be called with. names: in order; required: those without a default; open: it takes any more."""

    names: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    open: bool = True


def parameters_of(model: Callable[..., Any] | None) -> Parameters:
    """The parameters of a program that data can be given for; `batch_size` is none of them."""
    program = None if model is None else _signed(model)
    try:
        found = None if program is None else inspect.signature(program).parameters.values()
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


@contextmanager
def blamed(*programs: Any) -> Iterator[None]:
    """What one of these programs of a user's raises becomes an InputError of one line; a bug stays what it is."""
    codes = {_code(program): program for program in programs if callable(program)}
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code in codes:
                raise InputError(f"{model_name(codes[frame.f_code])} fails: {one_line(error)}") from error
        raise


def _code(program: Callable[..., Any]) -> Any:
    """The code that runs when a program of a user's is called; None of those that are not, or are written in C."""
    program = _signed(program)
    while isinstance(program, partial):
        program = program.func
    if not inspect.isroutine(program):
        program = type(program).__call__
    ours = (getattr(program, "__module__", None) or "").partition(".")[0] in ("pyro", __name__.partition(".")[0])
    return None if ours else getattr(inspect.unwrap(program), "__code__", None)


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
