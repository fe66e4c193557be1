"""Text in a CSV file that a spreadsheet would run: made inert on the way out, and itself again on the way in."""

import re
from collections.abc import Callable
from typing import Any

from pandas import DataFrame, Index

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how OWASP's "CSV injection" begins, or one that was made inert


def inert(value: Any) -> Any:
    """A text that begins like a formula with an apostrophe before it, anything else as it is."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def as_it_was(value: Any) -> Any:
    """What `inert` was given."""
    return value[1:] if isinstance(value, str) and value.startswith("'") and FORMULA.match(value) else value


def every_text(frame: DataFrame, change: Callable[[Any], Any]) -> DataFrame:
    """A table with `change` of every entry and of every label of its rows."""
    changed = frame.map(change)
    if frame.index.nlevels > 1:
        return changed.set_axis(frame.index.map(lambda labels: tuple(map(change, labels))))
    return changed.set_axis(Index([change(label) for label in frame.index], name=frame.index.name))
