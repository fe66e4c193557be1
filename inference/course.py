"""What a training by SVI is to be: how long, how compiled, on which rows."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.structure import Plate
from .compiled import Compile

__all__ = ["Course"]


@dataclass(frozen=True)
class Course:
    """steps: in all. compile: as `svi` has it. plates: those that are subsampled. warmup: steps until the divergence
    counts in full. changing: whether the data are replaced in place on the way.
    """

    steps: int
    compile: Compile = "auto"
    plates: tuple[Plate, ...] = ()
    warmup: int = 0
    changing: bool = False
