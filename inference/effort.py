"""Whether a NUTS run is long enough to wait for Inductor."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from .chains import start_of
from .compiled import Compile, Tier, value_and_gradient
from .density import Density

__all__ = ["tier_for"]

LONG = 60.0  # seconds of scripted gradients that make up for a quarter of a minute of Inductor, twice over
A_DRAW = 10  # gradients, about
GAIN = 8  # of TorchScript over eager torch on small data; on large data less


def tier_for(compile: Compile, density: Density, seed: int, draws: int) -> tuple[Tier, str]:
    """The tier that runs the density for so many draws in a row, and how it was made where it was made here.

    To be called within `isolated`. Inductor compiles here first, so that the chains' own processes find its work on
    disk, and so that a failure shows once.
    """
    if compile is False:
        return "eager", "eager"
    start = start_of(density, seed)
    if compile == "auto" and draws * A_DRAW * _seconds(density, start) / GAIN < LONG:
        return "script", ""
    _, how = value_and_gradient(density.log_density, start, start + 0.1, tier="inductor")
    return ("inductor" if how == "inductor" else "script"), how


def _seconds(density: Density, start: Tensor) -> float:
    """What one eager gradient takes."""
    gradient, _ = value_and_gradient(density.log_density, start, tier="eager")
    gradient(start)
    began = time.perf_counter()
    gradient(torch.clone(start))
    return time.perf_counter() - began
