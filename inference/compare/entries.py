"""What is compared on which data: guides, methods and fits made before, and how they are run, none lost by another."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from ...errors import InputError
from ...guides import Guide, GuideFactory, catalogue, defaults
from ...models.structure import Model, Structure, model_name
from ..closed_form.cavi import cavi, check_cavi
from ..closed_form.em import check_em, em
from ..compilation.batched import over_draws
from ..data.data import Data
from ..density.batch_size import on_all_rows
from ..density.log_density import Density
from ..density.params import frozen
from ..deterministic.bam import bam
from ..deterministic.dadvi import dadvi
from ..deterministic.laplace import laplace
from ..deterministic.pathfinder import pathfinder
from ..fit.fit import Fit
from ..mapped.blocks import evenly_spaced
from ..mcmc.nuts import nuts
from ..resume.finished import Finished, Keep, say_taken
from ..runtime.interrupts import keep_what_is_finished
from ..runtime.isolation import untouched
from ..runtime.progress import progress_bar
from ..svi.svi import svi
from ..workers.many import cores_for, in_workers

DETERMINISTIC = {"laplace": laplace, "pathfinder": pathfinder, "dadvi": dadvi, "bam": bam}
METHODS: dict[str, Callable[..., Fit]] = {"nuts": nuts, "em": em, "cavi": cavi, **DETERMINISTIC}
CLOSED_FORM = {"em": check_em, "cavi": check_cavi}  # what refuses a model that they do not fit
SVI = "svi"
SAME = 1e-6  # relative: two densities at one point

Entry: TypeAlias = str | GuideFactory | Guide | Fit | Callable[..., Fit]
Entries: TypeAlias = str | Iterable[Entry] | Mapping[str, Entry]
Job: TypeAlias = Callable[..., Fit]
Outcome: TypeAlias = tuple[dict[str, Fit], dict[str, str], Model]  # fits, why others are skipped, the shared model


@dataclass(frozen=True)
class Problem:
    """A model on its data. test: held-out rows.

    svi, nuts: options of these methods. seed, progress, jobs: of all. rows: which rows, or how many, are held to NUTS
    where every row has latents of its own and shares none, and of no meaning elsewhere. var_names: the variables that
    verdict, bias and sd_ratio are about; None for all. finished: where fits are kept as they finish; None for nowhere.
    """

    model: Model
    data: Data
    structure: Structure
    test: Data | None = None
    svi: dict[str, Any] = field(default_factory=dict)
    nuts: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    progress: bool = True
    jobs: int | None = None
    rows: int | Sequence[int] | None = 20
    var_names: tuple[str, ...] | None = None
    finished: Finished | None = None

    def __post_init__(self) -> None:
        if self.structure.only_local:
            _ = self.chosen_rows  # refused before the work, not after it

    @property
    def chosen_rows(self) -> torch.Tensor:
        """The numbers of the rows that are held to NUTS: those given, or so many evenly spaced. Raises InputError."""
        number = self.data.rows or 0
        if isinstance(self.rows, int | np.integer):
            if not self.rows >= 1:
                raise InputError(f"rows={self.rows} must be 1 or more, or the numbers of the rows")
            return evenly_spaced(number, int(self.rows))
        chosen = torch.as_tensor(list(self.rows) if isinstance(self.rows, Iterable) else [])
        if chosen.numel() == 0 or chosen.is_floating_point() or not ((chosen >= 0) & (chosen < number)).all():
            raise InputError(f"rows must be numbers of rows from 0 to {number - 1}")
        return chosen

    def check(self, fit: Fit, called: str = "fit") -> None:
        """Refuse a fit of other data or of another model, in one line."""
        called, by_row = f"{called} {fit.name}", self.structure.only_local
        both = (self.structure, fit.structure)
        mine, theirs = ({site.name for site in st.of_kind("latent", "param")} for st in both)
        other = f"{called} is of another model than {model_name(self.model)}"
        for name in () if by_row else sorted(mine ^ theirs):
            raise InputError(f"{other}: site {name!r} is in one of them only")
        if not fit.data.equals(self.data):
            shapes = [" ".join(str(tuple(v.shape)) for v in data.tensors) for data in (fit.data, self.data)]
            raise InputError(f"{called} is of other data, {shapes[0]} and not {shapes[1]}: fit it to these first")
        if not by_row and self._differs(fit):
            raise InputError(f"{other}: their densities differ at its draws")

    def _differs(self, fit: Fit) -> bool:
        densities = Density(on_all_rows(self.model), self.data, fit.params), fit.density
        ends = {name: value[[0, -1]] for name, value in fit.sites().items()}
        with self.data.isolated(0):
            here, there = (over_draws(density.log_joint, ends) for density in densities)
        return not torch.allclose(here, there, rtol=SAME, atol=SAME, equal_nan=True)


def chosen_guides(problem: Problem, guides: Entries | None) -> dict[str, Entry]:
    """Entries by name; the model's default guides for None. Raises InputError for a name that is unknown."""
    guides = defaults(problem.model) if guides is None else guides
    if isinstance(guides, str | Fit) or callable(guides) or not isinstance(guides, Iterable):
        guides = [guides]
    if not isinstance(guides, Mapping):
        given = list({entry if isinstance(entry, str) else id(entry): entry for entry in guides}.values())
        guides = {_name_of(entry): entry for entry in given}
        if len(guides) < len(given):
            have = f"{len(given)} entries have only the names {', '.join(map(str, guides))}"
            raise InputError(f"{have}: give a dict, each by a name of its own")
    for name in guides:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise InputError(f"an entry is called {name!r}: give it a name of printable text")
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


