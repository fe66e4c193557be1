"""Comparison: several fits of one model, and the table that sets them side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame, concat

from ...display.table import Table, as_html, as_text
from ...errors import first_line
from ...models.structure import Model
from ..data.data import SHOWN_ROWS
from ..data.outliers import outliers
from ..density.log_density import Density
from ..density.row_density import RowDensity
from ..fit.convergence import unconverged
from ..fit.fit import Fit
from ..fit.idata import matched_to
from ..local_latents.gaps import amortisation_gaps, summarised
from ..local_latents.row_fit import RowFit
from ..local_latents.target import target_of, tells_new, tells_q
from ..plots.comparison import plot
from ..report.comparison import report_of
from ..report.page import check_page, write_page
from ..report.save import save
from ..runtime.interrupts import asked_to_end
from .columns import COLUMNS, INVARIANTS, ROW_COLUMNS, Scored, table_of
from .decoder import judge_decoder, what_loses
from .entries import METHODS, Entries, Outcome, Problem, chosen_guides, run
from .marks import marked
from .summary import Headline, Step, advice, headline
from .verdict import TRUSTED

FAR = 3  # standard errors between two figures for one evidence beyond which a reader should know


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several fits of one model to the same data.

    Attributes
    ----------
    fits : name -> Fit, all with their labels in the order of the reference, or of the first.
    table : a row a fit, the columns of `pyrometer.inference.compare.columns`: COLUMNS, or ROW_COLUMNS, in nats a row,
        where rows share no continuous latent.
    reference : the name of the fit that bias and sd_ratio are measured against; None where there is none.
    skipped : what could not be fitted, name -> why.
    notes : what a reader of the table must know: a reference that did not converge, a score that failed.
    parameters : a row each (fit, scalar): mean, sd, bias, sd_ratio and their Monte Carlo errors; see `verdict`.
    invariant : label-invariant distances from the reference, or from the first, a row a fit, columns INVARIANTS; empty
        where the model has no plate of rows, or rows share no latent.
    gaps : a row each (guide, data row), see `amortisation_gaps`; empty where rows share a latent.
    model : what was fitted; where rows share no latent, with its params as the first guide trained them.
    problem : the model and the data as `compare` was given them, and its options.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> model, exact = CorrelatedGaussian(), pyrometer.laplace(CorrelatedGaussian(), "faithful", progress=False)
    >>> comparison = pyrometer.compare(model, "faithful", [], methods=["dadvi"], reference=exact, progress=False)
    >>> comparison.reference, list(comparison), comparison["dadvi"].estimator
    ('laplace', ['laplace', 'dadvi'], 'DADVI')
    >>> float(comparison.table.loc["dadvi", "sd_ratio"]) < 0.5  # mean field leaves sqrt(1 - 0.9^2) of it
    True
    """

    fits: dict[str, Fit]
    table: DataFrame
    reference: str | None
    skipped: dict[str, str]
    notes: tuple[str, ...]
    parameters: DataFrame
    invariant: DataFrame
    gaps: DataFrame
    model: Model
    problem: Problem

    def __getitem__(self, name: str) -> Fit:
        if name not in self.fits:
            why = f": it was skipped, {self.skipped[name]}" if name in self.skipped else ""
            raise KeyError(f"no fit {name!r}{why}; there are {', '.join(self.fits)}")
        return self.fits[name]

    def __len__(self) -> int:
        return len(self.fits)

    def __iter__(self) -> Iterator[str]:
        return iter(self.fits)

    def _repr_html_(self) -> str:
        return str(as_html(self.marked(), self.remarks(), self.headline().sentence))

    def __repr__(self) -> str:
        return "\n".join([as_text(self.marked()), self.headline().sentence, *self.remarks()])

    @cached_property
    def reference_fault(self) -> str:
        """What speaks against the convergence of the reference; empty where nothing does, or where there is none."""
        return "" if self.reference is None else unconverged(self.fits[self.reference])

    def marked(self) -> Table:
        """The table as it is shown: rounded, with what is best and what is doubtful marked."""
        chains = {name: fit.posterior.sizes["chain"] for name, fit in self.fits.items()}
        return marked(self.table, chains, self.reference if self.reference_fault else None)

    def remarks(self) -> list[str]:
        """What stands below the table: the notes, and what was skipped."""
        return [*self.notes, *(f"{name} was skipped: {why}" for name, why in self.skipped.items())]

    def add(self, more: Entries) -> Comparison:
        """A Comparison with more entries, as `compare` takes them; what is here is not run again."""
        added = chosen_guides(self.problem, more)
        fits, skipped, model = run(self.problem, {**self.fits, **added}, self.model)
        kept = {name: why for name, why in self.skipped.items() if name not in fits}
        known = self.gaps[~self.gaps.index.isin(list(added), level=0)]
        reference = "nuts" if len(self.gaps) else self.reference  # over z, which is no fit
        return compared(self.problem, (fits, {**kept, **skipped}, model), reference, known)

    def plot(self) -> Figure:
        """All that can be drawn of the fits in one picture; `inference.plots` has each part alone."""
        return plot(self)

    def headline(self) -> Headline:
        """The verdicts in a sentence, and whether these are good, partly, or bad."""
        return headline(self)

    def advice(self) -> list[Step]:
        """What to try next, with the lines of code that do it; which fit to use, where one can be trusted."""
        return advice(self)

    def report(self, path: str | Path, *, command: str = "") -> Path:
        """Write a report into one HTML file that needs no network: verdict, table, pictures, model, how to reproduce.

        command : the shell command that led to it, shown as such. Raises InputError where nothing can be written there.
        """
        return write_page(check_page(path), report_of(self, METHODS, command))

    def save(self, folder: str | Path, *, command: str = "") -> list[Path]:
        """Write table, fits, pictures and report into a folder, for `pyrometer.load`; what was written.

        command : as `report` has it.
        """
        return save(self, folder, METHODS, command)


