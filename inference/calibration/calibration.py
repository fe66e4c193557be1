"""Calibration: the ranks of truths among posterior draws, what tests make of them, and their picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame
from scipy import stats

from ...display.table import Mark, as_html, as_text, mark, table_of
from ..compare.columns import DECIMALS
from .plot import plot_calibration

ALPHA = 0.05  # the chance that a right method fails, all scalars and both tests together
BINS, MIN_BINS, MIN_EXPECTED = 20, 10, 5  # of the chi-square test: at most, at least, and the ranks expected in one
MIN_SIMULATIONS = MIN_BINS * MIN_EXPECTED
MIN_ENDED = MIN_SIMULATIONS // 2  # as some of them may fail
TONES: dict[str, Mark] = {"uniform": "good", "too few simulations": "partly"}
PLAIN = 3.0  # standard errors beyond which a verdict names a bias or an sd


@dataclass(frozen=True, eq=False)
class Calibration:
    """Simulation-based calibration of one method on one model.

    Attributes
    ----------
    method, model : what they are called.
    ranks : of the true value among `draws` posterior draws, from 0 to `draws`; a row a simulation that ended, its
        number the index, a column a scalar.
    draws : L.
    of_data : the scalars that depend on the data besides.
    failures : why the other simulations did not end, number -> one line.
    notes : what a reader must know.
    seconds : wall clock.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pyrometer
    >>> ranks = pd.DataFrame({"mu": np.arange(500) % 10, "tau": np.arange(500) % 5})  # tau's never above the middle
    >>> pyrometer.Calibration("mine", "model", ranks, draws=9).table["verdict"].str.startswith("uniform").to_dict()
    {'mu': True, 'tau': False}
    """

    method: str
    model: str
    ranks: DataFrame
    draws: int
    of_data: tuple[str, ...] = ()
    failures: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = float("nan")

    @cached_property
    def table(self) -> DataFrame:
        """A row a scalar.

        bias : how far the draws lie too high, in their sd; about, by the mean of Phi^-1(p), p = (rank + 1/2) / (L + 1).
        sd_ratio : their sd over the posterior's; about, by the sd of Phi^-1(p), and hardly below 0.5, as no rank lies
            beyond all draws.
        chi2, ks : p-values of uniform ranks, by Pearson's chi-square over at most 20 bins, and Kolmogorov-Smirnov.
        symmetry : the p-value of p being distributed as 1 - p, as it is where the mean is right and the posterior and
            its approximation are symmetric (Yao et al. 2018, proposition 2), by Wilcoxon's signed ranks; NaN for what
            depends on the data.
        verdict : uniform, or what is wrong, by chi2 and ks, corrected for their number (Holm 1979).
        """
        enough = len(self.ranks) >= MIN_ENDED
        rows = {name: self._tests(self.ranks[name].to_numpy()) for name in self.ranks} if enough else {}
        columns = ["bias", "sd_ratio", "chi2", "ks", "symmetry"]
        table = DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)
        table = table.reindex(self.ranks.columns)
        uniform = holm(table[["chi2", "ks"]].to_numpy()).min(1) if enough else np.full(len(table), np.nan)
        table.loc[list(self.of_data), "symmetry"] = np.nan
        said = [self._said(row, p) for row, p in zip(table.itertuples(), uniform, strict=True)]
        return table.assign(verdict=said)

    @property
    def passed(self) -> bool:
        """Whether the ranks of every scalar are as those of an exact method."""
        return bool((self.table["verdict"] == "uniform").all())

    @property
    def centred(self) -> bool:
        """Whether the ranks of no entry of theta lean to one side, as those of a guide of the right means do not."""
        known = holm(self.table["symmetry"].dropna().to_numpy())
        return len(known) > 0 and bool((known >= ALPHA).all())

    @property
    def bins(self) -> np.ndarray:
        """The bounds of the bins of the chi-square test, ranks from one to below the next: (B + 1,)."""
        number = max(1, min(BINS, len(self.ranks) // MIN_EXPECTED, self.draws + 1))
        return np.round(np.linspace(0, self.draws + 1, number + 1)).astype(int)

    def _tests(self, ranks: np.ndarray) -> list[float]:
        number, levels = len(ranks), self.draws + 1
        normal = stats.norm.ppf((np.arange(levels) + 0.5) / levels)
        z = normal[ranks] / normal.std()
        counts, expected = (np.histogram(values, self.bins - 0.5)[0] for values in (ranks, np.arange(levels)))
        chi2 = stats.chisquare(counts, expected * number / levels).pvalue
        steps = np.searchsorted(np.sort(ranks), np.arange(levels), side="right") / number
        # At the steps alone, where the distribution of ranks is that of a continuous p: never too small a p-value.
        ks = stats.kstwo.sf(np.abs(steps - np.arange(1, levels + 1) / levels).max(), number)
        leaning = 2 * ranks - self.draws
        symmetry = stats.wilcoxon(leaning, zero_method="zsplit", method="asymptotic").pvalue
        with np.errstate(divide="ignore"):  # of ranks that are all the same
            return [-z.mean(), 1 / z.std(), chi2, ks, symmetry]

    def _said(self, row: Any, uniform: float) -> str:
        """The verdict on a scalar. uniform: the p-value, corrected."""
        if np.isnan(uniform):
            return "too few simulations"
        if uniform >= ALPHA:
            return "uniform"
        number = len(self.ranks)
        wide, high = np.log(row.sd_ratio) * np.sqrt(2 * number), row.bias * np.sqrt(number)  # in standard errors
        found = [f"too {'wide' if wide > 0 else 'narrow'}"] if abs(wide) > PLAIN else []
        found += [f"too {'high' if high > 0 else 'low'}"] if abs(high) > PLAIN else []
        return ", ".join(found) or "not uniform"

    def remarks(self) -> list[str]:
        """What stands below the table."""
        verdict = "calibrated: no" if self.passed else "not calibrated: "
        wrong = [name for name, said in self.table["verdict"].items() if said != "uniform"]
        said = f"{verdict}{' scalar is' if self.passed else ', '.join(map(str, wrong)) + ' are'} told from exact draws"
        test = f"{said} ({ALPHA:.0%} over all, Holm)" if len(self.ranks) >= MIN_ENDED else self._few()
        failed = [f"{self._failed()}; ranks are of the others"] if self.failures else []
        return [test, *failed, *self.notes]

    def _few(self) -> str:
        return f"{len(self.ranks)} simulations ended, and the tests take {MIN_ENDED}: no verdict"

    def _failed(self) -> str:
        number, why = next(iter(self.failures.items()))
        total = len(self.failures) + len(self.ranks)
        return f"{len(self.failures)} of {total} failed, the first of them number {number} ({why})"

    def __repr__(self) -> str:
        what = f"{self.method} on {self.model}: {len(self.ranks)} simulations, {self.draws} draws each"
        return "\n".join([f"{what}, {self.seconds:.1f} s", as_text(table_of(self.table, DECIMALS)), *self.remarks()])

    def _repr_html_(self) -> str:
        table = self.table
        said = {str(name): word for name, word in table["verdict"].items()}

        def tone(row: str, column: str) -> tuple[Mark, str] | None:
            return (TONES.get(said[row], "bad"), "") if column == "verdict" else None

        what = f"{self.method} on {self.model}: {len(self.ranks)} simulations, {self.draws} draws each"
        return str(as_html(mark(table_of(table, DECIMALS), tone), self.remarks(), what))

    def plot(self) -> Figure:
        """The ranks of each scalar, and how far their distribution is from uniform, with bands for an exact method."""
        return plot_calibration(self, ALPHA)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, whatever their dependence (Holm 1979): of any shape."""
    flat = p.ravel()
    order = np.argsort(flat)
    raised = np.maximum.accumulate(flat[order] * np.arange(len(flat), 0, -1))
    found = np.empty_like(flat, dtype=float)
    found[order] = np.minimum(raised, 1.0)
    return found.reshape(p.shape)
