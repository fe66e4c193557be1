"""What was observed, beside each method's posterior predictive distribution: for models of any data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from ....errors import InputError, check_positive
from ....models.structure import Site, Structure
from ..drawing.canvas import Canvas, canvas_a_row, panel_a_fit
from ..drawing.compared import Compared, compared
from ..drawing.figure import styled
from ..drawing.looks import GREY, REFERENCE
from .densities import has_density
from .plane import with_draws

if TYPE_CHECKING:
    from ...fit.fit import Fit

SITES = 3  # observed sites shown, at most
DRAWS = 400  # of new observations, at most
MAX_NUMBERS = 20_000_000  # of all draws of new observations together
POINTS = 300  # observations shown, evenly spaced
SINGLE = 60  # observations up to which each has a bar of its own
CATEGORIES = 10  # distinct values up to which discrete observations are counted
BINS = 10  # groups of rows of like probability
MAX_BINS = 40  # of rows that are alike
BANDS = {"predicted: 94 %": (0.03, 0.97, 0.25), "50 %": (0.25, 0.75, 0.45)}  # from quantile, to quantile, opacity
REACH = 1.5  # of the range of what was observed, beyond which an interval is cut off


@styled
def plot_predictive(
    shown: Any,
    var_names: Collection[str] | None = None,
    num: int = SITES,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Any:
    """Posterior predictive checks: what was observed, over the intervals of 50 and 94 % of what each fit predicts.

    A row of panels an observed site, a panel a fit. Rows that are alike to the model, as those of a mixture, by how
    many fall where, a row of panels a column; others by their predicted mean, or in the order of the data where the
    model has no rows. Of 0 and 1 the share of ones by the predicted probability; of few categories how often each
    occurs.

    Parameters
    ----------
    shown : Comparison or Fit.
    var_names, num : observed sites, or columns of rows that are alike. None takes all, at most `num`: of columns those
        whose observations fall farthest from what the first fit predicts.
    ax, figsize : see `pyrometer.plots`.

    Returns
    -------
    Axes, or an array of them.

    Raises
    ------
    InputError
        A site or column is unknown.

    Examples
    --------
    >>> axes = plot_predictive(comparison["structured"], var_names=["waiting"])
    """
    check_positive(num=num)
    parts = compared(shown)
    predicted = cache(lambda name: _new_observations(parts.fits[name]))
    alike = has_density(parts.main)
    draws = (_by_column if alike else _by_site)(parts, predicted, var_names, num)
    canvases = canvas_a_row(ax, len(draws), parts, figsize, sharex=alike, sharey=True)
    panel_a_fit(canvases, parts, *draws)
    axes = [axis for panels in canvases for axis in panels.axes]
    return Canvas(axes, 1).given_back


def draw_predictive(canvases: Sequence[Canvas], shown: Compared) -> None:
    """A panel a method, and a row of them an observed site: intervals of 50 and 94 %, and what was observed."""
    predicted = cache(lambda name: _new_observations(shown.fits[name]))
    panel_a_fit(canvases, shown, *_by_site(shown, predicted, None, len(canvases)))


def _named(names: Sequence[str], var_names: Collection[str] | None, what: str) -> list[str]:
    """Those that are asked for; all, where none is."""
    if var_names is None:
        return list(names)
    asked = [var_names] if isinstance(var_names, str) else list(var_names)
    for name in asked:
        if name not in names:
            raise InputError(f"var_names: there is no {what} {name!r}: choose from {', '.join(names)}")
    return asked


def _by_site(
    shown: Compared, predicted: Callable[[str], Any], var_names: Collection[str] | None, num: int
) -> Sequence[Callable[[Axes, str, str], None]]:
    """What draws a fit, one for each observed site, or for all together."""
    main, together = shown.main, sites_of(shown.main.structure)
    observed = main.density.observed()

    def draw(label: str, axis: Axes, name: str, colour: str) -> None:
        sites = together[label]
        found = [predicted(name)[site.name] for site in sites]
        parts = zip(sites, found, strict=True)
        seen = np.concatenate([np.broadcast_to(observed[site.name], each.shape[1:]).ravel() for site, each in parts])
        drawn, known = np.concatenate([each.reshape(len(each), -1) for each in found], 1), np.isfinite(seen)
        seen, drawn = seen[known], drawn[:, known]
        discrete = sites[0].support is not None and sites[0].support.is_discrete
        series = main.structure.rows is None
        if ((drawn == 0) | (drawn == 1)).all() and seen.min() >= 0 and seen.max() <= 1:
            _shares_of_ones(axis, seen, drawn, colour)
        elif discrete and not (series and len(sites) > 1) and len(np.union1d(seen, drawn)) <= CATEGORIES:
            _frequencies(axis, seen, drawn, colour, main.data.coords.get(sites[0].name, ()))
        else:
            _intervals(axis, seen, drawn, colour, in_order=series)
        axis.set_ylabel(": ".join(filter(None, (label, axis.get_ylabel()))))

    return [partial(draw, label) for label in _named([*together], var_names, "observed site")][:num]


def sites_of(structure: Structure) -> dict[str, list[Site]]:
    """The observed sites of each panel: one, or many of one number each, as a program for a series has them."""
    sites = structure.observed
    if len(sites) > SITES and all(site.shape.numel() == 1 for site in sites):
        return {f"{sites[0].name} … {sites[-1].name}": list(sites)}
    return {site.name: [site] for site in sites}


def _by_column(
    shown: Compared, predicted: Callable[[str], Any], var_names: Collection[str] | None, num: int
) -> Sequence[Callable[[Axes, str, str], None]]:
    """What draws a fit, one for each column of rows that are alike; where they are many, those that fit worst."""
    main = shown.main
    site, columns = main.structure.observed[0], main.data.columns
    seen = np.asarray(main.density.observed()[site.name]).reshape(main.number_of_rows, -1)
    named = _named(columns, var_names, "column")

    def of(name: str, column: str) -> np.ndarray:
        drawn = predicted(name)[site.name]
        return drawn.reshape(len(drawn), *seen.shape)[..., columns.index(column)]

    def draw(column: str, axis: Axes, name: str, colour: str) -> None:
        values, drawn = seen[:, columns.index(column)], of(name, column)
        if (values == values.round()).all() and len(np.union1d(values, drawn)) <= CATEGORIES:
            _frequencies(axis, values, drawn, colour, main.data.coords.get(site.name, ()))
        else:
            edges = edges_of(values, drawn)
            found = counts_in(drawn, edges), counts_in(values[None], edges)[0]
            _bands(axis, (edges[1:] + edges[:-1]) / 2, found[1], found[0], colour, 0.9 * (edges[1] - edges[0]))
        axis.set(xlabel=column, ylabel="rows")

    if var_names is None and len(named) > num:
        first = next(iter(shown.others))
        off = {column: _off(seen[:, columns.index(column)], of(first, column)) for column in named}
        named = sorted(named, key=lambda column: -off[column])
    return [partial(draw, column) for column in named][:num]


def edges_of(seen: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Ends of bins for what was seen and nearly all that is predicted: whole numbers have bins of whole numbers."""
    low, high = np.quantile(drawn, (0.005, 0.995))
    low, high = min(low, seen.min()), max(high, seen.max())
    number = int(np.clip(np.sqrt(len(seen)) * (high - low) / max(np.ptp(seen), 1e-300), 8, MAX_BINS))
    if (seen == seen.round()).all():
        width = max(1, -(-int(high - low + 1) // number))
        return np.arange(np.floor(low) - 0.5, high + width + 0.5, width)
    return np.linspace(low, high, number + 1)


def counts_in(drawn: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many of each draw fall into each bin: (S, N) -> (S, bins)."""
    return np.stack([np.histogram(each, edges)[0] for each in drawn])


def _off(seen: np.ndarray, drawn: np.ndarray) -> float:
    """How far the worst bin is from what is predicted, in sd of that."""
    edges = edges_of(seen, drawn)
    counts = counts_in(drawn, edges)
    return float((np.abs(counts_in(seen[None], edges)[0] - counts.mean(0)) / (counts.std(0) + 1)).max())


def _new_observations(fit: Fit) -> dict[str, np.ndarray]:
    """Observations drawn anew, name -> (S, ...); of a point estimate, all at that point."""
    size, sizes = sum(site.shape.numel() for site in fit.structure.observed), fit.posterior.sizes
    number = int(np.clip(MAX_NUMBERS // size, 20, DRAWS)) // sizes["chain"] + 1
    places = np.linspace(0, sizes["draw"] - 1, number).astype(int)
    found = with_draws(fit, places).posterior_predictive()["posterior_predictive"]
    return {str(name): value.values.reshape(-1, *value.shape[2:]) for name, value in found.data_vars.items()}


def _intervals(axis: Axes, seen: np.ndarray, drawn: np.ndarray, colour: str, in_order: bool) -> None:
    """Numbers, by their predicted mean or in the order of the data. seen: (N,). drawn: (S, N)."""
    order = np.arange(len(seen)) if in_order else np.argsort(drawn.mean(0), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(len(order), POINTS)).astype(int)]
    seen, drawn = seen[chosen], drawn[:, chosen]
    beyond = REACH * np.ptp(seen) or np.inf
    drawn = drawn.clip(seen.min() - beyond, seen.max() + beyond)
    _bands(axis, range(len(seen)), seen, drawn, colour, 0.7 if len(seen) <= SINGLE else None)
    axis.set(xlabel="in the order of the data" if in_order else "ordered by predicted mean", xticks=[])


def _shares_of_ones(axis: Axes, seen: np.ndarray, drawn: np.ndarray, colour: str) -> None:
    """Of 0 and 1: the share of ones among rows of like probability. seen: (N,). drawn: (S, N)."""
    order = np.argsort(drawn.mean(0), kind="stable")
    bins = np.array_split(order, max(1, min(BINS, len(seen) // BINS)))
    shares = np.stack([drawn[:, rows].mean(1) for rows in bins], 1)
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.8)
    _bands(axis, shares.mean(0), [seen[rows].mean() for rows in bins], shares, colour, 0.025)
    axis.set(xlabel="predicted probability of 1", ylabel="share of 1", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))


def _frequencies(axis: Axes, seen: np.ndarray, drawn: np.ndarray, colour: str, names: tuple[str, ...]) -> None:
    """Of a few categories: how often each occurs. seen: (N,). drawn: (S, N)."""
    values = np.union1d(seen, drawn)
    counts = np.stack([(drawn == value).sum(1) for value in values], 1)
    _bands(axis, range(len(values)), [(seen == value).sum() for value in values], counts, colour, 0.7)
    axis.set_xticks(range(len(values)), [names[int(value)] if names else f"{value:g}" for value in values])
    axis.set(ylabel="how often", ylim=(0, None))


def _bands(axis: Axes, places: Any, seen: Any, drawn: np.ndarray, colour: str, width: float | None) -> None:
    """At places, what was observed, and the intervals of BANDS: bars of a width, or one area. drawn: (S, places)."""
    for name, (low, high, opacity) in BANDS.items():
        bottom, top = np.quantile(drawn, (low, high), axis=0)
        style: dict[str, Any] = {"color": colour, "alpha": opacity, "linewidth": 0, "label": name}
        if width is None:
            axis.fill_between(places, bottom, top, **style)
        else:
            axis.bar(places, top - bottom, bottom=bottom, width=width, **style)
    axis.plot(places, seen, ".", color=REFERENCE, markersize=2.5 if width is None else 5, label="observed")
