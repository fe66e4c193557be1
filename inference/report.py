"""The table as text."""

from __future__ import annotations

import pandas as pd

__all__ = ["as_text"]

DECIMALS = {"elbo": 2, "elbo_se": 2, "log_evidence": 2, "khat": 2, "lpd_test": 2, "lpd_test_se": 2, "bias": 2}
DECIMALS |= {"elbo_test": 2, "log_p_test": 2, "log_p_test_se": 3, "gap": 3, "gap_se": 3, "active": 0}
DECIMALS |= {"ess": 0, "draws": 0, "log_weight_sd": 2}
DECIMALS |= {"sd_ratio": 2, "rhat": 3, "ess_bulk": 0, "divergences": 0, "steps": 0, "seconds": 1}


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
