"""Comparison: several fits of one model, and the table that sets them side by side."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from .fit import Fit
from .plots import plot
from .report import as_text
from .save import save

__all__ = ["Comparison"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several fits of one model to the same data.

    Attributes
    ----------
    fits : name -> Fit, the reference first, all with their components in its order.
    table : a row a fit, the columns of `pyrometer.inference.scores.COLUMNS`.
    reference : the name of the fit that bias and sd_ratio are measured against; None where there is none.
    skipped : what could not be fitted, name -> why.
    invariant : label-invariant distances from the reference, a row a fit: see `inference.invariants`.
    notes : what a reader of the table must know: a reference that did not converge, a training cut short.
    """

    fits: dict[str, Fit]
    table: pd.DataFrame
    reference: str | None
    skipped: dict[str, str] = field(default_factory=dict)
    invariant: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Fit:
        if name not in self.fits:
            why = f": it was skipped, {self.skipped[name]}" if name in self.skipped else ""
            raise KeyError(f"no fit {name!r}{why}; there are {', '.join(self.fits)}")
        return self.fits[name]

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.remarks())
        return self.table.to_html(float_format="{:.4g}".format, na_rep="") + notes

    def __repr__(self) -> str:
        return "\n".join([as_text(self.table), *self.remarks()])

    def remarks(self) -> list[str]:
        """What stands below the table: the notes, and what was skipped."""
        return [*self.notes, *(f"{name} was skipped: {why}" for name, why in self.skipped.items())]

    def plot(self) -> Figure:
        """The fits, the losses and the parameters in one picture; `inference.plots` has each alone."""
        return plot(self)

    def save(self, folder: str | Path) -> list[Path]:
        """Write table, posteriors and pictures into a folder; what was written: see `inference.save`."""
        return save(self, folder)
