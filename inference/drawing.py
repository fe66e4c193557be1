"""A figure in the house style that pyplot has forgotten, so that none piles up and a notebook shows it once."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .panels import STYLE

__all__ = ["drawn"]


def drawn(draw: Callable[[Figure], None], width: float, height: float) -> Figure:
    """A Figure of so many inches, filled by `draw`."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height), layout="constrained")
        try:
            draw(figure)
        finally:
            plt.close(figure)
    return figure
