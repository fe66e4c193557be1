"""The entries of a comparison: guides, methods bound to their options, and fits made before, each by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

from ...errors import InputError
from ...guides import Guide, GuideFactory, catalogue, defaults
from ...models.structure import model_name
from ..closed_form import cavi, em
from ..fit.fit import Fit
from ..mcmc.nuts import nuts
from ..svi.svi import svi
from .problem import Problem

__all__ = ["METHODS", "Entries", "Job", "chosen_guides", "jobs_of"]

METHODS: dict[str, Callable[..., Fit]] = {"nuts": nuts, "em": em, "cavi": cavi}
SVI = "svi"
LR, BATCH = 3e-3, 128  # of networks, which see rows and not their numbers

Entry: TypeAlias = str | GuideFactory | Guide | Fit | Callable[..., Fit]
Entries: TypeAlias = str | Iterable[Entry] | Mapping[str, Entry]
Job: TypeAlias = Callable[..., Fit]


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
