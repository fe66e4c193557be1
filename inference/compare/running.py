"""The fits of a comparison, one after another or several at once, and none lost because another failed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from joblib import Parallel, delayed

from ...errors import InputError
from ...models.structure import Model
from ..density.params import frozen
from ..fit.fit import Fit
from .entries import Job
from .problem import Problem

__all__ = ["Outcome", "run"]

Outcome = tuple[dict[str, Fit], dict[str, str], Model]


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
