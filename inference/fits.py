"""Several fits at once, and none lost because another failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from joblib import Parallel, delayed

from .fit import Fit

__all__ = ["fit_all"]


def fit_all(todo: Mapping[str, Callable[[], Fit]], jobs: int) -> tuple[dict[str, Fit], dict[str, str]]:
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
