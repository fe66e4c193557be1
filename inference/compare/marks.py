"""What the eye should catch in a table: verdicts, what is best within its error, what is beyond a threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

from ...display.table import Mark, Table, mark, table_of
from ..fit.convergence import ESS_PER_CHAIN, RHAT
from .columns import COLUMNS, DECIMALS, ROW_COLUMNS
from .verdict import DOUBTED, GOOD_BIAS, GOOD_KHAT, GOOD_RATIO, MEANS, POINT, SURE, TRUSTED, UNTRAINED

SAYS = {column.name: column.says for column in (*ROW_COLUMNS, *COLUMNS)}
TONES: dict[str, Mark] = {TRUSTED: "good", MEANS: "partly", DOUBTED: "bad", UNTRAINED: "bad", POINT: ""}


class Contest(NamedTuple):
    """Who is best: the most (sign 1) or the least (-1); error: the column of the figure's error."""

    sign: int
    error: str


CONTESTS = {
    "elbo": Contest(1, "elbo_se"),
    "log_p_test": Contest(1, "log_p_test_se"),
    "lpd_test": Contest(1, "lpd_test_se"),
    "bias": Contest(-1, "mc_error"),
    "gap": Contest(-1, "gap_se"),
}
_LOW, _HIGH = GOOD_RATIO
_OFF = f"the spread is off by more than {_LOW} to {_HIGH} times"
DOUBTS: dict[str, tuple[Callable[[float], bool], str]] = {
    "khat": (lambda k: k > GOOD_KHAT, f"above {GOOD_KHAT}: these weights correct nothing"),
    "bias": (lambda bias: bias > GOOD_BIAS, f"above {GOOD_BIAS} sd: this mean is wrong"),
    "sd_ratio": (lambda ratio: not _LOW <= ratio <= _HIGH, _OFF),
    "sd_ratio_max": (lambda ratio: not _LOW <= ratio <= _HIGH, _OFF),
    "rhat": (lambda rhat: rhat > RHAT, f"above {RHAT}: the chains do not agree"),
    "divergences": (lambda number: number > 0, "the chains left out a part of the posterior"),
}


def marked(table: pd.DataFrame, chains: Mapping[str, int], astray: str | None = None) -> Table:
    """The table of a comparison, rounded and marked.

    chains: of each fit, for its effective sample size. astray: a reference that did not converge.
    """
    best = {name: _best(table, name, contest) for name, contest in CONTESTS.items() if name in table}

    def found(row: str, column: str) -> tuple[Mark, str] | None:
        value = by_name.at[row, column]
        if column == "verdict":
            return (TONES.get(value, ""), "") if isinstance(value, str) else None
        if column == "estimator":
            return ("doubtful", "it is no reference") if row == astray else None
        if pd.isna(value):
            return None
        if astray is not None and column in ("bias", "sd_ratio", "sd_ratio_max"):
            return "doubtful", "the reference did not converge"
        if column == "ess_bulk" and value < ESS_PER_CHAIN * chains.get(row, 1):
            return "doubtful", f"below {ESS_PER_CHAIN} a chain: too few"
        if column in DOUBTS and DOUBTS[column][0](value):
            return "doubtful", DOUBTS[column][1]
        return ("best", "the best, within its error") if row in best.get(column, ()) else None

    by_name = table.set_axis([str(name) for name in table.index])
    return mark(table_of(table, DECIMALS, SAYS), found)


def _best(table: pd.DataFrame, name: str, contest: Contest) -> set[str]:
    """Who cannot be told from the best by their errors, or as printed; nobody where that is everybody.

    A point has no spread: its bound, where it has one, is no bound like the others'.
    """
    values = table[name][table["verdict"] != POINT].dropna() if "verdict" in table else table[name].dropna()
    if len(values) < 2:
        return set()
    signed = contest.sign * values
    first, printed = signed.idxmax(), 10.0 ** -DECIMALS[name]
    errors = table[contest.error].reindex(values.index).fillna(0.0) if contest.error in table else 0.0 * values
    slack = SURE * (errors**2 + errors[first] ** 2) ** 0.5
    alike = values.index[signed[first] - signed <= slack.clip(lower=printed / 2)]
    return set() if len(alike) == len(values) else {str(each) for each in alike}
