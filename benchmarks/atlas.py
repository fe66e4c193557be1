"""The atlas: every guide and method on every published posterior and on mixtures, the verdict beside the truth.

Truth is in the published moments, of the mixtures in those of long chains: a fit is good where its worst mean lies
within 0.25 sd and every sd within a factor of 1.25 of them. To docs/ go `atlas.csv`, a row a fit; `atlas.md`, both
confusion tables; `atlas.png`, one picture.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyrometer
from matplotlib import pyplot
from pyrometer import datasets
from pyrometer.guides import catalogue
from pyrometer.inference.compare.verdict import GOOD_BIAS, GOOD_RATIO, verdict_on
from pyrometer.inference.evidence.log_evidence import log_evidence
from pyrometer.inference.fit.convergence import unconverged
from pyrometer.inference.fit.idata import matched_to
from pyrometer.inference.fit.moments import scalars_of
from pyrometer.models import BayesianGMM
from pyrometer.models.gallery import GALLERY, Posterior
from pyrometer.models.structure import Model

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = ("auto_delta", "auto_normal", "auto_low_rank", "auto_mvn", "auto_laplace", "auto_iaf", "auto_structured")
METHODS = ("dadvi", "pathfinder", "bam", "laplace")
HAND_WRITTEN = ("mean_field", "structured", "full_mean_field")
MIXTURES = (
    ("Old Faithful, two components", BayesianGMM(2), datasets.faithful()),
    ("galaxies, three components", BayesianGMM(3), datasets.galaxies()),
    ("wine, three components", BayesianGMM(3, covariance="diagonal"), datasets.wine()),
)
LONG = 5000  # draws of each chain that tells the truth
ALARMS = ("not to be trusted", "not trained")
TRUSTED = "means and spreads"
COLOURS = {"means and spreads": "#2a9d8f", "means": "#e9c46a", "not to be trusted": "#e76f51", "not trained": "#9b5de5"}


Distance = tuple[float, float, float]  # of the worst mean, in true sds; the smallest sd and the largest over the true


@dataclass(frozen=True)
class Case:
    """A posterior. truth: how far a fit is from what is known. guides: names for `svi`."""

    name: str
    model: Model
    data: Any
    truth: Callable[[pyrometer.Fit], Distance]
    guides: tuple[str, ...] = GUIDES
    methods: tuple[str, ...] = METHODS


def main(folder: Path = DOCS) -> pd.DataFrame:
    """Fit, judge, and write."""
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for case in cases():
        rows += _rows(case)
        table = pd.DataFrame(rows)  # written as far as it is known, for the whole takes a while
        table.to_csv(folder / "atlas.csv", index=False, float_format="%.3g")
        (folder / "atlas.md").write_text(_report(table), encoding="utf-8")
        figure = _picture(table)
        figure.savefig(folder / "atlas.png", dpi=110)
        pyplot.close(figure)
    return table


def cases() -> Iterator[Case]:
    """The published posteriors, then the mixtures, whose long chains are run when it is their turn."""
    for posterior in GALLERY.values():
        yield Case(posterior.name, posterior.model, posterior.data(), partial(_from_published, posterior))
    for name, model, x in MIXTURES:
        chains = pyrometer.nuts(model, x, draws=LONG, seed=1, progress=False)
        guides = (*GUIDES, *(guide for guide in catalogue(model) if guide in HAND_WRITTEN))
        yield Case(name, model, x, partial(_from_chains, chains), guides, (*METHODS, "cavi"))


def _rows(case: Case) -> list[dict[str, Any]]:
    """A row a fit: what is true of it, and what is said of it with a reference and without one."""
    reference, rows = pyrometer.nuts(case.model, case.data, draws="auto", progress=False), []
    known = None if unconverged(reference) else reference
    methods = {name: getattr(pyrometer, name) for name in case.methods}
    for name, method in {**{guide: partial(pyrometer.svi, guide=guide) for guide in case.guides}, **methods}.items():
        began = time.perf_counter()
        try:
            fit = method(case.model, x=case.data, progress=False, name=name)
        except pyrometer.InputError as error:
            print(f"{case.name:45s} {name:16s} skipped: {error}", flush=True)
            continue
        took = time.perf_counter() - began
        bias, low, high = case.truth(fit)
        held = verdict_on(matched_to(fit, reference.pivot()), known)
        alone = verdict_on(fit, None)
        rows.append(
            {
                "posterior": case.name,
                "fit": name,
                "bias": bias,
                "sd_ratio": low,
                "sd_ratio_max": high,
                "good": bias <= GOOD_BIAS and low >= GOOD_RATIO[0] and high <= GOOD_RATIO[1],
                "elbo": float(np.mean(fit.elbo_draws)) if len(fit.elbo_draws) else np.nan,
                "khat": log_evidence(fit).khat,
                "converged": fit.converged,
                "with_reference": held.word,
                "alone": alone.word,
                "seconds": took,
                "why_alone": alone.why,
            }
        )
        last = rows[-1]
        said = f"bias {bias:5.2f} sd ratio {low:4.2f} to {high:4.2f} good={last['good']!s:5} {held.word} / {alone.word}"
        print(f"{case.name:45s} {name:16s} {took:6.1f} s  {said}", flush=True)
    return rows


def _from_published(posterior: Posterior, fit: pyrometer.Fit) -> Distance:
    known = posterior.reference()
    draws = posterior.scalars({str(name): values.values for name, values in fit.posterior.data_vars.items()})
    off = [abs(values.mean() - known.loc[name, "mean"]) / known.loc[name, "sd"] for name, values in draws.items()]
    ratios = [values.std() / known.loc[name, "sd"] for name, values in draws.items()]
    return float(max(off)), float(min(ratios)), float(max(ratios))


def _from_chains(chains: pyrometer.Fit, fit: pyrometer.Fit) -> Distance:
    known = scalars_of(chains).moving()
    found = scalars_of(matched_to(fit, chains.pivot())).of(known.names)
    sd = known.draws.std(0)
    ratios = found.draws.std(0) / sd
    return (
        float((np.abs(found.draws.mean(0) - known.draws.mean(0)) / sd).max()),
        float(ratios.min()),
        float(ratios.max()),
    )


def confusion(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """How often each verdict was given, of good fits and of others; points left out."""
    spread = table[table[column] != "point"]
    return pd.crosstab(spread[column], spread["good"].map({True: "good", False: "not good"}))


def shares(table: pd.DataFrame, column: str) -> tuple[float, float]:
    """False trust: trusted fits that are not good, of all. False alarms: good fits not believed, of the good."""
    spread = table[table[column] != "point"]
    good = spread["good"]
    return float(((spread[column] == TRUSTED) & ~good).mean()), float(spread.loc[good, column].isin(ALARMS).mean())


def _report(table: pd.DataFrame) -> str:
    said = {"with_reference": "With NUTS for a reference", "alone": "Without a reference"}
    names = [*GALLERY, *(name for name, *_ in MIXTURES)]
    left = [name for name in names if name not in set(table["posterior"])]
    held = f"{len(table)} fits of {table['posterior'].nunique()} posteriors"
    missing = f"; not in here: {', '.join(left)}" if left else ""
    parts = [f"# The atlas\n\n{(__doc__ or '').strip()}\n\n{held}{missing}.\n\n![Verdicts](atlas.png)\n"]
    for column, title in said.items():
        trust, alarm = shares(table, column)
        told = f"False trust: {trust:.1%} of all fits. False alarms: {alarm:.1%} of the good ones."
        parts.append(f"## {title}\n\n{_markdown(confusion(table, column))}\n\n{told}\n")
    good = table.groupby("fit", sort=False).agg(
        good=("good", "sum"), of=("good", "size"), seconds=("seconds", "median")
    )
    parts.append(f"## Which guide\n\n{_markdown(good.round(1))}\n")
    return "\n".join(parts)


def _markdown(table: pd.DataFrame) -> str:
    head = [f"| | {' | '.join(map(str, table.columns))} |", f"|---|{'---|' * len(table.columns)}"]
    return "\n".join(
        [*head, *(f"| {row[0]} | {' | '.join(map(str, row[1:]))} |" for row in table.itertuples(name=None))]
    )


def _picture(table: pd.DataFrame) -> Any:
    """Each fit a field in the colour of its verdict, without a reference; a cross where it is not good."""
    fits, posteriors = list(dict.fromkeys(table["fit"])), list(dict.fromkeys(table["posterior"]))
    figure, axes = pyplot.subplots(1, 2, figsize=(15, 0.42 * len(posteriors) + 2), layout="constrained", sharey=True)
    for axis, (column, title) in zip(axes, {"with_reference": "held to NUTS", "alone": "alone"}.items(), strict=True):
        for row in table.itertuples():
            x, y = fits.index(row.fit), posteriors.index(row.posterior)
            word = getattr(row, column)
            axis.add_patch(pyplot.Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, color=COLOURS.get(word, "#cccccc")))
            if not row.good:
                axis.plot(x, y, "x", color="black", markersize=7)
        axis.set_xlim(-0.6, len(fits) - 0.4)
        axis.set_ylim(len(posteriors) - 0.4, -0.6)
        axis.set_xticks(range(len(fits)), fits, rotation=45, ha="right")
        axis.set_yticks(range(len(posteriors)), [name.split("-")[-1] for name in posteriors])
        axis.set_title(f"Verdict, {title}")
    marks = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in (*COLOURS.values(), "#cccccc")]
    cross = pyplot.Line2D([], [], color="black", marker="x", linestyle="")
    axes[1].legend([*marks, cross], [*COLOURS, "point", "not good in truth"], loc="upper left", bbox_to_anchor=(1, 1))
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
