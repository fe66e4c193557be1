"""How training went: minus the ELBO by step, smoothed, and whether it came to its end."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from ...errors import InputError
from .drawing.canvas import Canvas, canvas, on_figure
from .drawing.compared import Compared, compared
from .drawing.figure import say, styled
from .drawing.looks import GREY

if TYPE_CHECKING:
    from ..fit.fit import Fit

SHARE = 0.03  # of the steps, what a smoothed line averages over
BURN = 0.1  # of the steps, what the scale of the axis leaves out of account
NOISE = (0.25, 0.75)  # quantiles of the losses that a smoothed line averages over
POINTS, MARKS = 2000, 6  # of a line: a picture needs no more
SENTENCE = 76  # characters of a line of the legend


@styled
def plot_losses(shown: Any, ax: Any = None, figsize: tuple[float, float] | None = None) -> Axes:
    """The loss, minus the ELBO in nats, by step: a running mean, half of what it averages over faintly behind.

    Where training ended stands a mark: filled where it converged, hollow where it did not; the legend says by what
    figure. A row, where rows share no latent; the loss of held-out rows dotted, where it is known. Early spikes run out
    of the picture.

    Parameters
    ----------
    shown : Comparison or Fit.
    ax, figsize : see `pyrometer.plots`.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        No fit was trained step by step: Markov chains, for example.

    Examples
    --------
    >>> axes = plot_losses(comparison)
    """
    parts = compared(shown)
    trained = _trained(parts)
    if not trained:
        raise InputError(f"{', '.join(parts.fits)}: no fit was trained step by step, so there are no losses to draw")
    panels = canvas(ax, 1, 1, (6.4, 3.4 + 0.2 * len(trained)), figsize)
    labelled = _draw(panels.axes[0], trained, parts)
    said = {_sentence(name, trained.get(name)): line for name, line in labelled.items()}
    panels.legend(said, columns=1)
    return panels.axes[0]


def draw_losses(figure: FigureBase, shown: Compared) -> None:
    """What `plot_losses` shows, on a figure, with no more than names in its legend."""
    trained = _trained(shown)
    if not trained:
        say(figure, "no fit was trained step by step")
        return
    panels: Canvas = on_figure(figure, 1, 1)
    labelled = _draw(panels.axes[0], trained, shown)
    if len(shown.fits) > 1 or len(labelled) > 1:
        panels.legend(labelled, columns=2 if len(labelled) < 9 else 3)


def _trained(shown: Compared) -> dict[str, Fit]:
    return {name: fit for name, fit in shown.fits.items() if len(fit.losses)}


def _sentence(name: str, fit: Fit | None) -> str:
    """The line of the legend: whether training converged, and the figure that says so."""
    if fit is None:  # the held-out losses of one
        return name
    if fit.converged is None:
        said = fit.message or f"{fit.steps} steps"
    elif fit.converged:
        said = f"converged: {fit.why}" if fit.why else "converged"
    else:
        said = f"not converged: {fit.why}" if fit.why else "not converged"
    return textwrap.fill(f"{name}: {said}", SENTENCE, subsequent_indent="   ", max_lines=2, placeholder=" …")


def _draw(axis: Axes, trained: dict[str, Fit], shown: Compared) -> dict[str, Any]:
    """The lines on an axis; what a legend calls them, name -> line."""
    by_row = all(fit.structure.only_local for fit in trained.values())
    losses = {name: fit.losses / (fit.number_of_rows if by_row else 1) for name, fit in trained.items()}
    low, high = limits(losses.values())
    labelled, looks = dict[str, Any](), shown.looks
    for name, loss in losses.items():
        look, held_out = looks[name], getattr(trained[name], "test_losses", ())
        steps = np.unique(np.linspace(0, len(loss) - 1, min(len(loss), POINTS)).astype(int))
        bottom, top = (values[steps] for values in noise(loss))
        axis.fill_between(steps, bottom, top, color=look.colour, alpha=0.1, linewidth=0)
        line = smoothed(loss)
        style: Any = {"color": look.colour, "linestyle": look.dashes, "linewidth": 1.4, "label": name}
        style |= {"marker": look.marker, "markersize": 3.5, "markevery": max(1, len(steps) // MARKS)}
        labelled[name] = axis.plot(steps, line[steps], **style)[0]
        full: Any = {"fillstyle": "none" if trained[name].converged is False else "full", "clip_on": False}
        axis.plot(len(loss) - 1, line[-1], look.marker, color=look.colour, markersize=6, zorder=3, **full)
        if len(held_out):
            places = np.arange(1, len(held_out) + 1) * len(loss) / len(held_out)
            other: Any = {"color": look.colour, "linewidth": 1.2, "label": f"{name}, held out"}
            labelled[f"{name}, held out"] = axis.plot(places, held_out, ":", **other)[0]
            low, high = min(low, *held_out), max(high, *held_out[len(held_out) // 2 :])
    longest = max(map(len, losses.values()))
    axis.set(xlabel="step", ylabel="nats a row" if by_row else "nats", xlim=(0, longest), ylim=(low, high))
    axis.set_title("Training: minus the ELBO")
    if any(fit.converged is False for fit in trained.values()):
        axis.annotate("hollow: not converged", (1, 1), (0, -8), "axes fraction", "offset points", ha="right", **_SMALL)
    return labelled


_SMALL: Any = {"color": GREY, "fontsize": 7.5}


def smoothed(loss: np.ndarray) -> np.ndarray:
    """A running mean over some of the steps: (steps,) -> (steps,)."""
    return _windows(loss).mean().to_numpy()


def noise(loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quantiles NOISE of what the running mean averages over: (steps,) each."""
    low, high = (_windows(loss).quantile(share).to_numpy() for share in NOISE)
    return low, high


def _windows(loss: np.ndarray) -> Any:
    window = max(1, round(SHARE * len(loss)))
    return pd.Series(loss).rolling(window, center=True, min_periods=1)


def limits(losses: Iterable[np.ndarray]) -> tuple[float, float]:
    """The range that shows every smoothed line from a tenth of its steps on; spikes of the start run out of it."""
    late = [smoothed(loss)[int(BURN * len(loss)) :] for loss in losses]
    low = min(float(np.nanmin(loss)) for loss in late)
    high = max(float(np.nanmax(loss)) for loss in late)
    margin = 0.1 * (high - low) or 1.0
    return low - margin, high + margin
