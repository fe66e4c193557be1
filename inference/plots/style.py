"""What every picture shares: what it is drawn from, colours and style, axes, panels on a grid, parts that may fail."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar
from zlib import crc32

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import cbook
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

from ...errors import InputError
from ...models.structure import one_line
from ..data.data import SHOWN_ROWS

if TYPE_CHECKING:
    from ..fit.fit import Fit

P = ParamSpec("P")
R = TypeVar("R")
# Okabe and Ito (2008) without its yellow, then three of Tol's muted scheme: told apart by colour-blind readers too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#332288")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (2, 1.2)),
    (0, (7, 2, 1.5, 2)),
    (0, (3, 1.2, 1, 1.2, 1, 1.2)),
    (0, (12, 3)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
# The methods of one line have colours of their own; those below one another share one, and have other dashes.
METHODS = (
    ("mean_field", "structured", "auto_normal", "auto_mvn", "amortized", "auto_delta", "nuts", "em", "full_mean_field"),
    ("encoder", "encoder_full", "free", "encoder_low_rank", "auto_low_rank", "encoder_flow", "cavi", "laplace", "bam"),
    ("dadvi", "marginal", "gaussian_diagonal", "gaussian_full", "pathfinder", "sampled", "auto_iaf", "semi_amortized"),
    ("auto_laplace", "responsibilities", "auto_diagonal_normal", "gaussian_low_rank", "auto_structured"),
)
PLACES = {name: (hue, tier) for tier, names in enumerate(METHODS) for hue, name in enumerate(names)}
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
LEGEND = 2.0  # inches of an entry of a legend


class Look(NamedTuple):
    """How a method is drawn: its colour, and what tells it apart in grey."""

    colour: str
    dashes: Any
    marker: str


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


def looks(names: Iterable[str], reference: str | None = None) -> dict[str, Look]:
    """How each method is drawn: the same in every picture, whatever is beside it; the reference in black.

    A name of the user's own has the look that follows from it, unless another in the picture has that already.
    """
    ordered = [name for name in names if name != reference]
    places = {name: PLACES[name] for name in ordered if name in PLACES}
    for name in ordered:
        if name not in places:
            places[name] = _free(crc32(name.encode()) % len(PALETTE), set(places.values()))
    found = {name: _look(*places[name]) for name in ordered}
    return found if reference is None else {reference: Look(REFERENCE, "-", "o"), **found}


def _free(first: int, used: set[tuple[int, int]]) -> tuple[int, int]:
    """The first place from a hue on that is not used, of the hue that is used least: hue, tier."""
    hues = [(first + step) % len(PALETTE) for step in range(len(PALETTE))]
    hue = min(hues, key=lambda hue: sum(taken == hue for taken, _ in used))
    return hue, next(tier for tier in count() if (hue, tier) not in used)


def _look(hue: int, tier: int) -> Look:
    dashes, marker = DASHES[(hue + tier) % len(DASHES)], MARKERS[(hue + tier) % len(MARKERS)]
    return Look(PALETTE[hue], dashes, marker)


def colours(names: Iterable[str], reference: str | None = None) -> dict[str, str]:
    """A colour a fit, name -> hex, as `looks` has them."""
    names = list(names)
    found = looks(names, reference)
    return {name: found[name].colour for name in names}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A picture in this style, whose new figures are closed where it fails; matplotlib's own settings stay."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        before = set(plt.get_fignums())
        with plt.rc_context(STYLE):
            try:
                found = draw(*args, **kwargs)
                parts = np.asarray(found, dtype=object).ravel()
                for figure in {part.figure for part in parts if isinstance(part, Artist)} - {None}:
                    _literal_where_no_formula(figure)
                return found
            except BaseException:
                for number in set(plt.get_fignums()) - before:
                    plt.close(number)
                raise

    return inner


class Canvas(NamedTuple):
    """Axes to draw on, row by row, so many a row. part: the figure that is all theirs; None where they were given.

    spare: axes left over in the last row, switched off.
    """

    axes: list[Axes]
    columns: int
    part: FigureBase | None = None
    spare: Sequence[Axes] = ()

    @property
    def given_back(self) -> Any:
        """One Axes, or an array of them."""
        return self.axes[0] if len(self.axes) == 1 else np.array(self.axes, dtype=object)

    def legend(self, labelled: Mapping[str, Any], columns: int | None = None) -> None:
        """One legend of all panels, label -> handle: beside the last panel, below, or in the last that was given."""
        if not labelled:
            return
        if self.spare:
            self.spare[0].legend(labelled.values(), labelled, loc="center left", markerscale=1.6)
        elif self.part is not None:
            room: Any = self.part
            fitting = max(1, min(len(labelled), round(room.bbox.width / room.dpi / LEGEND)))
            style: Any = {"loc": "outside lower center", "ncols": columns or fitting, "markerscale": 1.6}
            self.part.legend(labelled.values(), labelled, **style)
        else:
            self.axes[-1].legend(labelled.values(), labelled, loc="best", fontsize=7)

    def title(self, text: str) -> None:
        """A line above all panels."""
        if self.part is not None:
            self.part.suptitle(text, x=0.01, ha="left", fontsize=9, fontweight="bold")


def canvas(
    ax: Any,
    number: int,
    columns: int,
    size: tuple[float, float],
    figsize: tuple[float, float] | None = None,
    **share: Any,
) -> Canvas:
    """Axes for so many panels: those given, row by row; a grid in place of a single one; or a new figure's.

    ax: Axes, an array of them, or None. size: inches of a panel, where neither ax nor figsize is given. Raises
    InputError where there are fewer axes than panels, and more than one.
    """
    if ax is None:
        rows = math.ceil(number / columns)
        figure = plt.figure(figsize=figsize or (columns * size[0], rows * size[1]), layout="constrained")
        return on_figure(figure, number, columns, **share)
    given = list(np.asarray(ax, dtype=object).ravel())
    if any(not isinstance(each, Axes) for each in given):
        raise InputError(f"ax={ax!r} must be matplotlib Axes, or an array of them")
    if len(given) == 1 < number:
        return Canvas(_in_place_of(given[0], number, columns), columns)
    if len(given) < number:
        raise InputError(f"ax: {number} panels are drawn, and there are {len(given)} axes: give more, or one for all")
    return Canvas(given[:number], columns)


def on_figure(figure: FigureBase, number: int, columns: int, **share: Any) -> Canvas:
    """A grid of panels that fills a figure, or a part of one."""
    axes, spare = grid(figure, number, columns, **share)
    return Canvas(axes, columns, figure, spare)


def _in_place_of(axis: Axes, number: int, columns: int) -> list[Axes]:
    """So many smaller axes where one is."""
    place, figure = axis.get_subplotspec(), axis.figure
    if place is None or figure is None:
        raise InputError(f"ax: {number} panels do not fit into axes that are no subplot: give axes of plt.subplots")
    axis.set_axis_off()
    cells = place.subgridspec(math.ceil(number / columns), columns)
    return [figure.add_subplot(cells[i // columns, i % columns]) for i in range(number)]


def in_place_of(axis: Any) -> FigureBase:
    """A part of a figure where an Axes of it is."""
    place = axis.get_subplotspec() if isinstance(axis, Axes) else None
    if place is None or axis.figure is None:
        raise InputError(f"ax={axis!r} must be one Axes of plt.subplots")
    axis.set_axis_off()
    part: FigureBase = axis.figure.add_subfigure(place)
    return part


def figure_of(plot: Callable[..., Any], *args: Any, **kwargs: Any) -> Figure:
    """The Figure of a picture; pyplot forgets it, so that a notebook shows it once."""
    found = plot(*args, **kwargs)
    figure = found if isinstance(found, Figure) else root_of(found)
    plt.close(figure)
    return figure


def root_of(axes: Any) -> Figure:
    """The Figure that holds Axes, or an array of them."""
    part = np.asarray(axes, dtype=object).ravel()[0].figure
    while not isinstance(part, Figure):
        part = part.figure
    return part


def _literal_where_no_formula(figure: FigureBase) -> None:
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


def cut(text: str, longest: int) -> str:
    """At most so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def columns_of(number: int) -> int:
    """How many panels stand side by side."""
    return 2 if number == 4 else min(number, 3)


