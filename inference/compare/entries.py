"""The entries of a comparison, guides, methods and fits made before, and how they are run: none lost by another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

from joblib import Parallel, delayed

from ...errors import InputError
from ...guides import Guide, GuideFactory, catalogue, defaults
from ...models.structure import Model, model_name
from ..closed_form.cavi import cavi
from ..closed_form.em import em
from ..density.params import frozen
from ..fit.fit import Fit
from ..mcmc.nuts import nuts
from ..svi.svi import svi
from .problem import Problem

__all__ = ["METHODS", "Entries", "Job", "chosen_guides", "jobs_of", "run"]

METHODS: dict[str, Callable[..., Fit]] = {"nuts": nuts, "em": em, "cavi": cavi}
SVI = "svi"
LR, BATCH = 3e-3, 128  # of networks, which see rows and not their numbers

Entry: TypeAlias = str | GuideFactory | Guide | Fit | Callable[..., Fit]
Entries: TypeAlias = str | Iterable[Entry] | Mapping[str, Entry]
Job: TypeAlias = Callable[..., Fit]
Outcome: TypeAlias = tuple[dict[str, Fit], dict[str, str], Model]


def chosen_guides(problem: Problem, guides: Entries | None) -> dict[str, Entry]:
    """Entries by name; the model's default guides for None. Raises InputError for a name that is unknown."""
    if guides is None:
        guides = defaults(problem.model)
    if isinstance(guides, str | Fit) or not isinstance(guides, Mapping | Iterable):
        guides = [guides]
    if not isinstance(guides, Mapping):
        guides = {_name_of(entry): entry for entry in guides}
    known = catalogue(problem.model)
    for entry in guides.values():
        if isinstance(entry, str) and entry not in known and entry not in METHODS:
            whose = f"model {model_name(problem.model)} has no guide {entry!r}"
            raise InputError(f"{whose}: choose from {', '.join(known)}")
        if isinstance(entry, Fit):
            problem.check(entry)
        elif not (isinstance(entry, str) or callable(entry)):
            raise InputError(f"entry {entry!r} is a {type(entry).__name__}: give a guide, a method or a Fit")
    return dict(guides)


def jobs_of(problem: Problem, entries: Mapping[str, Entry]) -> dict[str, Job | Fit]:
    """What is to be done for each entry: a function of the model that gives a Fit, or a Fit that is there already."""
    return {name: entry if isinstance(entry, Fit) else _job(problem, name, entry) for name, entry in entries.items()}


def _job(problem: Problem, name: str, entry: Any) -> Job:
    if isinstance(entry, str) and entry in METHODS:
        options = problem.nuts if entry == "nuts" else {}
        return partial(METHODS[entry], x=problem.data, name=name, **options, **problem.common)
    if is_method(entry):
        shared = {**problem.svi, **problem.nuts, **problem.common, "name": name}
        return partial(entry, **_unbound(entry, shared), **{_data_of(entry): problem.data})
    options = {"guide": entry, **_for_rows(problem, entry), **problem.svi}
    return partial(svi, x=problem.data, name=name, **options, **problem.common)


def is_method(entry: Any) -> bool:
    """Whether an entry is a method, by its signature: (model, x, *, seed, progress, name, ...) -> Fit."""
    if isinstance(entry, str | type):
        return False
    return {"seed", "progress", "name"} <= set(inspect.signature(entry).parameters)


def _unbound(entry: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a method takes by name, but for those that were bound by hand."""
    bound = entry.keywords if isinstance(entry, partial) else {}
    taken = set(inspect.signature(entry).parameters) - set(bound)
    return {name: value for name, value in options.items() if name in taken}


def _data_of(entry: Any) -> str:
    """What a method calls its data: x, else its second parameter."""
    names = list(inspect.signature(entry).parameters)
    return "x" if "x" in names else names[1]


def _for_rows(problem: Problem, entry: Any) -> dict[str, Any]:
    """Of a guide that tells rows apart by a network: minibatches, and a rate for networks."""
    if not problem.by_row:
        return {}
    made = catalogue(problem.model)[entry] if isinstance(entry, str) else entry
    amortized = getattr(getattr(made, "func", made), "amortized", False)  # of the guide's class: none is made here
    batch = BATCH if amortized and (problem.data.rows or 0) > BATCH else None
    return {"lr": LR, "batch_size": getattr(problem.model, "batch_size", None) or batch}


def _name_of(entry: Any) -> str:
    if isinstance(entry, Fit):
        return entry.name
    return entry if isinstance(entry, str) else model_name(getattr(entry, "func", entry))


def run(problem: Problem, jobs: Mapping[str, Job | Fit], model: Model | None = None) -> Outcome:
    """Every fit that works, why the others did not, and the model that they share.

    Where every row has latents of its own and the model params besides, as a decoder has, the first fit trains these
    and the others are of the model so trained. model: one trained before. Where nothing works, the first error is
    raised; Ctrl-C ends what is under way, and keeps what is done.
    """
    done = {name: job for name, job in jobs.items() if isinstance(job, Fit)}
    left = {name: job for name, job in jobs.items() if not isinstance(job, Fit)}
    skipped: dict[str, str] = {}
    shared = problem.model if model is None else model
    if problem.by_row and model is None and problem.structure.of_kind("param") and left:
        name = next(iter(left))
        done |= _several({name: partial(left.pop(name), shared)}, 1)[0]
        shared = frozen(done[name].model, done[name].params)
    if left:
        try:
            fits, skipped = _several({name: partial(job, shared) for name, job in left.items()}, problem.jobs)
            done |= fits
        except Exception as error:  # none of them works
            if not done:
                raise
            skipped = dict.fromkeys(left, str(error))
        except KeyboardInterrupt:
            if not done:
                raise
            skipped = dict.fromkeys(left, "interrupted")
    return {name: done[name] for name in jobs if name in done}, skipped, shared


def _several(todo: Mapping[str, Job], jobs: int) -> tuple[dict[str, Fit], dict[str, str]]:
    results: list[Fit | Exception] = []
    try:
        for result in Parallel(n_jobs=jobs, return_as="generator")(delayed(_attempt)(job) for job in todo.values()):
            results.append(result)
    except KeyboardInterrupt:
        if not any(isinstance(result, Fit) for result in results):
            raise
        results += [InputError("interrupted")] * (len(todo) - len(results))
    fits = {name: result for name, result in zip(todo, results, strict=True) if isinstance(result, Fit)}
    failed = {name: result for name, result in zip(todo, results, strict=True) if isinstance(result, Exception)}
    if not fits:
        raise next(iter(failed.values()))
    return fits, {name: f"{error}" for name, error in failed.items()}


def _attempt(job: Job) -> Fit | Exception:
    try:
        return job()
    except Exception as error:  # one guide's failure must not cost the others their work
        return error
