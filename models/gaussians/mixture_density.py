"""The log density of a Gaussian mixture on many rows, and its gradient, in memory that does not grow with the features.

An operation of its own, so that a graph takes it as one: how it sums, by features or by component, is chosen by the
values that each call brings, and no graph could hold that choice. Differentiable once, in the parameters.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .sufficient import ByFeatures, Components, Kernel, Tally, Units, kernel_of

__all__ = ["FEATURES_HELD", "mixture_log_density"]

FEATURES_HELD = 1_000_000  # numbers: up to here phi is held for all rows, beyond it is made again for some at a time
CHUNK = 400_000  # numbers made at a time, to stay within a processor's cache


@torch.library.custom_op("pyrometer::mixture_log_density", mutates_args=())
def mixture_log_density(
    x: Tensor, phi: Tensor, loc: Tensor, scale: Tensor, offsets: Tensor, locs: Tensor, whiteners: Tensor, ahead: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log sum_k exp(offset_k - |whitener_k (x_n - loc_k)|^2 / 2) of each row, (N,).

    And, where `ahead` is set, the gradient of their sum by offsets, locs and whiteners, else zeros: it is what is
    mostly asked for next, and costs less while the features are at hand.

    x: (N, D). phi: its features in the units loc, scale (D,) each, (F, N); (F, 0) where they are to be made here.
    offsets: (K,). locs: (K, D). whiteners: (K, D, D).
    """
    components = Components(offsets, locs, whiteners)
    kernel, total = kernel_of(components, Units(loc, scale)), x.new_empty(len(x))
    tallies = []
    for rows, place in _chunks(kernel, x, phi):
        terms = kernel.terms(rows)
        highest, shares = terms.amax(0), torch.softmax(terms, 0)
        most = shares.amax(0)  # exp(highest - total)
        total[place] = torch.where(highest.isfinite(), highest - most.log(), highest)
        if ahead:
            tallies.append(kernel.tally(rows, shares))
    gradient = _of_tallies(kernel, components, tallies) if ahead else (torch.zeros_like(each) for each in components)
    return total, *gradient


@torch.library.custom_op("pyrometer::mixture_log_density_backward", mutates_args=())
def _backward(
    weights: Tensor,
    x: Tensor,
    phi: Tensor,
    loc: Tensor,
    scale: Tensor,
    offsets: Tensor,
    locs: Tensor,
    whiteners: Tensor,
    ahead: bool,
    by_offsets: Tensor,
    by_locs: Tensor,
    by_whiteners: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """sum_n weight_n times the gradient of row n by offsets (K,), locs (K, D), whiteners (K, D, D).

    weights: (N,). by_*: that gradient with all weights one, where it was found ahead.
    """
    if ahead and weights.amin() == weights.amax():
        return weights[0] * by_offsets, weights[0] * by_locs, weights[0] * by_whiteners
    components = Components(offsets, locs, whiteners)
    kernel = kernel_of(components, Units(loc, scale))
    chunks = _chunks(kernel, x, phi)
    tallies = [kernel.tally(rows, torch.softmax(kernel.terms(rows), 0) * weights[place]) for rows, place in chunks]
    return _of_tallies(kernel, components, tallies)


def _of_tallies(kernel: Kernel, components: Components, tallies: list[Tally]) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient by offsets, locs and whiteners that the weighted moments of all chunks add up to."""
    counts, first, second = (torch.stack(part).sum(0) for part in zip(*tallies, strict=True))
    if isinstance(kernel, ByFeatures):
        first, second = kernel.about(components.locs, counts, first, second)
    whiteners = components.whiteners
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


@mixture_log_density.register_fake
def _(x: Tensor, _phi: Tensor, _loc: Tensor, _scale: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return x.new_empty(len(x)), *_like(inputs[:3])


@_backward.register_fake
def _(_weights: Tensor, _x: Tensor, _phi: Tensor, _loc: Tensor, _scale: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return _like(inputs[:3])


def _like(components: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(value.new_empty(value.shape) for value in components)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.ahead = inputs
    ctx.save_for_backward(*tensors, *output[1:])


def _gradient(ctx: Any, of_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    inputs, ahead = ctx.saved_tensors[:-3], ctx.saved_tensors[-3:]
    return None, None, None, None, *_backward(of_total, *inputs, ctx.ahead, *ahead), None


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
