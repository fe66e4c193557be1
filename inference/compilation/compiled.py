"""Graphs made fast.

TorchScript runs small operations about three times as fast as Python does and is ready in a tenth of a second.
Inductor writes and compiles C++ that is two to five times as fast again, which takes a quarter of a minute; its work is
kept for graphs of the same operations and sizes, in this process and, in torch's own cache on disk, for later ones.
A value and its gradient can be a C function besides, ready in a second: tens of times as fast as TorchScript.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from ...errors import InputError, is_one_of
from ...models.structure import one_line
from .fusible import fusible
from .graph import Graph, NoGraph, agree, changed, graphs_of
from .kernels import WRITER, source_of
from .native import Native, native

Compile = bool | Literal["auto"]
Tier = Literal["eager", "script", "inductor", "native"]

MIN_SECONDS_FOR_NATIVE = 1.0  # of scripted work
MIN_SECONDS_FOR_INDUCTOR = 30.0  # of scripted work, that make up for a quarter of a minute of Inductor
SECONDS_A_CALL, SECONDS_A_NUMBER = 2e-4, 2e-8  # of TorchScript, about: a gradient, and each number of data

aten = torch.ops.aten
_inducted: dict[tuple[Any, ...], Callable[..., Any]] = {}


def seconds_scripted(calls: int, numbers: int) -> float:
    """What so many gradients on so many numbers of data take TorchScript, about."""
    return calls * (SECONDS_A_CALL + SECONDS_A_NUMBER * numbers)


def worth_compiling(calls: int, numbers: int) -> bool:
    """Whether Inductor makes up for its time: by the size of the work, so that one seed gives one result."""
    return seconds_scripted(calls, numbers) > MIN_SECONDS_FOR_INDUCTOR


def check_compile(compile: object) -> None:
    """Raise InputError for what `compile` cannot be."""
    if not (isinstance(compile, bool) or is_one_of(compile, "auto")):
        raise InputError(f"compile={compile!r} is unknown: choose 'auto', True or False")


def tiers_for(compile: Compile, calls: int, numbers: int) -> tuple[Tier, ...]:
    """The tiers to try, in their order, for so many gradients: by the size of the work, as above."""
    check_compile(compile)
    if not compile:
        return ("eager",)
    native = compile is True or seconds_scripted(calls, numbers) > MIN_SECONDS_FOR_NATIVE
    inductor = compile is True or worth_compiling(calls, numbers)
    return (*(("native",) if native else ()), *(("inductor",) if inductor else ()), "script")


def compile_graph(graph: Graph, tier: Tier, *example: Any) -> Callable[..., Any]:
    """The graph as TorchScript, or compiled by Inductor: tensors side by side -> results; unchecked. Raises NoGraph.

    Random numbers are those of eager torch.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants in the trace are meant, a check against fn is the judge
        try:
            return TIERS[tier](graph, example)
        except Exception as error:
            raise NoGraph(f"{REFUSALS[tier]} ({one_line(error)})") from error


def _script(graph: Graph, example: tuple[Any, ...]) -> torch.jit.ScriptFunction:
    graph = replace(graph, module=_scriptable(graph.module))
    return torch.jit.trace(lambda *args: graph(*args), example, check_trace=False)


def _inductor(graph: Graph, example: tuple[Any, ...]) -> Callable[..., Any]:
    key, inputs = _code(graph, example)
    if key not in _inducted:
        module = fusible(graph.module, inputs)
        _inducted[key] = torch._inductor.compile(module, inputs, options={"fallback_random": True})
    made = _inducted[key]
    return lambda *leaves: made(*leaves, *graph.constants)


def _native(graph: Graph, example: tuple[Any, ...]) -> Native:
    return native(graph, example[0], source_of, WRITER)


TIERS: dict[Tier, Callable[..., Any]] = {"script": _script, "inductor": _inductor, "native": _native}
REFUSALS = {
    "script": "TorchScript does not take it",
    "inductor": "Inductor does not compile it",
    "native": "it has no form in C",
}


def known_to_inductor(graph: Graph, *example: Any) -> bool:
    """Whether this process has compiled such a graph before."""
    return _code(graph, example)[0] in _inducted


def _code(graph: Graph, example: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Any]]:
    """What graphs that Inductor would make the same code of have in common; and the inputs of that code."""
    inputs = [*pytree.tree_leaves(example), *graph.constants]
    kinds = tuple((value.shape, value.stride(), value.dtype, value.device) for value in inputs)
    return (graph.module.code, kinds, torch.get_num_threads()), inputs


def value_and_gradient(
    fn: Callable[[Tensor], Tensor], *examples: Tensor, tiers: Sequence[Tier] = ("script",)
) -> tuple[Callable[[Tensor], Any], str]:
    """Value () and gradient (dim,) of fn at a point (dim,), by the first of the tiers that works; and which, and why.

    examples: unlike points at which both must agree with fn as it is, to 1e-8. Which: `native`, or `script: why no tier
    before it`, say.
    """
    return compiled(changed(fn, _with_gradient), *examples, tiers=tiers)


def _with_gradient(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def both(point: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            value = fn(point)
            return value.detach(), torch.autograd.grad(value, point)[0]

    return both


def compiled(
    eager: Callable[[Tensor], Any], *examples: Tensor, tiers: Sequence[Tier] = ("script",)
) -> tuple[Callable[..., Any], str]:
    """A function of a tensor made fast by the first tier that gives its numbers, else as it is; and which, and why."""
    reasons: list[str] = []
    if "eager" in tiers:
        return eager, "eager"
    try:
        for graph in graphs_of(eager, (examples[0],)):
            reasons = []  # what a graph of other data does not do is no reason
            for tier in tiers:
                try:
                    made = compile_graph(graph, tier, examples[0])
                    if all(agree(made, eager, (point,)) for point in examples):
                        return made, ": ".join([tier, *reasons[:1]])
                    reasons.append("its graph gave other numbers at a fresh point: what it does depends on values")
                except NoGraph as why:
                    reasons.append(str(why))
                except Exception as error:
                    reasons.append(f"it does not run ({one_line(error)})")
    except NoGraph as why:
        reasons.append(str(why))
    return eager, f"eager: {reasons[-1]}"


SCRIPT = """
def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: List[int], stride: List[int], padding: List[int],
    dilation: List[int], transposed: bool, output_padding: List[int], groups: int, wanted: List[int]
) -> Tuple[Tensor, Tensor, Tensor]:
    mask = [wanted[0] == 1, wanted[1] == 1, wanted[2] == 1]
    a, b, c = torch.ops.aten.convolution_backward(
        grad, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, mask
    )
    nothing = torch.zeros([0])
    return (a if mask[0] else nothing, b if mask[1] else nothing, c if mask[2] else nothing)
"""
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript as a whole
    _scripted_backward = torch.jit.CompilationUnit(SCRIPT).convolution_backward


def _scriptable(module: GraphModule) -> GraphModule:
    """The module with each convolution's gradient as a script of its own.

    The tracer records neither a list of truth values nor a result that is missing.
    """
    module = copy.copy(module)
    module.graph = copy.deepcopy(module.graph)
    for node in module.graph.nodes:
        if node.target is aten.convolution_backward.default:
            node.target = _convolution_backward
    module.recompile()
    return module


def _convolution_backward(grad: Any, x: Any, weight: Any, bias: Any, *options: Any) -> Any:
    *rest, mask = options
    return _scripted_backward(grad, x, weight, bias or [0], *rest, [int(each) for each in mask])
