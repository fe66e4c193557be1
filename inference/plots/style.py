"""What every picture shares: what it is drawn from, colours and style, panels on a grid, parts that may fail."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from ...models.structure import one_line

if TYPE_CHECKING:
    from ..fit.fit import Fit


# Okabe and Ito (2008) without its yellow, then three of Tol's muted scheme: told apart by colour-blind readers too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#332288")
REFERENCE, GREY = "#000000", "#6E6E6E"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "savefig.dpi": 150,
}
LINE = 40  # characters of a message on a picture
Draw: TypeAlias = Callable[..., object]  # (axis, name, colour): a fit on a panel
Part = TypeVar("Part", Axes, FigureBase)


class Compared(Protocol):
    """What a picture of fits is drawn from, a Comparison for example.

    fits: name -> Fit. reference: the name of the one the others are measured against. table: a row a fit. gaps: a row
    each (guide, data row); empty where they are not known.
    """

    @property
    def fits(self) -> Mapping[str, Fit]: ...
    @property
    def reference(self) -> str | None: ...
    @property
    def table(self) -> pd.DataFrame: ...
    @property
    def gaps(self) -> pd.DataFrame: ...


class Alone(NamedTuple):
    """One fit, compared with none."""

    fits: dict[str, Fit]
    reference: None = None
    table: pd.DataFrame = pd.DataFrame()
    gaps: pd.DataFrame = pd.DataFrame()


def compared(shown: Compared | Fit) -> Compared:
    """A comparison as it is, a fit as a comparison with none."""
    given: Any = shown
    return given if hasattr(given, "fits") else Alone({given.name: given})


def colours(names: Iterable[str], reference: str | None = None) -> dict[str, str]:
    """A colour a fit, name -> hex: black for the reference."""
    others = [name for name in names if name != reference]
    chosen = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(others)}
    return chosen if reference is None else {reference: REFERENCE, **chosen}


def drawn(draw: Callable[[Figure], object], width: float, height: float) -> Figure:
    """A Figure of so many inches, filled by `draw`; pyplot forgets it, so that a notebook shows it once."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height), layout="constrained")
        try:
            draw(figure)
        finally:
            plt.close(figure)
    return figure


def attempt(part: Part, draw: Callable[[Part], object]) -> None:
    """Draw on a part of a picture; where that fails, a grey line says why, and the other parts are left alone."""
    try:
        draw(part)
    except Exception as error:
        part.clear()
        place: dict[str, Any] = {}
        if isinstance(part, Axes):
            part.set_axis_off()
            place["transform"] = part.transAxes
        text = textwrap.fill(f"not drawn: {one_line(error)}", LINE)
        part.text(0.5, 0.5, text, color=GREY, fontsize=8, ha="center", va="center", **place)


def columns_of(number: int) -> int:
    """How many panels stand side by side."""
    return 2 if number == 4 else min(number, 3)


def grid(figure: FigureBase, number: int, columns: int, **share: Any) -> tuple[list[Axes], list[Axes]]:
    """`number` panels row by row, and the axes left over, switched off. share: sharex, sharey of `subplots`."""
    axes = figure.subplots(math.ceil(number / columns), columns, squeeze=False, **share).ravel().tolist()
    for axis in axes[number:]:
        axis.set_axis_off()
    return axes[:number], axes[number:]


def panel_a_fit(
    figure: FigureBase, shown: Compared, draws: Sequence[Draw], handles: list[Artist], sharex: bool = False
) -> None:
    """Panels of each of `draws`, one a fit: its name in its colour, and what the table says of it; a legend of handles.

    The panels of one of `draws` share their y axis, and their x axis where sharex; labels stand at the left and at the
    bottom only where there is one of `draws`.
    """
    number, columns, palette = len(shown.fits), columns_of(len(shown.fits)), colours(shown.fits, shown.reference)
    panels, spare = grid(figure, len(draws) * number, columns)
    for place, (axis, (draw, name)) in enumerate(zip(panels, product(draws, shown.fits), strict=True)):
        if place % number:
            first = panels[place - place % number]
            axis.sharey(first)
            if sharex:
                axis.sharex(first)
        attempt(axis, partial(draw, name=name, colour=palette[name]))
        axis.set_title(name, color=palette[name], pad=15)
        text = "reference" if name == shown.reference else _figures(shown.table, name)
        axis.annotate(text, (0, 1), (0, 4), "axes fraction", "offset points", color=GREY, fontsize=7.5)
        if len(draws) == 1 and place % columns:
            axis.set_ylabel("")
            axis.tick_params(labelleft=False)
        if len(draws) == 1 and place + columns < number:  # a spare panel may lie below
            axis.set_xlabel("")
            axis.tick_params(labelbottom=False)
    if spare:
        spare[0].legend(handles=handles, loc="center left")
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _figures(table: pd.DataFrame, name: str) -> str:
    """What the table says of a fit, for the line above its panel."""
    said = {"bias": "bias {:.2f}", "sd_ratio": "sd ratio {:.2f}", "khat": "k-hat {:.2f}"}
    known = table.loc[name].dropna() if name in table.index else {}
    return ", ".join(text.format(known[key]) for key, text in said.items() if key in known)
