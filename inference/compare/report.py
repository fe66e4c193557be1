"""The table as text."""

from __future__ import annotations

import pandas as pd

from .columns import COLUMNS, ROW_COLUMNS

__all__ = ["as_text"]

DECIMALS = {column.name: column.decimals for column in (*ROW_COLUMNS, *COLUMNS)}
DECIMALS |= {"nats": 3, "se": 3, "log_bias": 3, "ess": 0, "draws": 0, "log_weight_sd": 2}  # of the marginal likelihood


def as_text(table: pd.DataFrame) -> str:
    """The table with each column at its own precision, and a dash where it does not apply."""
    shown = {
        column: [
            value if isinstance(value, str) else _number(value, DECIMALS.get(column, 3)) for value in table[column]
        ]
        for column in table.columns
    }
    return pd.DataFrame(shown, index=table.index).to_string()


def _number(value: float, decimals: int) -> str:
    return "-" if pd.isna(value) else f"{value:.{decimals}f}"
