"""Graphs made fast.

TorchScript runs small operations about three times as fast as Python does and is ready in a tenth of a second.
Inductor writes and compiles C++ that is two to five times as fast again, which takes a quarter of a minute; its work is
kept for graphs of the same operations and sizes, in this process and, in torch's own cache on disk, for later ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .fusible import fusible
from .graph import Graph, NoGraph, agree, first_line, traced
from .scriptable import scriptable

__all__ = [
    "Compile",
    "Tier",
    "compiled",
    "inducted",
    "known_to_inductor",
    "scripted",
    "seconds_scripted",
    "value_and_gradient",
    "worth_compiling",
]

Compile = bool | Literal["auto"]
Tier = Literal["eager", "script", "inductor"]

LONG = 30.0  # seconds of scripted work that make up for a quarter of a minute of Inductor
A_CALL, A_NUMBER = 2e-4, 2e-8  # seconds that TorchScript takes, about: a gradient, and each number of the data in it

_inducted: dict[tuple[Any, ...], Callable[..., Any]] = {}


def seconds_scripted(calls: int, numbers: int) -> float:
    """What so many gradients on so many numbers of data take TorchScript, about."""
    return calls * (A_CALL + A_NUMBER * numbers)


def worth_compiling(calls: int, numbers: int) -> bool:
    """Whether Inductor makes up for its time: by the size of the work, so that one seed gives one result."""
    return seconds_scripted(calls, numbers) > LONG


def scripted(graph: Graph, *example: Any) -> torch.jit.ScriptFunction:
    """The graph as TorchScript, unchecked. Raises NoGraph."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constants in the trace are meant; a check against fn is the judge
            graph = replace(graph, module=scriptable(graph.module))
            return torch.jit.trace(lambda *args: graph(*args), example, check_trace=False)
    except Exception as error:
        raise NoGraph(f"TorchScript does not take it ({first_line(error)})") from error


def inducted(graph: Graph, *example: Any) -> Callable[..., Any]:
    """The graph compiled by Inductor, unchecked: tensors side by side -> a list of results. Raises NoGraph.

    Random numbers are those of eager torch.
    """
    inputs = [*pytree.tree_leaves(example), *graph.constants]
    key = _code(graph, inputs)
    if key not in _inducted:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Inductor's own business
                module = fusible(graph.module, inputs)
                _inducted[key] = torch._inductor.compile(module, inputs, options={"fallback_random": True})
        except Exception as error:
            raise NoGraph(f"Inductor does not compile it ({first_line(error)})") from error
    made, constants = _inducted[key], graph.constants
    return lambda *leaves: made(*leaves, *constants)


def known_to_inductor(graph: Graph, *example: Any) -> bool:
    """Whether this process has compiled such a graph before."""
    return _code(graph, [*pytree.tree_leaves(example), *graph.constants]) in _inducted


def _code(graph: Graph, inputs: list[Tensor]) -> tuple[Any, ...]:
    """What graphs that Inductor would make the same code of have in common."""
    kinds = tuple((value.shape, value.stride(), value.dtype, value.device) for value in inputs)
    return graph.module.code, kinds, torch.get_num_threads()


def value_and_gradient(
    fn: Callable[[Tensor], Tensor], *examples: Tensor, tier: Tier = "script"
) -> tuple[Callable[[Tensor], Any], str]:
    """Value () and gradient (dim,) of fn at a point (dim,), and how: `script`, `inductor`, or `eager: why`.

    examples: unlike points at which both must agree with fn as it is, to 1e-8.
    """
    return compiled(_eager_gradient(fn), *examples, tier=tier)


def compiled(
    eager: Callable[[Tensor], Any], *examples: Tensor, tier: Tier = "script"
) -> tuple[Callable[..., Any], str]:
    """A function of a tensor made fast, and how; as it is where that fails or gives other numbers at an example."""
    if tier == "eager":
        return eager, "eager"
    try:
        graph = traced(eager, (examples[0],))
        made = scripted(graph, examples[0]) if tier == "script" else inducted(graph, examples[0])
        if not all(_same(made, eager, point) for point in examples):
            raise NoGraph("its graph gave other numbers at a fresh point: what it does depends on values")
    except NoGraph as why:
        return eager, f"eager: {why}"
    return made, tier


def _same(made: Callable[[Tensor], Any], eager: Callable[[Tensor], Any], point: Tensor) -> bool:
    try:
        return agree(made, eager, (point,))
    except Exception as error:
        raise NoGraph(f"it does not run ({first_line(error)})") from error


def _eager_gradient(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def both(point: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            value = fn(point)
            return value.detach(), torch.autograd.grad(value, point)[0]

    return both
