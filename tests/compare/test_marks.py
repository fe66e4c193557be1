"""What is best is told from its rivals by its error; what is doubtful is beyond a threshold that the verdict has."""

import numpy as np
import pandas as pd
import pytest
from pyrometer.inference.compare.marks import marked

NAN = np.nan


def table_with(**columns: list) -> pd.DataFrame:
    number = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=list("abcdef"[:number]))


def marks(table: pd.DataFrame, column: str, chains: int = 4, astray: str | None = None) -> list[str]:
    return [row[column].mark for row in marked(table, dict.fromkeys(table.index, chains), astray).rows.values()]


def test_the_best_are_those_that_errors_cannot_tell_apart() -> None:
    elbos = table_with(elbo=[-10.00, -10.05, -10.50, NAN], elbo_se=[0.02, 0.02, 0.02, NAN])
    assert marks(elbos, "elbo") == ["best", "best", "", ""]
    apart = table_with(elbo=[-10.00, -10.05, -10.50], elbo_se=[0.01, 0.01, 0.01])
    assert marks(apart, "elbo") == ["best", "", ""]
    lpd = table_with(lpd_test=[-1.001, -1.004, -2.0], lpd_test_se=[0.0, 0.0, 0.0])
    assert marks(lpd, "lpd_test") == ["best", "best", ""]  # alike as printed
    assert marks(table_with(bias=[0.10, 0.13, 0.24], mc_error=[0.03, 0.03, 0.03]), "bias") == ["best", "best", ""]


def test_where_all_are_best_nobody_is_marked() -> None:
    assert marks(table_with(elbo=[-10.0, -10.0]), "elbo") == ["", ""]
    assert marks(table_with(elbo=[-10.0, NAN]), "elbo") == ["", ""]


def test_a_point_does_not_compete_for_the_bound() -> None:
    table = table_with(elbo=[-5.0, -10.0, -11.0], verdict=["point", "means", "means"])
    assert marks(table, "elbo") == ["", "best", ""]


@pytest.mark.parametrize(
    ("column", "good", "doubtful"),
    [
        ("khat", 0.69, 0.71),
        ("bias", 0.24, 0.26),
        ("sd_ratio", 0.81, 0.79),
        ("sd_ratio_max", 1.24, 1.26),
        ("rhat", 1.009, 1.011),
        ("ess_bulk", 401.0, 399.0),
        ("divergences", 0.0, 1.0),
    ],
)
def test_beyond_a_threshold_is_doubtful(column: str, good: float, doubtful: float) -> None:
    first, second, third = marks(table_with(**{column: [good, doubtful, NAN]}), column)
    assert first != "doubtful"
    assert (second, third) == ("doubtful", "")


def test_the_threshold_of_an_effective_sample_size_goes_with_the_chains() -> None:
    assert marks(table_with(ess_bulk=[199.0, 201.0]), "ess_bulk", chains=2) == ["doubtful", ""]


def test_nothing_held_to_a_reference_that_did_not_converge_is_believed() -> None:
    table = table_with(estimator=["NUTS", "Trace_ELBO"], bias=[NAN, 0.01], sd_ratio=[NAN, 1.0])
    assert marks(table, "estimator", astray="a") == ["doubtful", ""]
    assert marks(table, "bias", astray="a") == marks(table, "sd_ratio", astray="a") == ["", "doubtful"]
    assert marks(table, "estimator") == marks(table, "bias") == marks(table, "sd_ratio") == ["", ""]


def test_every_verdict_has_its_colour() -> None:
    words = ["means and spreads", "means", "not to be trusted", "not trained", "point"]
    assert marks(table_with(verdict=words), "verdict") == ["good", "partly", "bad", "bad", ""]