def compared(problem: Problem, outcome: Outcome, reference: str | None, gaps: DataFrame) -> Comparison:
    """Fits brought to one labelling and scored. outcome: of `run`. gaps: those known already."""
    fits, skipped, model = outcome
    standard = fits.get(reference or "")
    first = standard or next(iter(fits.values()))
    pivot, by_row = first.pivot(), problem.structure.only_local
    fits = {name: fit if fit is first else matched_to(fit, pivot) for name, fit in fits.items()}
    notes = [*_notes(fits), *outliers(problem.data), *_of_file(problem)]
    if by_row and reference:
        gaps, more = _gaps(problem, fits, model, gaps)
        notes += more
    if problem.test is not None and problem.structure.rows is None:
        notes.append("no lpd_test: the model has no plate of rows, so that none can be held out")
    means = summarised(gaps).to_dict("index") if len(gaps) else {}
    lead = Scored(first, standard, problem.test, means.get(first.name, {}), var_names=problem.var_names)
    scored = [
        lead if fit is first else replace(lead, fit=fit, gaps=means.get(name, {}), first=lead)
        for name, fit in fits.items()
    ]
    table, lost = table_of(scored, ROW_COLUMNS if by_row else COLUMNS)
    notes += [
        *_verdicts(scored),
        *_what_loses(first, gaps, fits, problem),
        *lost,
        *(remark for each in scored for remark in each.remarks()),
    ]
    notes += _disagreements(table)
    if standard is not None and (fault := unconverged(standard)):
        table.loc[reference, "estimator"] += " (not converged)"
        notes.insert(0, f"the reference {reference} did not converge ({fault}): do not trust bias and sd_ratio")
    has_distances = not by_row and first.structure.rows is not None
    distances, lost = _distances(lead, scored) if has_distances else (DataFrame(), [])
    held_to = reference if standard is not None else None
    long = {} if by_row else {each.fit.name: each.parameters for each in scored}
    parameters = concat(long, names=["fit"]) if long else DataFrame()
    said = tuple(dict.fromkeys((*notes, *lost)))  # once where it is of the table and of the distances
    return Comparison(fits, table, held_to, skipped, said, parameters, distances, gaps, model, problem)


def _of_file(problem: Problem) -> list[str]:
    """What is told of some rows only, where they lie in a file."""
    if problem.data.mapped is None:
        return []
    shown = f"pictures and the distances in `invariant` are of {SHOWN_ROWS:,} evenly spaced ones"
    return [f"{problem.data.rows:,} rows lie in a file; {shown}"]


def _verdicts(scored: Sequence[Scored]) -> Iterator[str]:
    """Why each fit has its verdict, a sentence each; of chains that converged there is nothing to say."""
    for each in scored:
        found = each.__dict__.get("verdict")
        if found is not None and not (each.fit.is_mcmc and found.word == TRUSTED):
            yield f"{each.fit.name}: {found.word}: {found.why}"


