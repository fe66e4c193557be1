"""A value so far from all others of its column that it is more likely a slip than a number."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .data import Data

FAR = 100  # times as far from the nearest other value as the others reach from each other
FEWEST = 5  # values: of fewer nothing is known


def outliers(data: Data) -> Iterator[str]:
    """A line for each column of floating numbers that has a lone outlier, naming its row, counted from 0."""
    for name, value in data.named.items():
        if not (isinstance(value, Tensor) and value.is_floating_point() and value.dim() in (1, 2)):
            continue
        columns = data.columns or data.tables.get(name, ())
        for place, column in enumerate(value.reshape(len(value), -1).T):
            called = f"{name}: column {columns[place]!r}" if place < len(columns) else name
            yield from _lone(column, called)


def _lone(column: Tensor, name: str) -> Iterator[str]:
    """The line for one column, (N,), where there is one to say."""
    finite = column[column.isfinite()].sort().values
    if len(finite) < FEWEST:
        return
    for end, nearest, others in (
        (finite[-1], finite[-2], finite[-2] - finite[0]),
        (finite[0], finite[1], finite[-1] - finite[1]),
    ):
        gap = (end - nearest).abs()
        if others > 0 and gap > FAR * others:
            row = int(torch.nonzero(column == end)[0])
            far = f"{float(gap / others):.2g} times as far from the others as these are from each other"
            yield f"{name}, row {row} is {end.item():.6g}, {far}: is it a slip?"
