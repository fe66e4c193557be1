"""The scalars of fits that are worth a picture, the worst first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ...errors import InputError, check_positive
from ..fit.moments import varies
from .drawing.compared import Compared
from .drawing.figure import cut
from .drawing.looks import GREY

LONGEST = 10  # characters of a coordinate in a label
MOST_OF_ROWS = 3  # scalars of a variable that has an entry a row, the worst, unless it is asked for


@dataclass(frozen=True, eq=False)
class Parameter:
    """One scalar of several fits.

    variable. name: `locs[0, waiting]`, as tables have it. label: in two lines. component: -1 for none. draws: fit ->
    (S,). expected: its draws in the reference, else in the first fit. badness: see `badness_of`; NaN where unknown.
    """

    variable: str
    name: str
    label: str
    component: int
    draws: dict[str, np.ndarray]
    expected: np.ndarray
    badness: float = float("nan")


def chosen(
    shown: Compared, var_names: Collection[str] | None = None, num: int | None = None, least: int = 1
) -> list[Parameter]:
    """The scalars to show, at most num, the worst first; where nothing is known of that, in the order of the model.

    Left out, unless var_names asks for them: deterministic sites with an entry a row; of a row's own latents all but
    the worst MOST_OF_ROWS; and where there is no reference, these too, and the inner workings of a covariance that is
    there itself. Constants and repetitions (a covariance matrix holds each covariance twice) are always left out.

    var_names: variables, or scalars by name. least: how many the picture needs. Raises InputError where one is unknown,
    or fewer are left.
    """
    if num is not None:
        check_positive(num=num)
    asked = None if var_names is None else [var_names] if isinstance(var_names, str) else list(var_names)
    found = list(islice(_distinct(_ordered(shown, asked)), num))
    if len(found) < least:
        what = "no parameter that rows share and that varies" if not found else f"only {len(found)} such parameter"
        wanted = "" if asked is None else f" among var_names {', '.join(asked)}"
        raise InputError(f"there is {what}{wanted}, and the picture needs {least}")
    return found


def in_order(found: list[Parameter], var_names: Collection[str] | None) -> list[Parameter]:
    """Chosen scalars in the order in which var_names asks for them; as they were, where it does not."""
    asked = [var_names] if isinstance(var_names, str) else list(var_names or ())
    places = {name: place for place, name in reversed(list(enumerate(asked)))}
    first = lambda each: min(places.get(name, len(asked)) for name in (each.variable, each.name))  # noqa: E731
    return sorted(found, key=first)


def badness_of(parameters: pd.DataFrame) -> dict[str, float]:
    """How far off the worst fit is, scalar -> the larger of |bias| (in the reference's sd) and |log sd_ratio|."""
    if not {"bias", "sd_ratio"} <= set(parameters):
        return {}
    ratio = np.log(parameters["sd_ratio"].where(parameters["sd_ratio"] > 0)).abs()
    worst = pd.concat([parameters["bias"].abs(), ratio], axis=1).max(axis=1)
    return {str(name): float(value) for name, value in worst.groupby(level="scalar").max().dropna().items()}


def _ordered(shown: Compared, asked: list[str] | None) -> list[Parameter]:
    """All that may be shown: the worst first, else component by component."""
    badness = badness_of(shown.parameters)
    names = _variables(shown, bool(badness)) if asked is None else _asked(shown, asked)
    found = [each for variable in names for each in _scalars(shown, variable, badness)]
    if asked is not None:
        found = [each for each in found if {each.variable, each.name} & set(asked)]
    found.sort(key=lambda each: each.component)
    found.sort(key=lambda each: -each.badness if np.isfinite(each.badness) else 0.0)
    return list(_few_of_rows(shown, found)) if asked is None else found


def _variables(shown: Compared, ranked: bool) -> list[str]:
    """Those that are shown unless others are asked for."""
    dims, of_rows = shown.main.dims(), _of_rows(shown)
    derived = {site.name for site in shown.main.structure.of_kind("deterministic")}
    kept = [name for name in dims if not (name in of_rows and (name in derived or not ranked))]
    if ranked or "covariances" not in dims:
        return kept
    return [n for n in kept if not (n.startswith("precision") or "_tril" in n or n == "scales")]


def _of_rows(shown: Compared) -> set[str]:
    """The variables with an entry a row of the data, or an observation where there are no rows."""
    main = shown.main
    rows, seen = main.structure.rows, {site.shape.numel() for site in main.structure.observed}
    numbers = {main.data.rows} if rows else seen
    found = set[str]()
    for name, dims in main.dims().items():
        long = any(size in numbers for size in main.posterior[name].shape[2:])
        if (rows and rows.name in dims) or long:
            found.add(name)
    return found


def _asked(shown: Compared, asked: list[str]) -> list[str]:
    """The variables of what was asked for."""
    known = shown.main.dims()
    variables = list(dict.fromkeys(name if name in known else name.partition("[")[0] for name in asked))
    scalars = {each.name for name in variables if name in known for each in _scalars(shown, name, {})}
    for name in asked:
        if name not in known and name not in scalars:
            raise InputError(f"var_names: there is no variable {name!r}: choose from {', '.join(known)}")
    return variables


def _few_of_rows(shown: Compared, found: Iterable[Parameter]) -> Iterator[Parameter]:
    left = dict.fromkeys(_of_rows(shown), MOST_OF_ROWS)
    for each in found:
        left[each.variable] = left.get(each.variable, 1 << 30) - 1
        if left[each.variable] >= 0:
            yield each


def _scalars(shown: Compared, variable: str, badness: dict[str, float]) -> Iterator[Parameter]:
    """Every entry of a variable."""
    values, expected = shown.main.posterior[variable], shown.main.draws()[variable]
    dims = values.dims[2:]
    whole = [[str(coord) for coord in values[dim].values] for dim in dims]  # 0, 1, ... where there are no coordinates
    short = [_short(names) for names in whole]
    draws = {name: fit.draws()[variable] for name, fit in shown.fits.items() if variable in fit.posterior}
    known = {name: found for name, found in draws.items() if found.ndim == len(dims) + 1}
    for index in np.ndindex(*values.shape[2:]):
        full, coords = (", ".join(names[i] for names, i in zip(each, index, strict=True)) for each in (whole, short))
        component = int(index[dims.index("components")]) if "components" in dims else -1
        name, label = (f"{variable}[{full}]", f"{variable}\n[{coords}]") if index else (variable, variable)
        entries = {fit: found[:, *index] for fit, found in known.items()}
        yield Parameter(variable, name, label, component, entries, expected[:, *index], badness.get(name, float("nan")))


def _short(coords: list[str]) -> list[str]:
    """Coordinates cut to LONGEST characters; numbered where that would make two alike."""
    short = [cut(text, LONGEST) for text in coords]
    return short if len(set(short)) == len(short) else [str(i) for i in range(len(coords))]


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


def titled(axis: Axes, parameter: Parameter, shown: Compared) -> None:
    """Above a panel: the scalar, and how far off the worst fit is."""
    axis.set_title(parameter.label, loc="center", fontsize=7.5, fontweight="normal")
    if np.isfinite(parameter.badness):
        style: Any = {"color": GREY, "fontsize": 6.5, "ha": "right", "va": "top"}
        axis.annotate(_off(parameter, shown), (1, 1), (0, -1), "axes fraction", "offset points", **style)


def _off(parameter: Parameter, shown: Compared) -> str:
    """What makes it so bad: the bias of a mean, or the ratio of an sd, whichever is farther off."""
    rows = shown.parameters.xs(parameter.name, level="scalar")
    if rows["bias"].abs().max() >= parameter.badness:
        return f"{rows['bias'].abs().max():.2f} sd off"
    ratio = rows["sd_ratio"].dropna()
    return f"sd × {ratio.iloc[int(np.log(ratio).abs().argmax())]:.2f}"
