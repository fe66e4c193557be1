"""What every picture shares: what it is drawn from, colours and style, panels on a grid, parts that may fail."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib import cbook
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

from ...models.structure import one_line

if TYPE_CHECKING:
    from ..fit.fit import Fit

# Okabe and Ito (2008) without its yellow, then three of Tol's muted scheme: told apart by colour-blind readers too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#332288")
REFERENCE, GREY = "#000000", "#6E6E6E"
STYLE: Any = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 9),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8),
    **dict.fromkeys(("legend.frameon", "axes.spines.top", "axes.spines.right", "axes.formatter.useoffset"), False),
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "savefig.dpi": 150,
}
LINE = 40  # characters of a message on a picture


class Compared(NamedTuple):
    """What a picture of fits is drawn from.

    fits: name -> Fit. reference: the name of the one the others are measured against. table: a row a fit. gaps: a row
    each (guide, data row); empty where they are not known.
    """

    fits: Mapping[str, Fit]
    reference: str | None = None
    table: pd.DataFrame = pd.DataFrame()
    gaps: pd.DataFrame = pd.DataFrame()

    @property
    def main(self) -> Fit:
        """The fit that the others are shown against: the reference, else the first."""
        return self.fits[self.reference or next(iter(self.fits))]

    @property
    def palette(self) -> dict[str, str]:
        """The colour of each fit."""
        return colours(self.fits, self.reference)


def compared(shown: Any) -> Compared:
    """What is drawn of a Comparison; a Fit is a comparison with none."""
    if hasattr(shown, "fits"):
        return Compared(shown.fits, shown.reference, shown.table, shown.gaps)
    return Compared({shown.name: shown})


def colours(names: Iterable[str], reference: str | None = None) -> dict[str, str]:
    """A colour a fit, name -> hex: black for the reference."""
    hues = cycle(PALETTE)
    return {name: REFERENCE if name == reference else next(hues) for name in names}


def _literal_where_no_formula(figure: Figure) -> None:
    """Show as it is what looks like a formula and cannot be read as one: a column called `$x_{$`, for example."""
    for text in figure.findobj(Text):
        if cbook.is_math_text(text.get_text()):
            try:
                MathTextParser("path").parse(text.get_text())
            except ValueError:
                text.set_parse_math(False)


def drawn(width: float, height: float, draw: Callable[..., object], *args: Any) -> Figure:
    """A Figure of so many inches, filled by `draw(figure, *args)`; pyplot forgets it: a notebook shows it once."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height), layout="constrained")
        try:
            draw(figure, *args)
            _literal_where_no_formula(figure)
        finally:
            plt.close(figure)
    return figure


def attempt(part: Axes | FigureBase, draw: Callable[..., object], *args: Any) -> None:
    """Draw on a part of a picture; where that fails, a grey line says why, and the other parts are left alone."""
    try:
        draw(part, *args)
    except Exception as error:
        part.clear()
        say(part, f"not drawn: {one_line(error)}")


def say(part: Axes | FigureBase, text: str) -> None:
    """A grey line in the middle of a part of a picture, in place of what is not there."""
    style: dict[str, Any] = {"color": GREY, "fontsize": 8, "ha": "center", "va": "center"}
    if isinstance(part, Axes):
        part.set_axis_off()
        style["transform"] = part.transAxes
    part.text(0.5, 0.5, textwrap.fill(text, LINE), **style)


def columns_of(number: int) -> int:
    """How many panels stand side by side."""
    return 2 if number == 4 else min(number, 3)


def grid(figure: FigureBase, number: int, columns: int, **share: Any) -> tuple[list[Axes], list[Axes]]:
    """`number` panels row by row, and the axes left over, switched off. share: sharex, sharey of `subplots`."""
    axes = figure.subplots(math.ceil(number / columns), columns, squeeze=False, **share).ravel().tolist()
    for axis in axes[number:]:
        axis.set_axis_off()
    return axes[:number], axes[number:]


def panel_a_fit(figure: FigureBase, shown: Compared, *draws: Callable[..., object], sharex: bool = False) -> None:
    """Panels of each of `draws`, one a fit: its name in its colour, what the table says of it; a legend of all labels.

    draws: (axis, name, colour) -> a fit on a panel. The panels of one of them share their y axis, and their x axis
    where sharex; labels stand at the left and at the bottom only.
    """
    number, columns = len(shown.fits), columns_of(len(shown.fits))
    labelled, spare = dict[str, Any](), list[Axes]()
    for part, draw in zip(figure.subfigures(len(draws), 1, squeeze=False).ravel(), draws, strict=True):
        panels, spare = grid(part, number, columns, sharex=sharex, sharey=True)
        for place, (axis, (name, colour)) in enumerate(zip(panels, shown.palette.items(), strict=True)):
            attempt(axis, draw, name, colour)
            axis.set_title(name, color=colour, pad=15)
            text = "reference" if name == shown.reference else _figures(shown.table, name)
            axis.annotate(text, (0, 1), (0, 4), "axes fraction", "offset points", color=GREY, fontsize=7.5)
            lowest = place + columns >= number  # a spare panel may lie below
            axis.tick_params(labelbottom=lowest or not sharex)
            axis.set_xlabel(axis.get_xlabel() if lowest else "")
            axis.set_ylabel("" if place % columns else axis.get_ylabel())
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                labelled.setdefault(label, handle)
    if spare:
        spare[0].legend(labelled.values(), labelled, loc="center left", markerscale=1.6)
    elif labelled:
        figure.legend(labelled.values(), labelled, loc="outside lower center", ncols=len(labelled), markerscale=1.6)


def _figures(table: pd.DataFrame, name: str) -> str:
    """What the table says of a fit, for the line above its panel."""
    said = {"bias": "bias {:.2f}", "sd_ratio": "sd ratio {:.2f}", "khat": "k-hat {:.2f}"}
    known = table.loc[name].dropna() if name in table.index else {}
    return ", ".join(text.format(known[key]) for key, text in said.items() if key in known)
