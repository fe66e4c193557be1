"""Selection: what every criterion says of each number of components."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from pandas import DataFrame, Series

from ..compare.columns import as_text
from ..compare.save import pictures, tables
from ..fit.fit import Fit
from ..runtime.arviz import to_netcdf
from ..runtime.folder import write_all
from .plot import plot_components

SIGNS = {"elbo": 1, "log_evidence": 1, "bic": -1, "aic": -1, "lpd_test": 1}  # of what chooses: whether more is better


@dataclass(frozen=True, eq=False)
class Selection:
    """How many components: what every criterion says of each number K of them.

    Attributes
    ----------
    table : a row a K, in nats. elbo: the bound of the best start, plus log K! where labels are exchangeable: a bound
        holds one of K! labellings (Bishop 2006, section 10.2.4). log_evidence, log_evidence_se, khat: log p(x | K) over
        all labellings. probability: p(K | x), every K of the table as likely a priori. bic, aic: of maximum likelihood,
        the lower the better. lpd_test, lpd_test_se: log predictive density of held-out rows, summed.
    starts : a row a start, by K: elbo, its bound, log K! added.
    posteriors : K -> the approximate posterior. likeliest : K -> maximum likelihood by EM.
    notes : what a reader of the table must know.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import GMM
    >>> galaxies = pyrometer.datasets.galaxies()
    >>> selection = pyrometer.choose_components(galaxies, [1, 3], GMM, starts=2, folds=0, progress=False)
    >>> selection.best.to_dict(), list(selection.likeliest)
    ({'bic': 3, 'aic': 3}, [1, 3])
    """

    table: DataFrame
    starts: DataFrame
    posteriors: dict[int, Fit] = field(repr=False)
    likeliest: dict[int, Fit] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Series:
        """The K that each criterion chooses, criterion -> K; a criterion without a value is left out."""
        known = [name for name in SIGNS if self.table[name].notna().any()]
        return Series({name: (SIGNS[name] * self.table[name]).idxmax() for name in known}, name="components", dtype=int)

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name} {k}" for name, k in self.best.items())
        return "\n".join([as_text(self.table), f"chosen: {chosen or 'none'}", *self.notes])

    def plot(self) -> Figure:
        """Every criterion against K, with the bound of every start as a point (Bishop 2006, figure 10.7)."""
        return plot_components(self.table, self.starts)

    def save(self, folder: str | Path) -> list[Path]:
        """Write table.csv, starts.csv, components.png and one NetCDF a fit into a folder; what was written.

        They are for pandas and ArviZ. `pyrometer.load` reads a Fit back: `selection.posteriors[k].save(folder)`.
        """
        written = {**tables({"table": self.table, "starts": self.starts}), **pictures({"components.png": self.plot})}
        for kind, fits in (("posterior", self.posteriors), ("em", self.likeliest)):
            written |= {f"{kind}_{k}.nc": partial(to_netcdf, fit.idata) for k, fit in fits.items()}
        return write_all(folder, written, self.notes)
