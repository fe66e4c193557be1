"""How a method is drawn: its colour, and the dashes and the marker that tell it apart in grey."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any, NamedTuple
from zlib import crc32

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


class Look(NamedTuple):
    """How a method is drawn: its colour, and what tells it apart in grey."""

    colour: str
    dashes: Any
    marker: str


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
