"""Figures: their style, how they are made and handed back, parts that may fail, text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

from ....models.structure import one_line
from .looks import GREY

P = ParamSpec("P")
R = TypeVar("R")
STYLE: Any = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 9),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8),
    **dict.fromkeys(("legend.frameon", "axes.spines.top", "axes.spines.right", "axes.formatter.useoffset"), False),
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "savefig.dpi": 150,
}
LINE = 40  # characters of a message on a picture


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
