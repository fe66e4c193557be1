"""The log density of a Gaussian mixture on many rows, and its gradient, in memory that does not grow with the features.

An operation of its own, so that a graph takes it as one: how it sums, by features or by component, is chosen by the
values that each call brings, and no graph could hold that choice. Differentiable once, in the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .sufficient import ByComponent, ByFeatures, Components, Kernel, Units, kernel_of

__all__ = ["FEATURES_HELD", "mixture_log_density"]

FEATURES_HELD = 1_000_000  # numbers: up to here phi is held for all rows, beyond it is made again for some at a time
CHUNK = 400_000  # numbers made at a time, to stay within a processor's cache


@torch.library.custom_op("pyrometer::mixture_log_density", mutates_args=())
def mixture_log_density(
    x: Tensor, phi: Tensor, loc: Tensor, scale: Tensor, offsets: Tensor, locs: Tensor, whiteners: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log sum_k exp(offset_k - |whitener_k (x_n - loc_k)|^2 / 2) of each row, (N,), and the softmax, (K N,).

    The softmax lies there chunk by chunk, (K, n) each. And whether it was summed by features, ().

    x: (N, D). phi: its features in the units loc, scale (D,) each, (F, N); (F, 0) where they are to be made here.
    offsets: (K,). locs: (K, D). whiteners: (K, D, D).
    """
    kernel = kernel_of(Components(offsets, locs, whiteners), Units(loc, scale))
    total, shares = x.new_empty(len(x)), x.new_empty(len(offsets) * len(x))
    for rows, place in _chunks(kernel, x, phi):
        terms = kernel.terms(rows)
        highest, share = terms.amax(0), _block(shares, len(offsets), place)
        torch.softmax(terms, 0, out=share)
        most = share.amax(0)  # exp(highest - total)
        total[place] = torch.where(highest.isfinite(), highest - most.log(), highest)
    return total, shares, torch.tensor(isinstance(kernel, ByFeatures))


@torch.library.custom_op("pyrometer::mixture_log_density_backward", mutates_args=())
def _backward(
    weights: Tensor,
    shares: Tensor,
    by_features: Tensor,
    x: Tensor,
    phi: Tensor,
    loc: Tensor,
    scale: Tensor,
    offsets: Tensor,
    locs: Tensor,
    whiteners: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """sum_n weight_n times the gradient of row n by offsets (K,), locs (K, D), whiteners (K, D, D). weights: (N,)."""
    kernel = (
        ByFeatures(offsets, Units(loc, scale)) if by_features else ByComponent(Components(offsets, locs, whiteners))
    )
    parts = [
        kernel.tally(rows, _block(shares, len(offsets), place) * weights[place])
        for rows, place in _chunks(kernel, x, phi)
    ]
    counts, first, second = (torch.stack(part).sum(0) for part in zip(*parts, strict=True))
    if isinstance(kernel, ByFeatures):
        first, second = kernel.about(locs, counts, first, second)
    by_locs = (whiteners.mT @ (whiteners @ first.unsqueeze(-1))).squeeze(-1)
    return counts, by_locs.contiguous(), (-(whiteners @ second)).contiguous()


def _chunks(kernel: Kernel, x: Tensor, phi: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """What the kernel takes for some rows at a time, and which rows."""
    if isinstance(kernel, ByFeatures) and phi.shape[1]:
        yield phi, slice(0, len(x))
        return
    size = max(1, CHUNK // kernel.width)
    out = x.new_empty(kernel.width * size)
    for start in range(0, len(x), size):
        place = slice(start, min(start + size, len(x)))
        yield kernel.rows(x[place], out), place


def _block(shares: Tensor, k: int, place: slice) -> Tensor:
    """The softmax of some rows: (K, n)."""
    return shares[k * place.start : k * place.stop].view(k, -1)


@mixture_log_density.register_fake
def _(x: Tensor, phi: Tensor, loc: Tensor, scale: Tensor, offsets: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
    return x.new_empty(len(x)), x.new_empty(len(offsets) * len(x)), x.new_empty((), dtype=torch.bool)


@_backward.register_fake
def _(weights: Tensor, shares: Tensor, by_features: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    offsets, locs, whiteners = (value.new_empty(value.shape) for value in inputs[-3:])
    return offsets, locs, whiteners


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:], *inputs)


def _gradient(ctx: Any, of_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    return None, None, None, None, *_backward(of_total, *ctx.saved_tensors)


mixture_log_density.register_autograd(_gradient, setup_context=_keep)


def _one_by_one(operation: Any) -> Any:
    """The operation over draws, one after another: each is large enough."""

    def over_draws(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Any, Any]:
        of = lambda i: [v if d is None else v.select(d, i) for v, d in zip(inputs, in_dims, strict=True)]  # noqa: E731
        results = [operation(*of(i)) for i in range(info.batch_size)]
        return tuple(torch.stack(part) for part in zip(*results, strict=True)), (0,) * len(results[0])

    return over_draws


mixture_log_density.register_vmap(_one_by_one(mixture_log_density))
_backward.register_vmap(_one_by_one(_backward))