def _what_loses(first: Fit, gaps: DataFrame, fits: Mapping[str, Fit], problem: Problem) -> Iterator[str]:
    """Which guide to take, and what loses: its family, its encoder or the decoder; nothing where no gaps are known."""
    if not len(gaps) or not isinstance(first, RowFit):
        return
    judged = None
    try:
        judged = judge_decoder(first, problem.test, problem.seed)
    except KeyboardInterrupt:  # the fits are not lost
        yield "interrupted before the decoder was judged"
    except Exception as error:
        yield f"the decoder is not judged ({first_line(error)})"
    amortised = [name for name, fit in fits.items() if isinstance(fit, RowFit) and tells_new(fit.guide)]
    if said := what_loses(summarised(gaps), amortised, judged):
        yield said


def _distances(lead: Scored, scored: Sequence[Scored]) -> tuple[DataFrame, list[str]]:
    """Label-invariant distances, a row a fit, and notes; what the first fit has not is not asked of the others."""
    own, lost = table_of([lead], INVARIANTS)
    known = [column for column in INVARIANTS if own[column.name].notna().all()]
    others, more = table_of([each for each in scored if each is not lead], known)
    return own.reindex([each.fit.name for each in scored]).fillna(others), [*lost, *more]


def _disagreements(table: DataFrame) -> Iterator[str]:
    """Where a guide's evidence and that of Markov chains are further apart than their errors allow."""
    if "log_evidence" not in table:
        return
    known = table.dropna(subset=["log_evidence", "log_evidence_se"])
    bridged = known["khat"].isna() & known["divergences"].notna()
    for chains in known[bridged].itertuples():
        for guide in known[~bridged].itertuples():
            apart = guide.log_evidence - chains.log_evidence
            if abs(apart) > FAR * np.hypot(guide.log_evidence_se, chains.log_evidence_se):
                what = f"log evidence by {guide.Index} is {apart:+.1f} nats from that by the chains of {chains.Index}"
                yield f"{what}, beyond {FAR} standard errors of both: one of them misses part of the posterior"


def _notes(fits: Mapping[str, Fit]) -> Iterator[str]:
    """What a reader must know of the fits; what several share is said once."""
    shared: dict[str, list[str]] = {}
    for name, fit in fits.items():
        for remark in filter(None, (fit.message, *fit.remarks)):
            shared.setdefault(remark, []).append(name)
        if len(fit.optima):
            yield f"{name}: {len(fit.optima)} starts ended {np.ptp(fit.optima):.1f} nats apart; the best is shown"
    for remark, names in shared.items():
        yield remark if len(names) == len(fits) > 1 else f"{', '.join(names)}: {remark}"


def _gaps(problem: Problem, fits: Mapping[str, Fit], model: Model, known: DataFrame) -> tuple[DataFrame, list[str]]:
    """The gaps of every guide, those known already as they are, and what a reader must know of them."""
    chosen = problem.chosen_rows
    told = {name: fit.guide for name, fit in fits.items() if isinstance(fit, RowFit) and tells_q(fit.guide)}
    notes = [f"{name}: its q(z | x) cannot be had row by row, so no gap" for name in fits if name not in told]
    left = {name: guide for name, guide in told.items() if name not in known.index.get_level_values(0)}
    if left and not asked_to_end():
        given = {name: problem.nuts.get(name, "auto") for name in ("warmup", "draws", "chains")}
        sizes = {name: value for name, value in given.items() if value != "auto"}
        settings = {"progress": problem.progress, **sizes}
        density = RowDensity(Density(model, problem.data), problem.data.take(chosen))
        try:
            targets = {name: target_of(density, guide, chosen) for name, guide in left.items()}
            more = amortisation_gaps(targets, nuts=settings, seed=problem.seed)
            known = concat([known, more]) if len(known) else more
        except KeyboardInterrupt:  # the fits are not lost
            notes.append("interrupted before the gaps were known")
        except Exception as error:
            notes.append(f"no gaps ({first_line(error)})")
    if len(known):
        sound = known.groupby(level="guide")["converged"].sum().iloc[0]
        over = f"gaps are means over {len(known.index.unique('row'))} rows, nats a row"
        notes.append(f"{over}; NUTS converged on {sound} of them, and bias and sd_ratio are medians over those")
    return known, notes
