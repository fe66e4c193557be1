"""A value so far from all others of its column that it is more likely a slip than a number."""

import math
from collections.abc import Iterator

from torch import Tensor

from ..mapped.tensor import Mapped
from .data import Data

FAR = 100  # times as far from the nearest other value as the others reach from each other
FEWEST = 5  # values: of fewer nothing is known


def outliers(data: Data) -> Iterator[str]:
    """A line for each column of numbers, no codes of categories, that has a lone outlier, and its row, from 0."""
    for name, value in data.named.items():
        table = isinstance(value, Tensor) and value.dim() in (1, 2) and len(value) >= FEWEST
        if table and name not in data.coords and not isinstance(value, Mapped):  # two of a file are not sorted from all
            columns = data.columns or data.tables.get(name, ())
            numbers = value if value.is_floating_point() else value.double()
            yield from _of_table(numbers.reshape(len(value), -1), name, columns)


def _of_table(values: Tensor, name: str, columns: tuple[str, ...]) -> Iterator[str]:
    """The lines for a table (N, D), what is missing left aside."""
    low, high = (values.nan_to_num(nan=sign * math.inf).topk(2, 0, largest=sign < 0) for sign in (1, -1))
    for ends, others in ((high, high.values[1] - low.values[0]), (low, high.values[0] - low.values[1])):
        gaps = (ends.values[0] - ends.values[1]).abs()
        for column in ((others > 0) & (gaps > FAR * others) & gaps.isfinite()).nonzero().flatten().tolist():
            where = f"{name}: column {columns[column]!r}" if column < len(columns) else name
            row, end = int(ends.indices[0, column]), ends.values[0, column].item()
            far = f"{float(gaps[column] / others[column]):.2g} times as far from the others as these from each other"
            yield f"{where}, row {row} is {end:.6g}, {far}: is it a slip?"
