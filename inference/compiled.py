"""The same functions, traced once into a plain graph of tensor operations: Pyro's handlers run only while tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

__all__ = ["graph_of"]


def graph_of(fn: Callable[..., Any], *examples: tuple[Any, ...], samples: bool = False) -> Callable[..., Any] | None:
    """The graph of fn, or None where it has none that can be trusted.

    A graph holds whatever branch fn took at the first example, so it is held to fn at every example, under the same
    noise. examples: argument tuples, two or more unlike ones. samples: whether fn draws random numbers; where it does
    not, the graph is made free of in-place operations, which `vmap` and compilers prefer. (Where it does it is not:
    `vmap` would give every draw the noise of the first.)
    """
    plain = lambda *args: fn(*args)  # noqa: E731 - make_fx miscounts the arguments of bound methods
    try:
        graph = make_fx(plain if samples else torch.func.functionalize(plain))(*examples[0])
    except Exception:  # torch raises many classes for "cannot trace this"; eager meets any real error again
        return None
    return graph if all(_agree(graph, fn, example) for example in examples) else None


def _agree(graph: Callable[..., Any], fn: Callable[..., Any], example: tuple[Any, ...]) -> bool:
    expected, got = (_under_noise(f, example) for f in (fn, graph))
    pairs = zip(pytree.tree_leaves(expected), pytree.tree_leaves(got), strict=True)
    return all(torch.allclose(a, b, rtol=1e-8, atol=1e-10, equal_nan=True) for a, b in pairs)


def _under_noise(fn: Callable[..., Any], example: tuple[Any, ...]) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return fn(*example)
