"""Graphs made fast.

TorchScript runs small operations about three times as fast as Python does and is ready in a tenth of a second.
Inductor writes and compiles C++ that is two to five times as fast again, which takes a quarter of a minute; its work is
kept for graphs of the same operations and sizes, in this process and, in torch's own cache on disk, for later ones.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from ...models.structure import one_line
from .graph import Graph, NoGraph, agree, traced

Compile = bool | Literal["auto"]
Tier = Literal["eager", "script", "inductor"]

MIN_SECONDS_FOR_INDUCTOR = 30.0  # of scripted work, that make up for a quarter of a minute of Inductor
SECONDS_A_CALL, SECONDS_A_NUMBER = 2e-4, 2e-8  # of TorchScript, about: a gradient, and each number of data
MAX_MULTIPLICATIONS = 50_000  # of a matrix product that is spelt out
MAX_SPELT_OUT = 32  # entries of a running total, and of the dimension that a product sums over

aten = torch.ops.aten
_inducted: dict[tuple[Any, ...], Callable[..., Any]] = {}


def seconds_scripted(calls: int, numbers: int) -> float:
    """What so many gradients on so many numbers of data take TorchScript, about."""
    return calls * (SECONDS_A_CALL + SECONDS_A_NUMBER * numbers)


def worth_compiling(calls: int, numbers: int) -> bool:
    """Whether Inductor makes up for its time: by the size of the work, so that one seed gives one result."""
    return seconds_scripted(calls, numbers) > MIN_SECONDS_FOR_INDUCTOR


def compile_graph(graph: Graph, tier: Tier, *example: Any) -> Callable[..., Any]:
    """The graph as TorchScript, or compiled by Inductor: tensors side by side -> results; unchecked. Raises NoGraph.

    Random numbers are those of eager torch.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants in the trace are meant, a check against fn is the judge
        try:
            return _inductor(graph, example) if tier == "inductor" else _script(graph, example)
        except Exception as error:
            what = "Inductor does not compile it" if tier == "inductor" else "TorchScript does not take it"
            raise NoGraph(f"{what} ({one_line(error)})") from error


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


def known_to_inductor(graph: Graph, *example: Any) -> bool:
    """Whether this process has compiled such a graph before."""
    return _code(graph, example)[0] in _inducted


def _code(graph: Graph, example: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Any]]:
    """What graphs that Inductor would make the same code of have in common; and the inputs of that code."""
    inputs = [*pytree.tree_leaves(example), *graph.constants]
    kinds = tuple((value.shape, value.stride(), value.dtype, value.device) for value in inputs)
    return (graph.module.code, kinds, torch.get_num_threads()), inputs


def value_and_gradient(
    fn: Callable[[Tensor], Tensor], *examples: Tensor, tier: Tier = "script"
) -> tuple[Callable[[Tensor], Any], str]:
    """Value () and gradient (dim,) of fn at a point (dim,), and how: `script`, `inductor`, or `eager: why`.

    examples: unlike points at which both must agree with fn as it is, to 1e-8.
    """

    def eager(point: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            value = fn(point)
            return value.detach(), torch.autograd.grad(value, point)[0]

    return compiled(eager, *examples, tier=tier)


def compiled(
    eager: Callable[[Tensor], Any], *examples: Tensor, tier: Tier = "script"
) -> tuple[Callable[..., Any], str]:
    """A function of a tensor made fast, and how; as it is where that fails or gives other numbers at an example."""
    if tier == "eager":
        return eager, "eager"
    try:
        made = compile_graph(traced(eager, (examples[0],)), tier, examples[0])
    except NoGraph as why:
        return eager, f"eager: {why}"
    try:
        same = all(agree(made, eager, (point,)) for point in examples)
    except Exception as error:
        return eager, f"eager: it does not run ({one_line(error)})"
    other = "its graph gave other numbers at a fresh point: what it does depends on values"
    return (made, tier) if same else (eager, f"eager: {other}")


def fusible(module: GraphModule, inputs: Sequence[Tensor]) -> GraphModule:
    """The module with its small products and running totals as elementwise operations and sums, to be fused.

    Inductor hands these to library calls, which on a few numbers cost more than all the rest of a density.
    """
    return make_fx(module, decomposition_table=SPELT_OUT)(*inputs)


def _product(left: Tensor, right: Tensor) -> Tensor:
    inner = left.shape[-1]
    if inner > MAX_SPELT_OUT or left.numel() * right.shape[-1] > MAX_MULTIPLICATIONS:
        return NotImplemented
    return sum(left[..., i, None] * right[..., i, None, :] for i in range(inner))  # type: ignore[return-value]


def _running(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def total(x: Tensor, dim: int, **options: Any) -> Tensor:
        cast = options.get("dtype") not in (None, x.dtype)
        if cast or x.dim() == 0 or x.shape[dim] > MAX_SPELT_OUT or x.dtype == torch.bool:
            return NotImplemented
        return torch.stack([*accumulate(x.unbind(dim), combine)], dim)

    return total


SPELT_OUT: dict[Any, Callable[..., Any]] = {
    aten.bmm.default: _product,
    aten.mm.default: _product,
    aten.cumsum.default: _running(torch.add),
    aten.cumprod.default: _running(torch.mul),
}


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
