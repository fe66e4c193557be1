"""The same functions, traced once: Pyro's handlers run while tracing and never again.

`graph_of` gives a plain graph of tensor operations. `scripted` hands such a graph to TorchScript, which runs small
operations about three times as fast as Python does and is ready in a tenth of a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.fx import GraphModule
from torch.fx.experimental.const_fold import split_const_subgraphs
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

__all__ = ["graph_of", "scripted", "value_and_gradient"]

# A Bernoulli's log_prob: torch runs it by in-place operations on what it captures, which no graph can do without.
PURE: Any = get_decompositions([torch.ops.aten.binary_cross_entropy_with_logits])


def graph_of(fn: Callable[..., Any], *examples: tuple[Any, ...], samples: bool = False) -> Callable[..., Any] | None:
    """The graph of fn, or None where it has none that can be trusted.

    A graph holds whatever branch fn took at the first example, so it is held to fn at every example, under the same
    noise. examples: argument tuples, two or more unlike ones. samples: whether fn draws random numbers; where it does
    not, the graph is made free of in-place operations, which `vmap` and compilers prefer. (Where it does it is not:
    `vmap` would give every draw the noise of the first.)
    """
    try:
        graph = _traced(fn, examples[0], samples)
    except Exception:  # torch raises many classes for "cannot trace this"; eager meets any real error again
        return None
    return graph if all(_agree(graph, fn, example) for example in examples) else None


def _traced(fn: Callable[..., Any], example: tuple[Any, ...], samples: bool) -> Callable[..., Any]:
    """The graph of fn behind fn's own signature: graphs take and give tensors side by side, without names."""
    leaves, into = pytree.tree_flatten(example)
    shape: list[pytree.TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        results, out = pytree.tree_flatten(fn(*pytree.tree_unflatten(tensors, into)))
        shape[:] = [out]
        return results

    graph = make_fx(flat, decomposition_table=PURE)(*leaves)
    graph = graph if samples else _folded(make_fx(torch.func.functionalize(graph))(*leaves))
    return lambda *args: pytree.tree_unflatten(graph(*pytree.tree_leaves(args)), shape[0])


def _folded(graph: GraphModule) -> GraphModule:
    """The graph without what nothing needs, and with what does not depend on its inputs computed once."""
    graph.graph.eliminate_dead_code()
    graph.recompile()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it finds its constants all the same
        folded = split_const_subgraphs(graph)
        folded.run_folding()
    return folded


def _agree(graph: Callable[..., Any], fn: Callable[..., Any], example: tuple[Any, ...]) -> bool:
    expected, got = (_under_noise(f, example) for f in (fn, graph))
    pairs = zip(pytree.tree_leaves(expected), pytree.tree_leaves(got), strict=True)
    return all(_close(a, b) for a, b in pairs)


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal but for rounding: a script may add in another order."""
    rtol, atol = (1e-4, 1e-5) if a.dtype == torch.float32 else (1e-8, 1e-10)
    return torch.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)


def _under_noise(fn: Callable[..., Any], example: tuple[Any, ...]) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return fn(*example)


def scripted(fn: Callable[..., Any], *examples: tuple[Any, ...]) -> Callable[..., Any] | None:
    """The graph of fn as TorchScript, or None where it has none that agrees with fn at every example."""
    graph = graph_of(fn, *examples)
    if graph is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants in the trace are meant; the check below is the judge
        script = torch.jit.trace(graph, examples[0], check_trace=False)
    return script if all(_agree(script, fn, example) for example in examples) else None


def value_and_gradient(fn: Callable[[Tensor], Tensor], *examples: Tensor) -> tuple[Callable[[Tensor], Any], str]:
    """Value () and gradient (dim,) of fn at a point (dim,), as fast as can be had at once, and how: script or eager.

    examples: unlike points at which both must agree with fn as it is, to 1e-8 in float64 and 1e-4 in float32.
    """
    points = [(point,) for point in examples]
    graph = graph_of(fn, *points)
    both = graph and scripted(lambda point: torch.func.grad_and_value(graph)(point)[::-1], *points)
    eager = _eager_gradient(fn)
    if both and all(_agree(both, eager, point) for point in points):
        return both, "script"
    return eager, "eager"


def _eager_gradient(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def both(point: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            value = fn(point)
            return value.detach(), torch.autograd.grad(value, point)[0]

    return both
