"""compare for a VAE: guides for one decoder, and what each loses to its family and to its encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ..errors import InputError
from ..guides import GuideFactory
from ..models import VAE
from .comparison import Comparison
from .data import Data, Tabular, as_new_data
from .fit import Fit
from .fits import fit_all
from .gap_plots import plot_gaps
from .gaps import amortisation_gaps, summarised
from .plots import plot_losses
from .row_fit import RowFit, tells_new, tells_q
from .row_plots import plot_latent, plot_portrait, plot_reconstructions
from .save import NOTES, netcdfs, notes, pictures, tables, write_all
from .svi import svi, training_data

__all__ = ["ROW_COLUMNS", "RowComparison", "compare_rows"]

ROW_COLUMNS = (
    "estimator",
    "elbo",
    "elbo_se",
    "elbo_test",
    "log_p_test",
    "log_p_test_se",
    "khat",
    "gap",
    "gap_se",
    "approximation_gap",
    "amortisation_gap",
    "bias",
    "sd_ratio",
    "active",
    "steps",
    "seconds",
)
LR, BATCH = 3e-3, 128
DRAWS = 200  # of importance sampling, a row


@dataclass(frozen=True, eq=False, repr=False)
class RowComparison(Comparison):
    """Several guides of one VAE, the decoder the same for all.

    gaps : a row each (guide, data row), the columns of `inference.gaps.amortisation_gaps`; empty without NUTS.
    decoder : the model that all guides but the first were fitted to, frozen.
    """

    gaps: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    decoder: VAE | None = field(default=None, repr=False)

    def plot(self) -> Figure:
        """The gaps of each guide and its q(z | x) against NUTS; the losses where there was no NUTS."""
        return plot_gaps(self.gaps) if len(self.gaps) else plot_losses(self)

    def save(self, folder: str | Path) -> list[Path]:
        """Write table.csv, gaps.csv, one NetCDF a fit and the pictures into a folder; what was written."""
        files = {**tables({"table": self.table, "gaps": self.gaps}), **netcdfs(self.fits)}
        draws: dict[str, Callable[[], Figure]] = {"comparison.png": self.plot, "losses.png": partial(plot_losses, self)}
        first = next(iter(self.fits.values()))
        if isinstance(first, RowFit) and tells_q(first.guide):
            draws |= {"portrait.png": partial(plot_portrait, first), "latent.png": partial(plot_latent, first)}
            draws |= {"reconstructions.png": partial(plot_reconstructions, first)}
        return write_all(folder, {**files, **pictures(draws), **notes(self.remarks())}, (NOTES, "gaps.csv"))


def compare_rows(
    model: VAE,
    x: Tabular,
    guides: Mapping[str, str | GuideFactory],
    *,
    x_test: Tabular | None,
    rows: int | Sequence[int],
    nuts: dict[str, Any] | None,
    jobs: int,
    batch_size: int | None,
    **work: Any,
) -> RowComparison:
    """Fit the guides and hold each to NUTS over z on some rows; see `compare`.

    nuts: settings of `latent_nuts`; None leaves it and the gaps out. work: what `svi` takes.
    """
    if not guides:
        raise InputError("a VAE needs a guide: name one, encoder say")
    data = training_data(model, x)
    if x_test is not None:
        model.check(as_new_data(x_test, data, name="x_test"))
    chosen = _chosen(rows, len(data.values))
    batch_size = batch_size or model.batch_size
    todo = {
        name: partial(svi, guide=guide, x=data, name=name, lr=LR, batch_size=batch_size or _batch(guide, data), **work)
        for name, guide in guides.items()
    }
    fits, skipped, decoder = _fitted(replace(model, batch_size=None), todo, jobs)
    told = {name: fit.by_row() for name, fit in fits.items() if tells_q(fit.guide)}
    remarks, gaps = list(_remarks(fits)), pd.DataFrame()
    if nuts is not None and told:
        settings = {"progress": work["progress"], **nuts}
        x_chosen = data.values[chosen]
        try:
            gaps = amortisation_gaps(decoder, told, x_chosen, rows=chosen, nuts=settings, seed=work["seed"])
            remarks.append(_of_gaps(gaps))
        except KeyboardInterrupt:  # the fits are not lost
            remarks.append("interrupted before the gaps were known")
    summary = summarised(gaps) if len(gaps) else gaps
    table = pd.DataFrame([_scores(fit, x_test, summary) for fit in fits.values()], index=list(fits))
    return RowComparison(dict(fits), table, None, skipped, notes=tuple(remarks), gaps=gaps, decoder=decoder)


def _fitted(
    model: VAE, todo: Mapping[str, Callable[..., Fit]], jobs: int
) -> tuple[dict[str, RowFit], dict[str, str], VAE]:
    """Every fit that works, why the others did not, and the decoder: the model's, or that of the first fit."""
    fits: dict[str, Any] = {}
    if not model.is_frozen:
        name, job = next(iter(todo.items()))
        fits = dict(fit_all({name: partial(job, model)}, 1)[0])
        model = fits[name].vae.frozen()
    left = {name: partial(job, model) for name, job in todo.items() if name not in fits}
    if not left:
        return fits, {}, model
    try:
        others, skipped = fit_all(left, jobs)
    except Exception as error:  # none of them works
        if not fits:
            raise
        others, skipped = {}, dict.fromkeys(left, str(error))
    return fits | others, skipped, model


