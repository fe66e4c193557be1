"""The picture of the posteriors side by side: each scalar parameter by method."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from ..fit.moments import varies
from .style import REFERENCE, Compared, attempt, grid, say

TAILS = (0.03, 0.97)  # a 94 % interval, as ArviZ draws it
MOST = 36  # panels; where there are more parameters, those farthest from the reference are shown
NARROW, WIDE = 3, 6  # panels side by side, at least and at most
REACH = 4  # reference interval widths beyond which a panel does not follow a stray method
LONGEST = 10  # characters of a coordinate in a label


@dataclass(frozen=True, eq=False)
class Parameter:
    """One scalar: its variable, what to call it, its component (-1 for none), and its draws, fit -> (S,).

    expected: its draws in the reference, else in the first fit.
    """

    variable: str
    label: str
    component: int
    draws: dict[str, np.ndarray]
    expected: np.ndarray

    def bias(self) -> float:
        """The largest distance of a mean from the expected one, in standard deviations of that."""
        distance = max(abs(draws.mean() - self.expected.mean()) for draws in self.draws.values())
        return float(distance / (self.expected.std() or 1.0))


def parameters(shown: Compared) -> list[Parameter]:
    """The scalars worth showing, component by component.

    Left out are rows' own variables, constants, repetitions (a covariance matrix holds each covariance twice), and the
    inner workings of a covariance where that is there itself.
    """
    dims, rows = shown.main.dims(), shown.main.structure.rows
    kept: list[Parameter] = []
    for variable in dims:
        internal = variable.startswith("precision") or "_tril" in variable or variable == "scales"
        if not (rows and rows.name in dims[variable]) and not (internal and "covariances" in dims):
            kept += _distinct(_scalars(shown, variable))
    return sorted(kept, key=attrgetter("component"))


def draw_forest(figure: FigureBase, shown: Compared) -> None:
    """A panel a parameter, each in its own units: mean and 94 % interval by method, over a band for the reference's."""
    found = parameters(shown)
    chosen = _farthest(found)
    if not chosen:
        say(figure, "no parameters to show")
        return
    panels, _ = grid(figure, len(chosen), _columns(chosen), sharey=True)
    for axis, parameter in zip(panels, chosen, strict=True):
        attempt(axis, _forest, parameter, shown)
    panels[0].set_ylim(len(shown.fits) - 0.4, -0.6)
    what = "Parameters" if all(fit.is_point for fit in shown.fits.values()) else "Parameters: mean and 94 % interval"
    left_out = f" ({len(chosen)} of {len(found)}, where the methods differ most)" if len(chosen) < len(found) else ""
    figure.suptitle(what + left_out, x=0.01, ha="left", fontsize=9, fontweight="bold")


def forest_height(shown: Compared) -> float:
    """Inches that `draw_forest` needs, each row of panels a line a method; 0 where there is no parameter to show."""
    chosen = _farthest(parameters(shown))
    rows = math.ceil(len(chosen) / _columns(chosen))
    return 0.4 + rows * (0.7 + 0.17 * len(shown.fits)) if rows else 0.0


def _columns(chosen: list[Parameter]) -> int:
    """Panels side by side: one component a row where that fits."""
    sizes = set(Counter(parameter.component for parameter in chosen).values())
    return sizes.pop() if len(sizes) == 1 and NARROW <= max(sizes) <= WIDE else max(NARROW, min(WIDE, len(chosen)))


def _scalars(shown: Compared, variable: str) -> Iterator[Parameter]:
    """Every entry of a variable, labelled by its coordinates."""
    values, expected = shown.main.posterior[variable], shown.main.draws()[variable]
    dims = values.dims[2:]
    names = [_short(values[dim].values) for dim in dims]  # 0, 1, ... where a dim has no coordinates
    draws = {name: fit.draws()[variable] for name, fit in shown.fits.items() if variable in fit.posterior}
    known = {name: found for name, found in draws.items() if found.ndim == len(dims) + 1}
    for index in np.ndindex(*values.shape[2:]):
        coords = ", ".join(name[i] for name, i in zip(names, index, strict=True))
        component = index[dims.index("components")] if "components" in dims else -1
        label = f"{variable}\n[{coords}]" if coords else variable
        entries = {name: found[:, *index] for name, found in known.items()}
        yield Parameter(variable, label, component, entries, expected[:, *index])


def _short(coords: Iterable[object]) -> list[str]:
    """Coordinates as text, cut to LONGEST characters; numbered where that would make two alike."""
    whole = [str(coord) for coord in coords]
    short = [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in whole]
    return short if len(set(short)) == len(short) else [str(i) for i in range(len(whole))]


def _distinct(candidates: Iterable[Parameter]) -> Iterator[Parameter]:
    """Those that vary, each set of equal ones once."""
    seen = set[str]()
    for parameter in candidates:
        draws = parameter.expected
        everywhere = np.concatenate([*parameter.draws.values()])
        known_by = f"{draws.mean():.7g} {draws.std():.7g} {draws[0]:.7g} {draws[-1]:.7g}"
        if varies(everywhere[:, None]) and known_by not in seen:
            seen.add(known_by)
            yield parameter


def _farthest(found: list[Parameter]) -> list[Parameter]:
    """At most MOST, those with the largest bias of any fit, in their old order."""
    top = sorted(found, key=Parameter.bias, reverse=True)[:MOST]
    return [parameter for parameter in found if parameter in top]


def _forest(axis: Axes, parameter: Parameter, shown: Compared) -> None:
    """One parameter: a row a method, the reference's interval as a band through all rows.

    An arrow at the edge stands for a mean that lies beyond it.
    """
    known = [(row, name) for row, name in enumerate(shown.fits) if name in parameter.draws]
    for row, name in known:
        colour, values = shown.palette[name], parameter.draws[name]
        axis.plot(np.quantile(values, TAILS), [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot(values.mean(), row, "o", color=colour, markersize=4)
    _band(axis, parameter.expected if shown.reference else np.zeros(0))
    left, right = axis.get_xlim()
    for row, name in known:
        mean = parameter.draws[name].mean()
        edge = np.clip(mean, left, right)
        if edge != mean:
            axis.plot(edge, row, "<" if mean < edge else ">", color=shown.palette[name], markersize=5, clip_on=False)
    axis.set_title(parameter.label, loc="center", fontsize=7.5, fontweight="normal")
    axis.set_yticks(range(len(shown.fits)), shown.fits)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(3))


def _band(axis: Axes, draws: np.ndarray) -> None:
    """The reference's interval, and limits that no stray method may stretch beyond REACH of its widths."""
    left, right = axis.get_xlim()
    short = max(0.0, 3e-3 * max(abs(left), abs(right)) - (right - left))  # else its ticks would be unreadable
    left, right = left - short / 2, right + short / 2
    if len(draws):
        low, high = np.quantile(draws, TAILS)
        axis.axvspan(low, high, color=REFERENCE, alpha=0.08, linewidth=0, zorder=0)
        axis.axvline(draws.mean(), color=REFERENCE, linewidth=0.6, alpha=0.5, zorder=0)
        if high > low:
            left, right = max(left, low - REACH * (high - low)), min(right, high + REACH * (high - low))
    axis.set_xlim(left, right)
