"""Log evidence and k-hat of each fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ...errors import InputError
from ..evidence.log_evidence import log_evidence
from ..fit.importance import MIN_WEIGHTS_FOR_KHAT
from .drawing.canvas import canvas
from .drawing.compared import Compared, compared
from .drawing.figure import styled
from .drawing.looks import GREY

BAND = 2  # standard errors either side
GOOD, HOPELESS = 0.7, 1.0  # Vehtari et al. 2024
FAR = 20.0  # times the spread of the others, beyond which a value is named at the edge
KINDS = {  # of estimates, in the order they are drawn: column, its error, what it is, whether the marker is filled
    "log evidence": ("log_evidence", "log_evidence_se", "full"),
    "log p(x) of held-out rows, nats a row": ("log_p_test", "log_p_test_se", "full"),
    "ELBO": ("elbo", "elbo_se", "none"),
}


@styled
def plot_evidence(shown: Any, ax: Any = None, figsize: tuple[float, float] | None = None) -> Axes:
    """The log evidence that each fit comes to, nats, with 2 standard errors, and its ELBO, hollow, beside it.

    The distance of the two is KL(q || posterior), as far as the weights of the fit can be believed: see `plot_khat`.
    A value far below the others does not squash them: an arrow points to it, with its figure. Where rows share no
    latent all is nats a row, and log p(x) is that of held-out rows.

    Parameters
    ----------
    shown : Comparison, whose table has the figures, or Fit, of which they are computed.
    ax, figsize : see `pyrometer.plots`.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        No fit has an evidence or an ELBO: points, for example.

    Examples
    --------
    >>> axes = plot_evidence(comparison)
    """
    parts = compared(shown)
    table = _table(parts, "elbo", "log_evidence", "log_p_test")
    known = {kind: columns for kind, columns in KINDS.items() if table[columns[0]].notna().any()}
    if not known:
        raise InputError(f"{', '.join(parts.fits)}: no fit has an evidence or an ELBO to draw")
    table = table[table[[columns[0] for columns in known.values()]].notna().any(axis=1)]
    panels = canvas(ax, 1, 1, (6.4, 1.3 + 0.36 * len(table)), figsize)
    axis, labelled = panels.axes[0], {}
    low, high = _limits(table, [columns[:2] for columns in known.values()])
    for shift, (kind, columns) in zip(np.linspace(-0.13, 0.13, len(known)), known.items(), strict=True):
        _with_errors(axis, table, columns, shift, parts, (low, high))
        labelled[f"{kind}, ± {BAND} se"] = axis.plot([], [], "o", color=GREY, fillstyle=columns[2])[0]
    axis.set_xlim(low, high)
    _rows(axis, table)
    by_row = parts.main.structure.only_local
    axis.set(xlabel="nats a row" if by_row else "nats", title="Evidence and its bound")
    panels.legend(labelled)
    return axis


@styled
def plot_khat(shown: Any, ax: Any = None, figsize: tuple[float, float] | None = None) -> Axes:
    """Pareto k of each fit's importance weights, with what it means (Vehtari et al. 2024).

    Below 0.7 evidence and weighted moments can be believed; above 1 the weights have no mean that draws could find.
    Where rows have latents of their own it is a mean over rows. Markov chains and points have no weights.

    Parameters
    ----------
    shown : Comparison, whose table has the figures, or Fit, of which k-hat is computed.
    ax, figsize : see `pyrometer.plots`.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        No fit has importance weights.

    Examples
    --------
    >>> axes = plot_khat(comparison)
    """
    parts = compared(shown)
    table = _table(parts, "khat").dropna(subset=["khat"])
    if table.empty:
        raise InputError(f"{', '.join(parts.fits)}: {_no_weights(parts)}, so there is no k-hat to draw")
    panels = canvas(ax, 1, 1, (6.4, 1.1 + 0.3 * len(table)), figsize)
    axis, looks = panels.axes[0], parts.looks
    values = table["khat"].clip(-0.5, 3.0)
    left, right = min(0.0, float(values.min()) - 0.1), max(1.25, float(values.max()) + 0.25)
    for start, end, shade, said in ((left, GOOD, "#FFFFFF", "good"), (GOOD, HOPELESS, "#EFEFEF", "bad")):
        axis.axvspan(start, end, color=shade, linewidth=0, zorder=0)
        axis.annotate(said, ((start + end) / 2, 1), (0, 2), ("data", "axes fraction"), "offset points", **_WORD)
    axis.axvspan(HOPELESS, right, color="#D6D6D6", linewidth=0, zorder=0)
    axis.annotate("no use", ((HOPELESS + right) / 2, 1), (0, 2), ("data", "axes fraction"), "offset points", **_WORD)
    for place, (name, k) in enumerate(values.items()):
        look = looks[str(name)]
        axis.plot([left, k], [place, place], color=look.colour, linewidth=1, alpha=0.5)
        axis.plot(k, place, look.marker, color=look.colour, markersize=7)
        axis.annotate(f"{table.loc[name, 'khat']:.2f}", (k, place), (7, 0), "data", "offset points", va="center")
    for limit in (GOOD, HOPELESS):
        axis.axvline(limit, color=GREY, linewidth=0.8, linestyle="--", zorder=1)
    axis.set(xlim=(left, right), xlabel="Pareto k of the importance weights")
    axis.set_title("k-hat", pad=14)
    _rows(axis, table)
    return axis


_WORD: Any = {"color": GREY, "fontsize": 7.5, "ha": "center"}


def _no_weights(shown: Compared) -> str:
    """Why no fit has a k-hat, and what would mend it."""
    if shown.main.structure.only_local:
        return "no k-hat of held-out rows is known (give `compare` some by x_test)"
    if any(len(fit.log_weights) for fit in shown.fits.values()):
        return f"k-hat needs {MIN_WEIGHTS_FOR_KHAT} importance weights that differ (take more draws)"
    return "no fit has importance weights"


def _table(shown: Compared, *columns: str) -> pd.DataFrame:
    """The figures of each fit, those of a Fit alone computed; columns that are not there are NaN."""
    table = shown.table
    if table.empty:
        table = pd.DataFrame({name: _figures(fit) for name, fit in shown.fits.items()}).T
    wanted = [column for name in columns for column in (name, f"{name}_se")]
    return table.reindex(columns=wanted).astype(float).replace([np.inf, -np.inf], [9.99, np.nan])


def _figures(fit: Any) -> dict[str, float]:
    """ELBO, evidence and k-hat of one fit."""
    by_row = fit.structure.only_local
    rows, draws = fit.number_of_rows if by_row else 1, fit.elbo_draws
    found: dict[str, float] = {}
    if len(draws):
        found = {"elbo": draws.mean() / rows, "elbo_se": draws.std() / np.sqrt(len(draws)) / rows}
    if not by_row:
        evidence = log_evidence(fit)
        found |= {"log_evidence": evidence.value, "log_evidence_se": evidence.se, "khat": evidence.khat}
    return found


def _limits(table: pd.DataFrame, columns: list[Any]) -> tuple[float, float]:
    """What shows every value but those FAR below the others."""
    values = np.sort(table[[name for name, _ in columns]].to_numpy().ravel())
    values = values[np.isfinite(values)]
    errors = np.nanmedian(table[[error for _, error in columns]].to_numpy()) if len(values) else 0.0
    kept, floor = values, max(0.5, BAND * float(np.nan_to_num(errors)))
    while len(kept) > 2 and kept[1] - kept[0] > FAR * max(kept[-1] - kept[1], floor):
        kept = kept[1:]
    ends = table[[name for name, _ in columns]].to_numpy()
    bars = BAND * np.nan_to_num(table[[error for _, error in columns]].to_numpy())
    shown = np.isfinite(ends) & (ends >= kept[0])
    low, high = float((ends - bars)[shown].min()), float((ends + bars)[shown].max())
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _with_errors(
    axis: Axes, table: pd.DataFrame, columns: tuple[str, str, Any], shift: float, shown: Compared, ends: Any
) -> None:
    """One kind of estimate, a mark a fit; an arrow at the edge for what lies beyond it."""
    name, error, fill = columns
    for place, (fit, row) in enumerate(table.iterrows()):
        look, value, se = shown.looks[str(fit)], row[name], row[error]
        if not np.isfinite(value):
            continue
        style: Any = {"color": look.colour, "markersize": 6, "clip_on": False}
        if value < ends[0]:
            axis.plot(ends[0], place + shift, "<", fillstyle=fill, **style)
            axis.annotate(f"{value:.1f}", (ends[0], place + shift), (7, 0), "data", "offset points", va="center")
            continue
        axis.plot([value - BAND * se, value + BAND * se], [place + shift] * 2, color=look.colour, linewidth=1.4)
        axis.plot(value, place + shift, look.marker, fillstyle=fill, **style)


def _rows(axis: Axes, table: pd.DataFrame) -> None:
    """A row a fit, from top to bottom."""
    axis.set_yticks(range(len(table)), [str(name) for name in table.index])
    axis.set_ylim(len(table) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
