"""What a picture is drawn from: the fits of a Comparison, or one Fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from ....errors import InputError
from ...data.data import SHOWN_ROWS
from .looks import Look, colours, looks

if TYPE_CHECKING:
    from ...fit.fit import Fit


class Compared(NamedTuple):
    """What a picture of fits is drawn from.

    fits: name -> Fit. reference: the name of the one the others are measured against. table: a row a fit. gaps: a row
    each (guide, data row). parameters: a row each (fit, scalar). As a Comparison has them; empty where not known.
    """

    fits: Mapping[str, Fit]
    reference: str | None = None
    table: pd.DataFrame = pd.DataFrame()
    gaps: pd.DataFrame = pd.DataFrame()
    parameters: pd.DataFrame = pd.DataFrame()

    @property
    def main(self) -> Fit:
        """The fit that the others are shown against: the reference, else the first."""
        return self.fits[self.reference or next(iter(self.fits))]

    @property
    def looks(self) -> dict[str, Look]:
        """How each fit is drawn."""
        return looks(self.fits, self.reference)

    @property
    def palette(self) -> dict[str, str]:
        """The colour of each fit."""
        return colours(self.fits, self.reference)

    @property
    def others(self) -> dict[str, Fit]:
        """Those that are measured against the reference; all, where there is none or nothing else."""
        return {name: fit for name, fit in self.fits.items() if name != self.reference} or dict(self.fits)


def compared(shown: Any) -> Compared:
    """What is drawn of a Comparison; a Fit is a comparison with none. Raises InputError for anything else."""
    if isinstance(shown, Compared):
        return shown
    if hasattr(shown, "fits"):
        fits = {name: _of_sample(fit) for name, fit in shown.fits.items()}
        return Compared(fits, shown.reference, shown.table, shown.gaps, shown.parameters)
    if hasattr(shown, "posterior") and hasattr(shown, "losses"):
        return Compared({shown.name: _of_sample(shown)})
    raise InputError(f"a {type(shown).__name__} cannot be drawn: give a Comparison or a Fit")


def _of_sample(fit: Fit) -> Fit:
    """A fit to rows in a file with some of them, evenly spaced; any other as it is."""
    return fit if fit.data.mapped is None else replace(fit, data=fit.data.sampled(SHOWN_ROWS))
