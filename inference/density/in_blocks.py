"""The density of rows that lie in a file: of a program looked at some rows at a time, in a bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import InputError
from ...models.structure import model_name
from ..compilation.batched import over_draws
from ..compilation.graph import graph_of
from ..data.some_rows import HEAD_ROWS, OnRows, SomeRows, head_of
from ..mapped.tensor import Mapped

if TYPE_CHECKING:
    from .log_density import Density

NUMBERS_AT_ONCE = 4_000_000  # in one tensor: 32 MB
MAX_ROWS = 50_000  # of a block


def whole_file(density: Density) -> Mapped | None:
    """The file that all rows of a density lie in; None where they are in memory, or some of them are chosen already."""
    return None if isinstance(density.model, SomeRows) else density.data.mapped


def on_some_rows(density: Density, rows: Tensor) -> Density:
    """The density of the same prior, and of these rows alone. rows: (R,)."""
    found = replace(density, model=SomeRows(density.model, OnRows(density.data.rows or 0, rows, alone=True)))
    found.__dict__["structure"] = density.structure  # sizes aside, the same
    return found


def on_head(density: Density) -> Density:
    """That of the first rows of a file; of all rows in memory the density itself."""
    file = whole_file(density)
    return density if file is None else on_some_rows(density, torch.arange(head_of(len(file))))


def log_joints(density: Density, draws: Mapping[str, Tensor]) -> Tensor:
    """log p(x, theta) at each draw, nats, in one pass over the file: name -> (S, ...) becomes (S,).

    Raises InputError where rows hang together by more than the continuous sites.
    """
    file, structure = whole_file(density), density.structure
    assert file is not None
    assert structure.rows is not None
    for site in structure.discrete:
        if not structure.by_row(site):
            what = f"site {site.name!r} of model {model_name(density.model)} is discrete and shared by all rows"
            raise InputError(f"{what}, which cannot be summed out in blocks: give a sample of rows")
    number = len(next(iter(draws.values())))
    total = over_draws(partial(_prior, density), draws)
    widest = max([2, *(plate.size for plate in structure.plates.values() if plate.name != structure.rows.name)])
    size = min(
        MAX_ROWS, max(HEAD_ROWS, NUMBERS_AT_ONCE // (widest * density.data.row_numel)), -(-len(file) // 2)
    )  # never all
    at_once = max(1, NUMBERS_AT_ONCE // (size * widest * density.data.row_numel))

    def of_rows(draw: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        return on_some_rows(density, rows).log_joint_rows(draw).sum()

    one = lambda i: {name: value[i] for name, value in draws.items()}  # noqa: E731
    with torch.no_grad():
        examples = (one(0), torch.arange(size)), (one(-1), torch.arange(len(file) - size, len(file)))
        graph = graph_of(of_rows, *examples)
        for start in range(0, len(file), size):
            rows = torch.arange(start, min(start + size, len(file)))
            whole = graph is not None and len(rows) == size
            for first in range(0, number, at_once):
                some = {name: value[first : first + at_once] for name, value in draws.items()}
                total[first : first + at_once] += _each(graph if whole else of_rows, some, rows, whole)
            density.data.release()
    return total


def _each(fn: Any, draws: Mapping[str, Tensor], rows: Tensor, traced: bool) -> Tensor:
    """fn(draw, rows) of each draw: (S,)."""
    if traced:
        return torch.func.vmap(fn, in_dims=(0, None))(dict(draws), rows)
    number = len(next(iter(draws.values())))
    return torch.stack([fn({name: value[i] for name, value in draws.items()}, rows) for i in range(number)])


def _prior(density: Density, draw: Mapping[str, Tensor]) -> Tensor:
    """What is no row's: ()."""
    first = on_some_rows(density, torch.zeros(1, dtype=torch.long))
    return first.log_joint(draw) - first.log_joint_rows(draw).sum()
