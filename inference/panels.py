"""What every picture shares: its colours, its style, and small multiples on a grid."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

__all__ = ["GREY", "PALETTE", "REFERENCE", "STYLE", "colours", "grid"]

# Okabe and Ito (2008) without its yellow, then three of Tol's muted scheme: told apart by colour-blind readers too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#332288")
REFERENCE, GREY = "#000000", "#6E6E6E"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
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


def colours(names: Iterable[str], reference: str | None) -> dict[str, str]:
    """A colour a fit, name -> hex: black for the reference."""
    others = [name for name in names if name != reference]
    chosen = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(others)}
    return chosen if reference is None else {reference: REFERENCE, **chosen}


def grid(figure: FigureBase, number: int, columns: int, **share: Any) -> tuple[list[Axes], list[Axes]]:
    """`number` panels row by row, and the axes left over, switched off. share: sharex, sharey of `subplots`."""
    axes = figure.subplots(math.ceil(number / columns), columns, squeeze=False, **share).ravel().tolist()
    panels, spare = axes[:number], axes[number:]
    for axis in spare:
        axis.set_axis_off()
    for axis in panels[-columns:]:  # the lowest of its column, though a spare one lies below
        axis.xaxis.set_tick_params(labelbottom=True)
    return panels, spare
