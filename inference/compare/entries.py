"""The entries of a comparison, guides, methods and fits made before, and how they are run: none lost by another."""

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

METHODS: dict[str, Callable[..., Fit]] = {"nuts": nuts, "em": em, "cavi": cavi}
SVI = "svi"
LR, BATCH = 3e-3, 128  # of networks, which see rows and not their numbers

Entry: TypeAlias = str | GuideFactory | Guide | Fit | Callable[..., Fit]
Entries: TypeAlias = str | Iterable[Entry] | Mapping[str, Entry]
Job: TypeAlias = Callable[..., Fit]
Outcome: TypeAlias = tuple[dict[str, Fit], dict[str, str], Model]


def chosen_guides(problem: Problem, guides: Entries | None) -> dict[str, Entry]:
    """Entries by name; the model's default guides for None. Raises InputError for a name that is unknown."""
    guides = defaults(problem.model) if guides is None else guides
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


def _job(problem: Problem, name: str, entry: Any) -> Job:
    """What is to be done for an entry: a function of the model that gives a Fit."""
    common: dict[str, Any] = {"name": name, "seed": problem.seed, "progress": problem.progress}
    if isinstance(entry, str) and entry in METHODS:
        return partial(METHODS[entry], x=problem.data, **(problem.nuts if entry == "nuts" else {}), **common)
    takes = [] if isinstance(entry, str | type) else list(inspect.signature(entry).parameters)
    if not {"seed", "progress", "name"} <= set(takes):  # a guide, or what makes one
        return partial(svi, x=problem.data, guide=entry, **{**_for_rows(problem, entry), **problem.svi}, **common)
    bound = entry.keywords if isinstance(entry, partial) else {}
    options = {**problem.svi, **problem.nuts, **common}
    chosen = {option: value for option, value in options.items() if option in takes and option not in bound}
    return partial(entry, **chosen, **{"x" if "x" in takes else takes[1]: problem.data})


def _for_rows(problem: Problem, entry: Any) -> dict[str, Any]:
    """Of a guide that tells rows apart by a network: minibatches, and a rate for networks."""
    if not problem.structure.only_local:
        return {}
    made = catalogue(problem.model)[entry] if isinstance(entry, str) else entry
    amortized = getattr(getattr(made, "func", made), "amortized", False)  # of the guide's class: none is made here
    batch = BATCH if amortized and (problem.data.rows or 0) > BATCH else None
    return {"lr": LR, "batch_size": getattr(problem.model, "batch_size", None) or batch}


def _name_of(entry: Any) -> str:
    if isinstance(entry, Fit):
        return entry.name
    return entry if isinstance(entry, str) else model_name(getattr(entry, "func", entry))


def run(problem: Problem, entries: Mapping[str, Entry], model: Model | None = None) -> Outcome:
    """Every fit that works, why the others did not, and the model that they share; a Fit is taken as it is.

    Where every row has latents of its own and the model params besides, as a decoder has, the first fit trains these
    and the others are of the model so trained. model: one trained before. Where nothing works, the first error is
    raised; Ctrl-C ends what is under way, and keeps what is done.
    """
    done = {name: entry for name, entry in entries.items() if isinstance(entry, Fit)}
    left = {name: _job(problem, name, entry) for name, entry in entries.items() if name not in done}
    skipped: dict[str, str] = {}
    shared = problem.model if model is None else model
    if problem.structure.only_local and model is None and problem.structure.of_kind("param") and left:
        name = next(iter(left))
        done |= _several({name: left.pop(name)}, shared, 1)[0]
        shared = frozen(done[name].model, done[name].params)
    if left:
        try:
            fits, skipped = _several(left, shared, problem.jobs)
            done |= fits
        except (Exception, KeyboardInterrupt) as error:  # none of them works
            if not done:
                raise
            skipped = dict.fromkeys(left, "interrupted" if isinstance(error, KeyboardInterrupt) else str(error))
    return {name: done[name] for name in entries if name in done}, skipped, shared


def _several(left: Mapping[str, Job], model: Model, jobs: int) -> tuple[dict[str, Fit], dict[str, str]]:
    """The fits, and why the others failed; the first error where all of them did."""
    results: list[Fit | Exception] = []
    try:
        for result in Parallel(n_jobs=jobs, return_as="generator")(
            delayed(_attempt)(job, model) for job in left.values()
        ):
            results.append(result)
    except KeyboardInterrupt:
        if not any(isinstance(result, Fit) for result in results):
            raise
        results += [InputError("interrupted")] * (len(left) - len(results))
    fits = {name: result for name, result in zip(left, results, strict=True) if isinstance(result, Fit)}
    failed = {name: result for name, result in zip(left, results, strict=True) if isinstance(result, Exception)}
    if not fits:
        raise next(iter(failed.values()))
    return fits, {name: str(error) for name, error in failed.items()}


def _attempt(job: Job, model: Model) -> Fit | Exception:
    try:
        return job(model)
    except Exception as error:  # one guide's failure must not cost the others their work
        return error
