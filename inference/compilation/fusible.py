"""Graphs that a compiler can do more with: small products spelt out, and nothing computed again along a dimension."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter
from torch.utils import _pytree as pytree

from .graph import operations

MAX_MULTIPLICATIONS = 50_000  # of a matrix product that is spelt out
MAX_SPELT_OUT = 32  # entries of a running total, and of the dimension that a product sums over

aten = torch.ops.aten
VIEWS = (aten.view.default, aten._unsafe_view.default)  # which ask how their tensor lies
REDUCTIONS = (aten.sum.dim_IntList, aten.prod.dim_int, aten.amax.default, aten.amin.default)


def fusible(module: GraphModule, inputs: Sequence[Tensor]) -> GraphModule:
    """The module with its small products and running totals as elementwise operations and sums, to be fused.

    Inductor hands these to library calls, which on a few numbers cost more than all the rest of a density.
    """
    return operations(module, inputs, SPELT_OUT)


def _product(left: Tensor, right: Tensor) -> Tensor:
    inner = left.shape[-1]
    if inner > MAX_SPELT_OUT or left.numel() * right.shape[-1] > MAX_MULTIPLICATIONS:
        return NotImplemented
    return sum(left[..., i, None] * right[..., i, None, :] for i in range(inner))  # type: ignore[return-value]


def _running(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def total(x: Tensor, dim: int, **options: Any) -> Tensor:
        if x.dim() == 0 or x.shape[dim] > MAX_SPELT_OUT:
            return NotImplemented
        x = x.to(options.get("dtype") or (x.dtype if x.is_floating_point() else torch.int64))
        return torch.stack([*accumulate(x.unbind(dim), combine)], dim) if x.shape[dim] else x

    return total


SPELT_OUT: dict[Any, Callable[..., Any]] = {
    aten.bmm.default: _product,
    aten.mm.default: _product,
    aten.cumsum.default: _running(torch.add),
    aten.cumprod.default: _running(torch.mul),
}


def once(module: GraphModule, inputs: Sequence[Tensor]) -> GraphModule:
    """The module with what is alike along a dimension computed once: a component's log weight, say, not a row's.

    Such a dimension comes of an `expand`, of whose tensor torch would then write out each number again.
    """
    if any(node.target is aten.as_strided.default for node in module.graph.nodes):  # which counts on how tensors lie
        return module
    return operations(lambda *tensors: [result.contiguous() for result in _Once(module).run(*tensors)], inputs)


class _Once(Interpreter):
    """Runs elementwise operations and reductions on the first of what is alike, and expands their results."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        target = aten.reshape.default if target in VIEWS else target
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        reduces = target in REDUCTIONS
        if not tensors or not (reduces or torch.Tag.pointwise in getattr(target, "tags", ())):
            return super().call_function(target, args, kwargs)
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
        dims = range(-len(shape), 0)
        if target is aten.div.Tensor and isinstance(args[1], Tensor) and _distinct(args[1]) < _distinct(args[0]):
            inverse = self.call_function(aten.reciprocal.default, args[1:], {})  # few, for what are many
            return self.call_function(aten.mul.Tensor, (args[0], inverse), {})
        over = {dim % len(shape) - len(shape) for dim in pytree.tree_leaves(args[1]) or dims} if reduces else set()
        alike = {d for d in dims if d not in over and shape[d] > 1 and all(_alike(each, d) for each in tensors)}
        if not alike:
            return super().call_function(target, args, kwargs)
        args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: _first(tensor, alike), (args, kwargs))
        keeps = not reduces or (len(args) > 2 and args[2])
        ends = [1 if d in over else shape[d] for d in dims if keeps or d not in over]
        return super().call_function(target, args, kwargs).expand(ends)


def _distinct(tensor: Tensor) -> int:
    """How many numbers a tensor holds in memory."""
    return prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)


def _alike(tensor: Tensor, dim: int) -> bool:
    """Whether a tensor that is broadcast is the same all along that dimension, counted from the last."""
    return tensor.dim() < -dim or tensor.shape[dim] == 1 or tensor.stride(dim) == 0


def _first(tensor: Tensor, dims: set[int]) -> Tensor:
    for dim in dims:
        tensor = tensor if tensor.dim() < -dim else tensor.narrow(dim, 0, 1)
    return tensor
