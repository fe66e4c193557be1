"""Small products and running totals as elementwise operations and sums, which a compiler can fuse with the rest."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

MAX_MULTIPLICATIONS = 50_000  # of a matrix product that is spelt out
MAX_SPELT_OUT = 32  # entries of a running total, and of the dimension that a product sums over

aten = torch.ops.aten


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
