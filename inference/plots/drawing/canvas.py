"""Axes to draw on, row by row: those that are given, a grid in place of one, or a new figure's; a panel a fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from ....errors import InputError
from .compared import Compared
from .figure import attempt
from .looks import GREY

LEGEND = 2.0  # inches of an entry of a legend


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
