"""Whether work is long enough to wait for Inductor: by its size, not by a clock, so that one seed gives one result."""

from __future__ import annotations

from ..compilation.compiled import Compile, Tier, value_and_gradient
from ..density.log_density import Density
from .chains import start_of

__all__ = ["brief", "pays", "tier_for"]

LONG = 30.0  # seconds of scripted work that make up for a quarter of a minute of Inductor
BRIEF = 10.0  # seconds of scripted work that are not worth a process, which takes three to start
A_CALL, A_NUMBER = 2e-4, 2e-8  # seconds that TorchScript takes, about: a gradient, and each number of the data in it
A_DRAW = 10  # gradients, about


def brief(draws: int, numbers: int) -> bool:
    """Whether so many draws in a row are over before other processes have started."""
    return draws * A_DRAW * (A_CALL + A_NUMBER * numbers) < BRIEF


def pays(calls: int, numbers: int) -> bool:
    """Whether Inductor pays for so many gradients on so many numbers of data."""
    return calls * (A_CALL + A_NUMBER * numbers) > LONG


def tier_for(compile: Compile, density: Density, seed: int, draws: int) -> tuple[Tier, str]:
    """The tier that runs the density for so many draws in a row, and how it was made where it was made here.

    To be called within `isolated`. Inductor compiles here first, so that the chains' own processes find its work on
    disk, and so that a failure shows once.
    """
    if compile is False:
        return "eager", "eager"
    if compile == "auto" and not pays(draws * A_DRAW, density.data.numel):
        return "script", ""
    start = start_of(density, seed)
    _, how = value_and_gradient(density.log_density, start, start + 0.1, tier="inductor")
    return ("inductor" if how == "inductor" else "script"), how