def job_of(problem: Problem, name: str, entry: Any) -> Job:
    """What is to be done for an entry: a function of the model that gives a Fit."""
    common: dict[str, Any] = {"name": name, "seed": problem.seed, "progress": problem.progress}
    if isinstance(entry, str) and entry in METHODS:
        told = {"nuts": problem.nuts, **dict.fromkeys(DETERMINISTIC, _shared_options(problem))}.get(entry, {})
        return partial(METHODS[entry], x=problem.data, **told, **common)
    takes = [] if isinstance(entry, str | type) else list(inspect.signature(entry).parameters)
    if not {"seed", "progress", "name"} <= set(takes):  # a guide, or what makes one
        return partial(svi, x=problem.data, guide=entry, **problem.svi, **common)
    bound = entry.keywords if isinstance(entry, partial) else {}
    options = {**problem.svi, **(problem.nuts if "chains" in takes else {}), **common}
    chosen = {option: value for option, value in options.items() if option in takes and option not in bound}
    return partial(entry, **chosen, **{"x" if "x" in takes else takes[1]: problem.data})


def _shared_options(problem: Problem) -> dict[str, Any]:
    """What `svi` is told that any other method of draws from an approximation can be."""
    return {name: problem.svi[name] for name in ("draws", "compile", "dtype") if name in problem.svi}


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
    done = {name: replace(entry, name=name) for name, entry in entries.items() if isinstance(entry, Fit)}
    left = {name: job_of(problem, name, entry) for name, entry in entries.items() if name not in done}
    shared: Model = problem.model if model is None else model
    made_of: Any = problem.model
    if problem.structure.only_local and problem.structure.of_kind("param") and left:
        if model is None:
            name = next(iter(left))
            first = {name: left.pop(name)}
            done |= _taken(problem, first, made_of, shared, trains=True)
            trained = done[name] if name in done else _attempt(first[name], shared)
            if isinstance(trained, Exception):
                raise trained
            keep = None if name in done else _keep(problem, name)
            done[name] = trained if keep is None else keep(trained)
            shared = frozen(trained.model, trained.params)
        made_of = made_of, next(iter(done.values())).params
    done |= _taken(problem, left, made_of, shared)
    left = {name: job for name, job in left.items() if name not in done}
    work = [(job, shared, _keep(problem, name)) for name, job in left.items()]
    results = dict(zip(left, _results(work, problem), strict=True))
    done |= {name: result for name, result in results.items() if isinstance(result, Fit)}
    failed = {name: result for name, result in results.items() if isinstance(result, BaseException)}
    if not done:
        raise min(failed.values(), key=lambda error: isinstance(error, Exception))  # Ctrl-C before any other
    kept = problem.finished
    stopped = "interrupted" if kept is None else f"interrupted; resume goes on from {kept.folder}"
    skipped = {name: str(error) if isinstance(error, Exception) else stopped for name, error in failed.items()}
    return {name: done[name] for name in entries if name in done}, skipped, shared


def _taken(
    problem: Problem, jobs: Mapping[str, Job], made_of: Any, model: Model, trains: bool = False
) -> dict[str, Fit]:
    """The fits of jobs that were finished before; see `Finished.take`."""
    kept = problem.finished
    if kept is None:
        return {}
    found = {name: kept.take(name, job, made_of, model, problem.data, trains) for name, job in jobs.items()}
    taken = {name: fit for name, fit in found.items() if fit is not None}
    if problem.progress:
        say_taken(taken, kept.folder)
    return taken


def _keep(problem: Problem, name: str) -> Keep | None:
    return None if problem.finished is None else problem.finished.keep(name)


def _results(work: Sequence[tuple[Job, Model, Keep | None]], problem: Problem) -> list[Fit | BaseException]:
    """What each job comes to: a Fit, or why there is none."""
    results: dict[int, Fit | BaseException] = {}
    bar = progress_bar(len(work), "compare", problem.progress and cores_for(problem.jobs) > 0, unit="fit")
    try:
        for place, result in in_workers(_attempt, ((job, model) for job, model, _ in work), problem.jobs):
            results[place] = result
            results[place] = _kept(result, work[place][2])
            bar.update()
            if isinstance(result, Fit) and result.message.startswith("interrupted"):  # it keeps what it has
                raise KeyboardInterrupt
    except KeyboardInterrupt as interrupt:
        kept = [work[place][2] for place in results]
        if any(keep is None or not keep.path.exists() for keep in kept):  # else it is at home already, in a folder
            keep_what_is_finished()
        results = dict.fromkeys(range(len(work)), interrupt) | results
    finally:
        bar.close()
    return [results[place] for place in range(len(work))]


def _kept(result: Fit | Exception, keep: Keep | None) -> Fit | Exception:
    """A result, kept as soon as it is there, where it is a Fit."""
    return keep(result) if keep is not None and isinstance(result, Fit) else result


def _attempt(job: Job, model: Model) -> Fit | Exception:
    """The Fit of a job; or why there is none."""
    try:
        with untouched():  # a method of a user's may draw from what is everybody's
            fit = job(model)
    except Exception as error:  # one guide's failure must not cost the others their work
        return error
    return fit if isinstance(fit, Fit) else InputError(f"it gave a {type(fit).__name__}: a method gives a Fit")
