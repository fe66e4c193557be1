"""The atlas: every guide and method on every published posterior, the verdict beside the truth.

Truth is in the published moments: a fit is good where its worst mean lies within 0.25 sd and every sd within a factor
of 1.25 of them. To docs/ go `atlas.csv`, a row a fit; `atlas.md`, both confusion tables; `atlas.png`, one picture.
"""

from __future__ import annotations

import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyrometer
from matplotlib import pyplot
from pyrometer.inference.compare.verdict import GOOD_BIAS, GOOD_RATIO, verdict_on
from pyrometer.inference.evidence.log_evidence import log_evidence
from pyrometer.inference.fit.convergence import unconverged
from pyrometer.models.gallery import GALLERY, Posterior

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = ("auto_delta", "auto_normal", "auto_low_rank", "auto_mvn", "auto_laplace", "auto_iaf", "auto_structured")
METHODS = ("dadvi", "pathfinder", "bam", "laplace")
ALARMS = ("not to be trusted", "not trained")
TRUSTED = "means and spreads"
COLOURS = {"means and spreads": "#2a9d8f", "means": "#e9c46a", "not to be trusted": "#e76f51", "not trained": "#9b5de5"}


def main(folder: Path = DOCS) -> pd.DataFrame:
    """Fit, judge, and write."""
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for posterior in GALLERY.values():
        rows += _rows(posterior)
        table = pd.DataFrame(rows)  # written as far as it is known, for the whole takes a while
        table.to_csv(folder / "atlas.csv", index=False, float_format="%.3g")
        (folder / "atlas.md").write_text(_report(table), encoding="utf-8")
        figure = _picture(table)
        figure.savefig(folder / "atlas.png", dpi=110)
        pyplot.close(figure)
    return table


def _rows(posterior: Posterior) -> list[dict[str, Any]]:
    """A row a fit: what is true of it, and what is said of it with a reference and without one."""
    reference, rows = pyrometer.nuts(posterior.model, posterior.data(), draws="auto", progress=False), []
    methods = {name: getattr(pyrometer, name) for name in METHODS if hasattr(pyrometer, name)}
    entries = {**{guide: partial(pyrometer.svi, guide=guide) for guide in GUIDES}, **methods}
    for name, method in entries.items():
        began = time.perf_counter()
        try:
            fit = method(posterior.model, x=posterior.data(), progress=False, name=name)
        except pyrometer.InputError as error:
            print(f"{posterior.name:45s} {name:16s} skipped: {error}", flush=True)
            continue
        took = time.perf_counter() - began
        bias, low, high = truth(posterior, fit)
        held = verdict_on(fit, None if unconverged(reference) else reference)
        alone = verdict_on(fit, None)
        rows.append(
            {
                "posterior": posterior.name,
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
        print(f"{posterior.name:45s} {name:16s} {took:6.1f} s  {said}", flush=True)
    return rows


def truth(posterior: Posterior, fit: pyrometer.Fit) -> tuple[float, float, float]:
    """The worst mean, in published sds, and the smallest and largest sd over the published one."""
    known = posterior.reference()
    draws = posterior.scalars({str(name): values.values for name, values in fit.posterior.data_vars.items()})
    off = [abs(values.mean() - known.loc[name, "mean"]) / known.loc[name, "sd"] for name, values in draws.items()]
    ratios = [values.std() / known.loc[name, "sd"] for name, values in draws.items()]
    return float(max(off)), float(min(ratios)), float(max(ratios))


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
    left = [name for name in GALLERY if name not in set(table["posterior"])]
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
