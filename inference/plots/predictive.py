"""What was observed, beside each method's posterior predictive distribution: for models of any data."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from ...models.structure import Site
from .densities import with_draws
from .style import GREY, REFERENCE, Compared, panel_a_fit

if TYPE_CHECKING:
    from ..fit.fit import Fit

SITES = 3  # observed sites shown, at most
DRAWS = 400  # of new observations, at most
MAX_NUMBERS = 20_000_000  # of all draws of new observations together
POINTS = 300  # observations shown, evenly spaced
SINGLE = 60  # observations up to which each has a bar of its own
CATEGORIES = 10  # distinct values up to which discrete observations are counted
BINS = 10  # groups of rows of like probability
BANDS = {"predicted: 94 %": (0.03, 0.97, 0.25), "50 %": (0.25, 0.75, 0.45)}  # from quantile, to quantile, opacity
REACH = 1.5  # of the range of what was observed, beyond which an interval is cut off


def draw_predictive(figure: FigureBase, shown: Compared) -> None:
    """A panel a method, and a row of them an observed site: intervals of 50 and 94 %, and what was observed."""
    main = shown.main
    observed = main.density.observed()
    predicted = cache(lambda name: _new_observations(shown.fits[name]))

    def draw(site: Site, axis: Axes, name: str, colour: str) -> None:
        drawn = predicted(name)[site.name]
        seen = np.broadcast_to(observed[site.name], drawn.shape[1:]).ravel()
        known = np.isfinite(seen)
        seen, drawn = seen[known], drawn.reshape(len(drawn), -1)[:, known]
        discrete = site.support is not None and site.support.is_discrete
        if ((drawn == 0) | (drawn == 1)).all() and seen.min() >= 0 and seen.max() <= 1:
            _shares_of_ones(axis, seen, drawn, colour)
        elif discrete and len(np.union1d(seen, drawn)) <= CATEGORIES:
            _frequencies(axis, seen, drawn, colour, main.data.coords.get(site.name, ()))
        else:
            _intervals(axis, seen, drawn, colour, in_order=main.structure.rows is None)
        axis.set_ylabel(": ".join(filter(None, (site.name, axis.get_ylabel()))))

    panel_a_fit(figure, shown, *(partial(draw, site) for site in main.structure.observed[:SITES]))


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
    beyond = REACH * np.ptp(seen)
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
