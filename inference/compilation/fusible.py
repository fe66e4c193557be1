"""Small products and running totals spelt out, so that a compiler fuses them with what stands around them.

Inductor hands these to library calls, which on a few numbers cost more than all the rest of a density.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

__all__ = ["fusible"]

SMALL_PRODUCT = 50_000  # multiplications of a matrix product
SHORT = 32  # entries of a running total, and of the dimension that a product sums over

aten = torch.ops.aten


def fusible(module: GraphModule, inputs: Sequence[Tensor]) -> GraphModule:
    """The module with its small products and running totals as elementwise operations and sums."""
    return make_fx(module, decomposition_table=SPELT_OUT)(*inputs)


def _product(left: Tensor, right: Tensor) -> Tensor:
    inner = left.shape[-1]
    if inner > SHORT or left.numel() * right.shape[-1] > SMALL_PRODUCT:
        return NotImplemented
    return sum(left[..., i, None] * right[..., i, None, :] for i in range(inner))  # type: ignore[return-value]


def _running(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def total(x: Tensor, dim: int, **options: Any) -> Tensor:
        if x.dim() == 0 or x.shape[dim] > SHORT or x.dtype == torch.bool or options.get("dtype") not in (None, x.dtype):
            return NotImplemented
        parts = list(x.unbind(dim))
        for i in range(1, len(parts)):
            parts[i] = combine(parts[i - 1], parts[i])
        return torch.stack(parts, dim)

    return total


SPELT_OUT: dict[Any, Callable[..., Any]] = {
    aten.bmm.default: _product,
    aten.mm.default: _product,
    aten.cumsum.default: _running(torch.add),
    aten.cumprod.default: _running(torch.mul),
}
