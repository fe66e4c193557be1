"""What torch's functions give for rows in a file: what is known of all rows, and the same rows otherwise laid out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Size, Tensor

if TYPE_CHECKING:
    from .columns import Columns
    from .tensor import Mapped


def _reduction(name: str) -> Callable[..., Any]:
    """A mean, say, over all rows or over all numbers, from what is known of the columns."""

    def reduced(x: Mapped, *args: Any, **options: Any) -> Tensor:
        over, correction = _asked(x, *args, **options)
        every = over == {*range(x.dim())}
        if not (every or over == {0}) or (name in ("min", "max") and (args or options)):
            raise x.refused(f"{name} of x")
        known = x.known.pooled(len(x)) if every else x.known
        found = _figure(name, known, len(x), x.known.mean.numel() if every else 1, correction)
        like = getattr(torch.empty(x.shape, dtype=x.dtype, device="meta"), name)(*args, **options)
        return found.to(device=x.device, dtype=like.dtype, copy=True).reshape(like.shape)

    return reduced


def _asked(
    x: Mapped, dim: Any = None, unbiased: Any = True, *_: Any, axis: Any = None, correction: Any = None, **__: Any
) -> tuple[set[int], float]:
    """The dims that a function of torch's is asked to reduce, and the correction of a variance; None is the usual 1.

    What may stand where a variance has `unbiased` is no matter to other functions.
    """
    if isinstance(dim, bool):  # of a variance over all numbers
        dim, unbiased = None, dim
    dim = axis if dim is None else dim
    dims = dim if isinstance(dim, tuple | list) else () if dim is None else (dim,)
    if not all(isinstance(one, int) for one in dims):
        return set(), 0.0
    correction = int(bool(unbiased)) if correction is None else correction
    return {one % x.dim() for one in dims} or {*range(x.dim())}, correction


def _figure(name: str, known: Columns, rows: int, entries: int, correction: float) -> Tensor:
    """What is asked of rows * entries numbers, from what is known of them; correction: less in a variance's divisor."""
    if name in ("min", "amin"):
        return known.low
    if name in ("max", "amax"):
        return known.high
    if name == "mean":
        return known.mean
    if name == "sum":
        return known.mean * rows * entries
    variance = known.scatter / (rows * entries - correction)
    return variance.sqrt() if name == "std" else variance


def _to(x: Mapped, *args: Any, **options: Any) -> Mapped:
    found = x.like.to(*args, **options)  # whose dtype and device are asked of another Mapped as of any tensor
    return x.changed(dtype=found.dtype, device=found.device)


def _reshaped(x: Mapped, shape: Size) -> Mapped:
    """The same rows, each of another shape."""
    if shape[:1] != (len(x),):
        raise x.refused("another shape of x")
    return x.changed(row=Size(shape[1:]))


def _shaped(name: str) -> Callable[..., Mapped]:
    """reshape or flatten, say, of rows: its shape is that of an empty view, of one number expanded."""

    def shaped(x: Mapped, *args: Any, **options: Any) -> Mapped:
        return _reshaped(x, getattr(torch.empty(x.shape, device="meta"), name)(*args, **options).shape)

    return shaped


def _refusal(name: str) -> Callable[..., Any]:
    def refused(x: Mapped, *_: Any, **__: Any) -> Any:
        raise x.refused(f"{name} of x")

    return refused


def _new(name: str) -> Callable[..., Tensor]:
    return lambda x, *args, **options: getattr(x.like, name)(*args, **options)


LIKE = ("to", "type_as")  # a plain tensor is brought to the dtype and device of rows in a file
HANDLED: dict[str, Callable[..., Any]] = {
    **{name: _reduction(name) for name in ("mean", "sum", "var", "std", "amin", "amax", "min", "max")},
    **{name: _new(name) for name in ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")},
    **{name: _shaped(name) for name in ("reshape", "view", "flatten", "unsqueeze", "squeeze")},
    **dict.fromkeys(("detach", "contiguous", "requires_grad_"), lambda x, *_, **__: x),
    **{name: _refusal(name) for name in ("numpy", "tolist", "item", "__array__", "__iter__", "storage")},
    "__getitem__": lambda x, index: x.gathered(index),
    "index_select": lambda x, dim, index: x[index] if dim == 0 else _refusal("index_select")(x),
    "to": _to,
    "cpu": lambda x: x.changed(device=torch.device("cpu")),
    "cuda": lambda x, *_, **__: x.changed(device=torch.device("cuda")),
    "double": lambda x: x.changed(dtype=torch.float64),
    "float": lambda x: x.changed(dtype=torch.float32),
    "type_as": lambda x, other: _to(x, other),
    "clone": lambda x, **_: x,
}
