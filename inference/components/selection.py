"""Selection: what every criterion says of each number of components."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from pandas import DataFrame, Series

from ...display.table import Mark, Table, as_html, as_text, mark, table_of
from ..compare.columns import DECIMALS
from ..fit.fit import Fit
from ..report.fits import report_of_fits
from ..report.page import check_page, write_page
from ..report.pictures import Picture
from ..report.save import INDEX, pictures, tables
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
        return "\n".join([as_text(self.marked()), self._chosen(), *self.notes])

    def _repr_html_(self) -> str:
        return str(as_html(self.marked(), self.notes, self._chosen()))

    def _chosen(self) -> str:
        return f"chosen: {', '.join(f'{name} {k}' for name, k in self.best.items()) or 'none'}"

    def marked(self) -> Table:
        """The table as it is shown, with the number that each criterion chooses marked."""
        chosen = {(str(k), name) for name, k in self.best.items()}

        def chooses(row: str, column: str) -> tuple[Mark, str] | None:
            return ("best", "chosen by this") if (row, column) in chosen else None

        return mark(table_of(self.table, DECIMALS), chooses)

    def plot(self) -> Figure:
        """Every criterion against K, with the bound of every start as a point (Bishop 2006, figure 10.7)."""
        return plot_components(self.table, self.starts)

    def report(self, path: str | Path, *, command: str = "") -> Path:
        """Write a report into one HTML file that needs no network. command: the shell command that led to it."""
        return write_page(check_page(path), self._page(Picture(self.plot), command))

    def _page(self, picture: Picture, command: str) -> str:
        """The text of the report."""
        fits = [*self.posteriors.values(), *self.likeliest.values()]
        drawn = {"The criteria": (picture, "Every criterion against the number of components")}
        return report_of_fits(self._chosen(), fits[0], {"The table": self.marked()}, drawn, self.notes, command=command)

    def save(self, folder: str | Path, *, command: str = "") -> list[Path]:
        """Write table.csv, starts.csv, components.png, one NetCDF a fit and index.html into a folder; what was written.

        command : as `report` has it. The tables are for pandas, the fits for ArviZ. `pyrometer.load` reads a Fit back:
        `selection.posteriors[k].save(folder)`.
        """
        picture = Picture(self.plot)
        written = {**tables({"table": self.table, "starts": self.starts}), **pictures({"components.png": picture})}
        for kind, fits in (("posterior", self.posteriors), ("em", self.likeliest)):
            written |= {f"{kind}_{k}.nc": partial(to_netcdf, fit.idata) for k, fit in fits.items()}
        written[INDEX] = lambda file: file.write(self._page(picture, command).encode())
        return write_all(folder, written, self.notes)