def grid(figure: FigureBase, number: int, columns: int, **share: Any) -> tuple[list[Axes], list[Axes]]:
    """`number` panels row by row, and the axes left over, switched off. share: sharex, sharey of `subplots`."""
    axes = figure.subplots(math.ceil(number / columns), columns, squeeze=False, **share).ravel().tolist()
    for axis in axes[number:]:
        axis.set_axis_off()
    return axes[:number], axes[number:]


def canvas_a_row(place: Any, rows: int, shown: Compared, figsize: Any = None, height: float = 2.3, **share: Any) -> Any:
    """For each of so many rows of panels a Canvas with a panel a fit. place: a figure to fill, or `ax` of `canvas`."""
    number = len(shown.fits)
    columns = columns_of(number)
    if place is None:
        wide, high = (3.3, height) if number > 1 else (4.6, 1.4 * height)
        size = (wide * columns, 0.3 + high * rows * math.ceil(number / columns))
        place = plt.figure(figsize=figsize or size, layout="constrained")
    if isinstance(place, FigureBase):
        parts = place.subfigures(rows, 1, squeeze=False).ravel()
        return [on_figure(part, number, columns, **share) for part in parts]
    whole = canvas(place, rows * number, columns, (0, 0))
    return [Canvas(whole.axes[row * number : (row + 1) * number], columns) for row in range(rows)]


def panel_a_fit(
    canvases: Sequence[Canvas], shown: Compared, *draws: Callable[..., object], sharex: bool = False
) -> None:
    """Panels of each of `draws`, one a fit: its name in its colour, what the table says of it; a legend of all labels.

    canvases: one for each of `draws`. draws: (axis, name, colour) -> a fit on a panel. Where the panels fill a figure,
    labels stand at the left and at the bottom only; at the bottom of each column where not sharex.
    """
    number, labelled = len(shown.fits), dict[str, Any]()
    for panels, draw in zip(canvases, draws, strict=True):
        columns, own = panels.columns, panels.part is not None
        for place, (axis, (name, colour)) in enumerate(zip(panels.axes, shown.palette.items(), strict=True)):
            attempt(axis, draw, name, colour)
            axis.set_title(name, color=colour, pad=15)
            text = "reference" if name == shown.reference else _figures(shown.table, name)
            axis.annotate(text, (0, 1), (0, 4), "axes fraction", "offset points", color=GREY, fontsize=7.5)
            lowest = place + columns >= number or not own  # a spare panel may lie below
            axis.tick_params(labelbottom=lowest or not sharex)
            axis.set_xlabel(axis.get_xlabel() if lowest else "")
            axis.set_ylabel("" if place % columns and own else axis.get_ylabel())
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                labelled.setdefault(label, handle)
    canvases[-1].legend(labelled)


def _figures(table: pd.DataFrame, name: str) -> str:
    """What the table says of a fit, for the line above its panel."""
    said = {"bias": "bias {:.2f}", "sd_ratio": "sd ratio {:.2f}", "khat": "k-hat {:.2f}"}
    known = table.loc[name].dropna() if name in table.index else {}
    return ", ".join(text.format(known[key]) for key, text in said.items() if key in known)
