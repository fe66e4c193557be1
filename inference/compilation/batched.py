"""Call a function once a draw: all at once by `vmap` where torch can, one by one where it cannot."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .graph import Graph, graph_of


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
        mapped = _vmapped(graph, draws, randomness="different" if samples else "error", chunk_size=chunk)
        if mapped is not None:
            return mapped
        results = [(graph or fn)(one(i)) for i in range(number)]
    return pytree.tree_map(lambda *parts: torch.stack(parts), *results)


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
