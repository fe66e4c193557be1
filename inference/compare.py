"""compare: every guide and NUTS on one model and one data set, in one table."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import pandas as pd
from joblib import Parallel, delayed

from ..errors import InputError
from ..guides import GuideFactory, catalogue, defaults
from ..models.structure import Model, model_name
from .data import Tabular, as_data
from .fit import Fit
from .invariants import invariants
from .nuts import nuts
from .posterior import matched_to
from .report import as_text
from .scores import scores, unconverged
from .svi import svi

__all__ = ["Comparison", "compare"]

Guides = Iterable[str] | Mapping[str, GuideFactory]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several fits of one model to the same data.

    Attributes
    ----------
    fits : name -> Fit, the reference first, all with their components in its order.
    table : a row a fit, the columns of `pyrometer.inference.scores.COLUMNS`.
    reference : the name of the fit that bias and sd_ratio are measured against; None where there is none.
    skipped : what could not be fitted, name -> why.
    invariant : label-invariant distances from the reference, a row a fit: see `inference.invariants`.
    notes : what a reader of the table must know: a reference that did not converge, a training cut short.
    """

    fits: dict[str, Fit]
    table: pd.DataFrame
    reference: str | None
    skipped: dict[str, str] = field(default_factory=dict)
    invariant: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Fit:
        if name not in self.fits:
            why = f": it was skipped, {self.skipped[name]}" if name in self.skipped else ""
            raise KeyError(f"no fit {name!r}{why}; there are {', '.join(self.fits)}")
        return self.fits[name]

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.remarks())
        return self.table.to_html(float_format="{:.4g}".format, na_rep="") + notes

    def __repr__(self) -> str:
        return "\n".join([as_text(self.table), *self.remarks()])

    def remarks(self) -> list[str]:
        """What stands below the table: the notes, and what was skipped."""
        return [*self.notes, *(f"{name} was skipped: {why}" for name, why in self.skipped.items())]


def compare(
    model: Model,
    x: Tabular,
    guides: Guides | None = None,
    *,
    x_test: Tabular | None = None,
    reference: str | Fit | None = "nuts",
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
    steps: int = 2000,
    starts: int = 3,
    warmup: int = 500,
    draws: int = 1000,
    chains: int = 4,
    batch_size: int | None = None,
) -> Comparison:
    """Fit several guides to one model and data, and measure each against a reference posterior.

    Parameters
    ----------
    model : a Pyro program model(x), its observations under a plate named `data`.
    x : DataFrame, Series, array, tensor, path or data set name: (N, D), or (N,) for a model of a vector.
    guides : names from `pyrometer.guides.catalogue(model)`, or name -> factory; None takes a sensible few.
    x_test : held-out rows with the columns of x, for lpd_test.
    reference : nuts, the name of one of the guides, a Fit made before, or None.
    seed : the same seed gives the same table, seconds aside.
    jobs : guides fitted at once, each in a process of its own.
    progress : show bars; they are silent where there is no terminal or notebook.
    steps, starts, batch_size : of `svi`.
    warmup, chains : of `nuts`. draws : of each guide and of each chain.

    Returns
    -------
    Comparison
        A guide that fails is left out and named in `skipped`; the others are kept.

    Raises
    ------
    InputError
        Bad data or options, an unknown guide, or nothing that could be fitted.

    Examples
    --------
    >>> compare(BayesianGMM(2), "faithful", ["structured", "auto_mvn"]).table  # doctest: +SKIP
    """
    data = as_data(x, components=getattr(model, "components", None))
    factories = _factories(model, guides)
    jobs_todo: dict[str, Callable[[], Fit]] = {}
    if reference == "nuts":
        jobs_todo["nuts"] = partial(nuts, model, data, warmup=warmup, draws=draws, chains=chains)
    elif isinstance(reference, str) and reference not in factories:
        raise InputError(f"reference={reference!r} is neither nuts nor one of the guides {', '.join(factories)}")
    for name, factory in factories.items():
        options = {"steps": steps, "starts": starts, "draws": draws, "batch_size": batch_size, "name": name}
        jobs_todo[name] = partial(svi, model, factory, data, **options)
    fits, skipped = _fit_all({name: partial(job, seed=seed, progress=progress) for name, job in jobs_todo.items()}, jobs)
    known = reference.name if isinstance(reference, Fit) else reference
    if isinstance(reference, Fit):
        fits = {reference.name: reference, **fits}
    return _comparison(fits, skipped, known if known in fits else None, x_test)


def _factories(model: Model, guides: Guides | None) -> dict[str, str | GuideFactory]:
    """Guides by name; a name alone stands for its catalogue entry. Unknown names are refused."""
    if isinstance(guides, str):
        guides = [guides]
    chosen = dict(guides) if isinstance(guides, Mapping) else {name: name for name in guides or defaults(model)}
    known = catalogue(model)
    for name, guide in chosen.items():
        if isinstance(guide, str) and guide not in known:
            raise InputError(f"model {model_name(model)} has no guide {guide!r}: choose from {', '.join(known)}")
    return chosen


def _fit_all(todo: dict[str, Callable[[], Fit]], jobs: int) -> tuple[dict[str, Fit], dict[str, str]]:
    """Every fit that works, and why the others did not. Where none works, the first error is raised."""
    results = Parallel(n_jobs=jobs)(delayed(_attempt)(job) for job in todo.values())
    fits = {name: result for name, result in zip(todo, results, strict=True) if isinstance(result, Fit)}
    failed = {name: result for name, result in zip(todo, results, strict=True) if isinstance(result, Exception)}
    if not fits:
        raise next(iter(failed.values()))
    return fits, {name: f"{error}" for name, error in failed.items()}


def _attempt(job: Callable[[], Fit]) -> Fit | Exception:
    try:
        return job()
    except Exception as error:  # one guide's failure must not cost the others their work
        return error


def _comparison(
    fits: dict[str, Fit], skipped: dict[str, str], reference: str | None, x_test: Tabular | None
) -> Comparison:
    first = fits[reference] if reference else next(iter(fits.values()))
    pivot = first.pivot()
    fits = {name: fit if fit is first else matched_to(fit, pivot) for name, fit in fits.items()}
    ruler = fits[reference] if reference else None
    table = pd.DataFrame([scores(fit, ruler, x_test) for fit in fits.values()], index=list(fits)).infer_objects()
    notes = list(_start_notes(fits))
    if reference and (fault := unconverged(fits[reference])):
        table.loc[reference, "estimator"] += " (not converged)"
        notes.insert(0, f"the reference {reference} did not converge ({fault}): do not trust bias and sd_ratio")
    return Comparison(fits, table, reference, skipped, invariants(fits, first), tuple(notes))


def _start_notes(fits: dict[str, Fit]) -> Iterable[str]:
    for name, fit in fits.items():
        if fit.message:
            yield f"{name} stopped early: {fit.message}"