def _batch(guide: str | GuideFactory, data: Data) -> int | None:
    """Rows a step: all of them for a guide with numbers of its own for each, which sees a row in no other way."""
    own = isinstance(guide, str) and (guide == "free" or guide.startswith("auto_"))
    return None if own or len(data.values) <= BATCH else BATCH


def _chosen(rows: int | Sequence[int], number: int) -> torch.Tensor:
    """The numbers of the rows: those given, or so many evenly spaced."""
    if isinstance(rows, int):
        if not rows >= 1:
            raise InputError(f"rows={rows} must be 1 or more, or the numbers of the rows")
        return torch.linspace(0, number - 1, min(rows, number)).round().long()
    chosen = torch.as_tensor(list(rows))
    if chosen.numel() == 0 or chosen.is_floating_point() or not ((chosen >= 0) & (chosen < number)).all():
        raise InputError(f"rows must be numbers of rows from 0 to {number - 1}")
    return chosen


def _scores(fit: RowFit, x_test: Tabular | None, summary: pd.DataFrame) -> dict[str, Any]:
    """One row of the table, keyed by ROW_COLUMNS: nats a row; NaN where something does not apply."""
    number = len(fit.data.values)
    row: dict[str, Any] = dict.fromkeys(ROW_COLUMNS, np.nan)
    row |= {"estimator": fit.estimator, "steps": fit.steps, "seconds": fit.seconds}
    row["elbo"] = fit.elbo_draws.mean() / number
    row["elbo_se"] = fit.elbo_draws.std(ddof=1) / np.sqrt(len(fit.elbo_draws)) / number
    if tells_q(fit.guide):
        row["active"] = int(fit.active_units().sum())
        if x_test is not None and tells_new(fit.guide):
            test = fit.marginal_likelihood(x_test, ("elbo", "importance"), draws=DRAWS)
            row["elbo_test"] = test.loc["elbo", "nats"]
            names = {"nats": "log_p_test", "se": "log_p_test_se", "khat": "khat"}
            row |= {ours: test.loc["importance", theirs] for theirs, ours in names.items()}
    if fit.name in summary.index:
        columns = ("gap", "gap_se", "approximation_gap", "amortisation_gap", "bias", "sd_ratio")
        row |= {column: summary.loc[fit.name, column] for column in columns}
    return row


def _remarks(fits: Mapping[str, RowFit]) -> Iterator[str]:
    """What a reader of the table must know of the fits."""
    for name, fit in fits.items():
        if fit.message:
            yield f"{name}: {fit.message}"
        if not tells_q(fit.guide):
            yield f"{name}: its q(z | x) cannot be had row by row, so no gap"


def _of_gaps(gaps: pd.DataFrame) -> str:
    sound = gaps.groupby(level="guide")["converged"].sum().iloc[0]
    return (
        f"gaps are means over {len(gaps.index.unique('row'))} rows, nats a row; NUTS converged on {sound} of them, "
        "and bias and sd_ratio are medians over those"
    )
