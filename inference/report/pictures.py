"""A picture drawn once, whoever asks for it: the folder of results, and the report within it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from ..plots.drawing.figure import figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI, COARSER = 150, (90, 60)
MAX_BYTES = 400_000  # of a picture within a page, if a coarser one will do


@dataclass(frozen=True, eq=False)
class Picture:
    """What draws a Figure, or Axes of one, and what came of it. What fails raises as it did, each time."""

    draw: Callable[[], Any]

    @cached_property
    def figure(self) -> Figure:
        """The Figure."""
        return figure_of(self.draw)

    @cached_property
    def png(self) -> bytes:
        """As a file."""
        return self._at(DPI)

    @cached_property
    def small(self) -> bytes:
        """As a file that is as fine as MAX_BYTES allows."""
        content = self.png
        for dpi in COARSER:
            if len(content) > MAX_BYTES:
                content = self._at(dpi)
        return content

    def write(self, file: BinaryIO) -> None:
        """Write it into a file."""
        file.write(self.png)

    def _at(self, dpi: int) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=dpi, facecolor="white")
        return file.getvalue()
