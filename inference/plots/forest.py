"""The picture of the posteriors side by side: each scalar parameter by method."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from .style import GREY, REFERENCE, Compared, attempt, colours, grid

TAILS = (0.03, 0.97)  # a 94 % interval, as ArviZ draws it
MOST = 36  # panels; where there are more parameters, those farthest from the reference are shown
NARROW, WIDE = 3, 6  # panels side by side, at least and at most
REACH = 4  # reference interval widths beyond which a panel does not follow a stray method
LONGEST = 10  # characters of a coordinate in a label


@dataclass(frozen=True, eq=False)
class Parameter:
    """One scalar: its variable, what to call it, its component (-1 for none), and its draws, fit -> (S,)."""

    variable: str
    label: str
    component: int
    draws: dict[str, np.ndarray]

    def means(self) -> np.ndarray:
        """Its mean in each fit that has it."""
        return np.array([draws.mean() for draws in self.draws.values()])


def parameters(shown: Compared) -> list[Parameter]:
    """The scalars worth showing, component by component.

    Left out are rows' own variables, constants, repetitions (a covariance matrix holds each covariance twice), and the
    inner workings of a covariance where that is there itself.
    """
    main = _main(shown)
    dims, rows = shown.fits[main].dims(), shown.fits[main].structure.rows
    kept: list[Parameter] = []
    for variable in dims:
        internal = variable.startswith("precision") or "_tril" in variable or variable == "scales"
        if not (rows and rows.name in dims[variable]) and not (internal and "covariances" in dims):
            kept += _distinct(_scalars(shown, variable), main)
    return sorted(kept, key=lambda parameter: parameter.component)


def _main(shown: Compared) -> str:
    """The name of the reference, else of the first fit."""
    return shown.reference or next(iter(shown.fits))


def draw_forest(figure: FigureBase, shown: Compared) -> None:
    """A panel a parameter, each in its own units: mean and 94 % interval by method, over a band for the reference's."""
    found = parameters(shown)
    chosen = _farthest(found, shown)
    if not chosen:
        figure.text(0.5, 0.5, "no parameters to show", color=GREY, ha="center")
        return
    panels, _ = grid(figure, len(chosen), _columns(chosen), sharey=True)
    for axis, parameter in zip(panels, chosen, strict=True):
        attempt(axis, partial(_forest, parameter=parameter, shown=shown))
    panels[0].set_ylim(len(shown.fits) - 0.4, -0.6)
    what = "Parameters" if all(fit.is_point for fit in shown.fits.values()) else "Parameters: mean and 94 % interval"
    left_out = f" ({len(chosen)} of {len(found)}, where the methods differ most)" if len(chosen) < len(found) else ""
    figure.suptitle(what + left_out, x=0.01, ha="left", fontsize=9, fontweight="bold")


def forest_height(shown: Compared) -> float:
    """Inches that `draw_forest` needs, each row of panels a line a method; 0 where there is no parameter to show."""
    chosen = _farthest(parameters(shown), shown)
    rows = math.ceil(len(chosen) / _columns(chosen))
    return 0.4 + rows * (0.7 + 0.17 * len(shown.fits)) if rows else 0.0


def _columns(chosen: list[Parameter]) -> int:
    """Panels side by side: one component a row where that fits."""
    sizes = {sum(other.component == one.component for other in chosen) for one in chosen}
    return sizes.pop() if len(sizes) == 1 and NARROW <= max(sizes) <= WIDE else max(NARROW, min(WIDE, len(chosen)))


def _scalars(shown: Compared, variable: str) -> Iterator[Parameter]:
    """Every entry of a variable, labelled by its coordinates."""
    values = shown.fits[_main(shown)].posterior[variable]
    dims = values.dims[2:]
    names = [_short(values.coords[dim].values if dim in values.coords else range(values.sizes[dim])) for dim in dims]
    draws = {name: fit.draws().get(variable) for name, fit in shown.fits.items()}
    known = {name: found for name, found in draws.items() if found is not None and found.ndim == len(dims) + 1}
    for index in np.ndindex(*values.shape[2:]):
        coords = ", ".join(name[i] for name, i in zip(names, index, strict=True))
        component = index[dims.index("components")] if "components" in dims else -1
        entries = {name: found[(slice(None), *index)] for name, found in known.items()}
        yield Parameter(variable, f"{variable}\n[{coords}]" if coords else variable, component, entries)


def _short(coords: Iterable[object]) -> list[str]:
    """Coordinates as text, cut to LONGEST characters; numbered where that would make two alike."""
    whole = [str(coord) for coord in coords]
    short = [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in whole]
    return short if len(set(short)) == len(short) else [str(i) for i in range(len(whole))]


def _distinct(candidates: Iterable[Parameter], main: str) -> Iterator[Parameter]:
    """Those that vary, each set of equal ones once."""
    seen: dict[str, list[np.ndarray]] = {}
    for parameter in candidates:
        draws = parameter.draws[main]
        scale = 1e-9 * np.abs(draws).max(initial=1e-300)
        alike = seen.setdefault(f"{draws.mean():.6g} {draws.std():.6g}", [])
        varies = np.ptp(parameter.means()) > scale or np.ptp(draws) > scale
        if varies and not any(np.allclose(draws, other, 1e-9, 0) for other in alike):
            alike.append(draws)
            yield parameter


def _farthest(found: list[Parameter], shown: Compared) -> list[Parameter]:
    """At most MOST, those with the largest bias of any fit, in their old order."""

    def bias(parameter: Parameter) -> float:
        draws = parameter.draws[_main(shown)]
        return float(np.abs(parameter.means() - draws.mean()).max() / (draws.std() or 1.0))

    top = found if len(found) <= MOST else sorted(found, key=bias, reverse=True)[:MOST]
    return [parameter for parameter in found if parameter in top]


def _forest(axis: Axes, parameter: Parameter, shown: Compared) -> None:
    """One parameter: a row a method, the reference's interval as a band through all rows.

    An arrow at the edge stands for a mean that lies beyond it.
    """
    palette, rows = colours(shown.fits, shown.reference), list(shown.fits)
    known = [(rows.index(name), palette[name], draws) for name, draws in parameter.draws.items()]
    for row, colour, values in known:
        axis.plot(np.quantile(values, TAILS), [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot(values.mean(), row, "o", color=colour, markersize=4)
    _band(axis, parameter.draws[shown.reference] if shown.reference else np.zeros(0))
    left, right = axis.get_xlim()
    for row, colour, values in known:
        if not left <= (mean := values.mean()) <= right:
            edge, arrow = (left, "<") if mean < left else (right, ">")
            axis.plot(edge, row, arrow, color=colour, markersize=5, clip_on=False)
    axis.set_title(parameter.label, loc="center", fontsize=7.5, fontweight="normal")
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(3))


def _band(axis: Axes, draws: np.ndarray) -> None:
    """The reference's interval, and limits that no stray method may stretch beyond REACH of its widths."""
    left, right = axis.get_xlim()
    short = 3e-3 * max(abs(left), abs(right)) - (right - left)  # a narrower axis would have unreadable ticks
    left, right = (left - short / 2, right + short / 2) if short > 0 else (left, right)
    if len(draws):
        low, high = np.quantile(draws, TAILS)
        axis.axvspan(low, high, color=REFERENCE, alpha=0.08, linewidth=0, zorder=0)
        axis.axvline(draws.mean(), color=REFERENCE, linewidth=0.6, alpha=0.5, zorder=0)
        if high > low:
            left, right = max(left, low - REACH * (high - low)), min(right, high + REACH * (high - low))
    axis.set_xlim(left, right)
