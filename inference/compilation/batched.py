"""Call a function once a draw: in C where that pays, else all at once by `vmap`, one by one where torch cannot."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .compiled import compiled
from .graph import Graph, changed, graph_of
from .native import Native

MIN_NUMBERS_FOR_NATIVE = 2_000_000  # results of all draws: half a second's work of `vmap`, a second's of a compiler


def over_draws(
    fn: Callable[[dict[str, Tensor]], Any],
    draws: Mapping[str, Tensor],
    chunk: int | None = None,
    samples: bool = False,
) -> Any:
    """fn of each draw, stacked. draws: name -> (S, ...).

    chunk: at most so many draws at once, to bound memory. samples: whether fn draws random numbers; each draw then has
    noise of its own.
    """
    draws = dict(draws)
    number = len(next(iter(draws.values())))
    one = lambda i: {name: value[i] for name, value in draws.items()}  # noqa: E731
    with torch.no_grad():
        graph = graph_of(fn, (one(0),), (one(-1),), samples=samples)
        if graph and not samples and (found := _native(fn, draws, graph(one(0)))) is not None:
            return found
        mapped = _vmapped(graph, draws, randomness="different" if samples else "error", chunk_size=chunk)
        if mapped is not None:
            return mapped
        results = [(graph or fn)(one(i)) for i in range(number)]
    return pytree.tree_map(lambda *parts: torch.stack(parts), *results)


def _native(fn: Callable[..., Any], draws: dict[str, Tensor], example: Any) -> Tensor | None:
    """fn of each draw, found in C; None where it gives no tensor, or too little for that to pay, or cannot be."""
    number, kinds = len(next(iter(draws.values()))), {(value.dtype, value.device.type) for value in draws.values()}
    if not isinstance(example, Tensor) or number * example.numel() < MIN_NUMBERS_FOR_NATIVE:
        return None
    if kinds != {(torch.float64, "cpu")}:  # networks, which are of float32, gain nothing
        return None
    points = torch.cat([value.reshape(number, -1) for value in draws.values()], 1)
    layout = tuple((name, value.shape[1:]) for name, value in draws.items())
    made, _ = compiled(changed(fn, _of_one_vector, layout), points[0], points[-1], tiers=("native",))
    return made.many(points)[0] if isinstance(made, Native) else None


def _of_one_vector(fn: Callable[..., Any], layout: tuple[tuple[str, torch.Size], ...]) -> Callable[[Tensor], Any]:
    def of(point: Tensor) -> Any:
        parts = point.split([shape.numel() for _, shape in layout])
        return fn({name: part.reshape(shape) for part, (name, shape) in zip(parts, layout, strict=True)})

    return of


def _vmapped(graph: Graph | None, values: Any, **options: Any) -> Any:
    """A graph of each of values, stacked; None where there is none, or it has an operation without a batching rule."""
    if graph is None:
        return None
    # Without torch's note, once a process, that an operation is batched by a loop of its own.
    torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]
    try:
        return torch.func.vmap(graph, **options)(values)
    except RuntimeError:
        return None
    finally:
        torch._C._functorch._set_vmap_fallback_warning_enabled(True)  # type: ignore[attr-defined]


def repeated(fn: Callable[[], Any], number: int, chunk: int | None = None) -> Any:
    """fn called `number` times, each with its own noise, stacked."""
    return over_draws(lambda _: fn(), {"draw": torch.arange(number)}, chunk, samples=True)


def batched(fn: Callable[[Tensor], Tensor], dims: int) -> Callable[[Tensor], Tensor]:
    """fn of a tensor of so many dims, over any leading dims; gradients flow. It is traced at the first call."""
    traced = False
    graph: Graph | None = None

    def over(values: Tensor) -> Tensor:
        nonlocal traced, graph
        if values.dim() == dims:
            return fn(values)
        lead, flat = values.shape[:-dims], values.flatten(0, -dims - 1)
        if not traced:
            example = flat[0].detach()
            traced, graph = True, graph_of(fn, (example,), (0.5 * example + 0.1,))
        mapped = _vmapped(graph, flat)
        if mapped is None:
            graph = None  # asked no more
            mapped = torch.stack([fn(value) for value in flat])
        return mapped.unflatten(0, lead)

    return over
