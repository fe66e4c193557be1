"""choose_components: how many components a mixture needs, by every criterion in one table."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from pandas import DataFrame, Series
from scipy.special import softmax
from torch import Tensor

from ...errors import InputError, check_jobs, check_positive, check_seed, first_line
from ...guides import defaults
from ...models import GMM, BayesianGMM, UnivariateMixture
from ...models.structure import Model, model_name
from ..closed_form.cavi import cavi
from ..closed_form.em import em
from ..data.as_data import DataLike, data_for
from ..data.data import Data
from ..data.new_data import as_new_data
from ..density.batch_size import on_all_rows
from ..distributed.group import check_alone
from ..fit.fit import Fit
from ..fit.importance import GOOD_KHAT
from ..runtime.interrupts import keep_what_is_finished
from ..runtime.progress import progress_bar
from ..svi.svi import svi
from ..workers.many import WorkerLost, in_workers
from .criteria import NAN, bounds, cross_validated, evidence, information_criteria
from .selection import Selection

Method = Callable[..., Fit]
CERTAIN = 0.01  # nats: weights that vary by less have no tail worth a warning
COLUMNS = ("elbo", "log_evidence", "log_evidence_se", "khat", "probability", "bic", "aic", "lpd_test", "lpd_test_se")


def choose_components(
    x: DataLike,
    components: Iterable[int] = range(1, 9),
    model: Callable[..., Any] = BayesianGMM,
    *,
    x_test: DataLike | None = None,
    method: Method | None = None,
    folds: int = 5,
    starts: int = 5,
    draws: int = 1000,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> Selection:
    """Fit a mixture with each number of components, and set side by side what speaks for how many.

    Parameters
    ----------
    x : the rows, as `compare` has them.
    components : the numbers K to try; one that is repeated is tried once.
    model : a class, or any function of `components`, that makes a model; a model with that field, the others of which
        are kept; or a program with that parameter. The default prior of a BayesianGMM narrows with K, and p(x | K) with
        it: `BayesianGMM(1, scale=...)` holds every K to one prior of its components.
    x_test : held-out rows, in the form of x, for lpd_test.
    method : what approximates the posterior, its options bound: `partial(pyrometer.svi, guide="mean_field")`, or
        `pyrometer.nuts`, whose evidence is a bridge's and holds where k-hat says that a guide's does not. None takes
        `cavi` where the model is conjugate, `svi` with its first usual guide for one of yours, and nothing for a GMM,
        which has no prior and so no evidence.
    folds : where there is no x_test, every row is held out once for lpd_test, in so many parts; 0 leaves that out. The
        fits to the rows that are left begin at the labels of the fit to all.
    starts : of `cavi`, `svi` and `em`. draws : from each posterior.
    seed : the same seed gives the same table, seconds aside.
    jobs : K tried at once, in processes of their own; -1 is one a core. None is 1, in this process, or what
        `joblib.parallel_config` around the call says, be it a cluster. The numbers do not depend on it.
    progress : show a bar; a line every ten seconds where there is no terminal or notebook.

    Returns
    -------
    Selection
        What fails for one K is a dash in its row and a note. Ctrl-C gives the table of those K that are done.

    Raises
    ------
    InputError
        Bad data, no K, one below 1 or above the number of rows, or a model without `components`.

    Examples
    --------
    >>> import numpy as np
    >>> import pyrometer
    >>> from pyrometer.models import UnivariateMixture
    >>> x = np.array([-5.1, -4.9, -4.0, 3.2, 4.1, 5.0])
    >>> selection = pyrometer.choose_components(x, [1, 2], UnivariateMixture, starts=1, folds=0, progress=False)
    >>> int(selection.best["log_evidence"])
    2
    """
    numbers = _numbers(components)
    check_alone("choose_components")
    check_positive(starts=starts, draws=draws)
    if not isinstance(folds, int):
        raise InputError(f"folds={folds!r} must be a whole number, or 0 to hold out no row")
    check_jobs(jobs)
    seed = check_seed(seed)
    models = {k: _of_size(model, k) for k in numbers}
    largest = on_all_rows(models[max(numbers)])
    data, structure = data_for(largest, x)
    test = None if x_test is None else as_new_data(x_test, data, largest, name="x_test")
    parts = _parts(data, folds, seed) if test is None and folds and structure.rows else ()
    problem = _Problem(data, test, parts, method, {"starts": starts, "draws": draws}, {"seed": seed, "progress": False})
    done: dict[int, _Tried] = {}
    notes = problem.notes(largest)
    with progress_bar(len(numbers), "components", progress, "K") as bar:
        try:
            for place, tried in in_workers(_tried, ((problem, models[k], k) for k in numbers), jobs):
                done[numbers[place]] = _lost(numbers[place], tried) if isinstance(tried, WorkerLost) else tried
                bar.update()
        except KeyboardInterrupt:
            if not done:
                raise
            keep_what_is_finished()
            left = ", ".join(str(k) for k in numbers if k not in done)
            notes.append(f"interrupted: K = {left} not tried")
    return _selection({k: done[k] for k in numbers if k in done}, notes)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Rows to fit, rows held out or parts to hold out in turn, and how a model is fitted.

    sizes: starts and draws. common: options of every method.
    """

    data: Data
    test: Data | None
    parts: tuple[Tensor, ...]
    method: Method | None
    sizes: dict[str, Any]
    common: dict[str, Any]

    def by_posterior(self, model: Model) -> Method | None:
        """What approximates the posterior of a model on the data; None where it has no prior."""
        options = {"x": self.data, **self.common}
        if self.method is not None:
            return partial(self.method, model, **options)
        if isinstance(model, GMM):
            return None
        if isinstance(model, BayesianGMM | UnivariateMixture):
            return partial(cavi, model, **self.sizes, **options)
        return partial(svi, model, guide=defaults(model)[0], **self.sizes, **options)

    def by_em(self, model: Model, k: int) -> Method:
        """EM on the GMM of K components with the covariances of a model, on the data."""
        return partial(em, _likeliest(model, k), x=self.data, starts=self.sizes["starts"], **self.common)

    def held_out(self, fit: Fit, method: Method) -> np.ndarray:
        """log p(y_n | x) of the held-out rows; without any, of every row given those outside its part. Nats.

        method: what made the fit. A closed form begins at the labels that the fit gave to the rows it is left with, so
        that all its fits are of one mode.
        """
        if self.test is not None:
            return fit.log_predictive(self.test)
        labels = fit.responsibilities().to_numpy() if fit.estimator in ("EM", "CAVI") else None

        def fit_to(kept: Tensor) -> Fit:
            start = {} if labels is None else {"responsibilities": labels[kept.numpy()]}
            return method(x=self.data.take(kept), **start)

        return cross_validated(fit_to, self.data, self.parts)

    def notes(self, model: Model) -> list[str]:
        """What a reader of the table must know, whatever comes out."""
        notes = []
        if not isinstance(model, GMM | BayesianGMM):
            covariance = _likeliest(model, 1).covariance
            notes.append(f"bic and aic are those of a GMM with {covariance} covariances, fitted by EM")
        if self.parts:
            notes.append(f"lpd_test holds out every row once, in {len(self.parts)} parts")
        return notes


class _Tried(NamedTuple):
    """One K: its row of the table, the bound of every start, its fits where it has them, and notes."""

    row: dict[str, float]
    starts: np.ndarray
    posterior: Fit | None
    likeliest: Fit | None
    notes: list[str]


def _tried(problem: _Problem, model: Model, k: int) -> _Tried:
    """Fit and score one K. What raises an InputError becomes a note, and its cells stay NaN."""
    began, notes = time.perf_counter(), list[str]()

    def attempt(what: str, fn: Callable[..., Any]) -> Any:
        try:
            return fn()
        except InputError as error:
            notes.append(f"K = {k}: no {what} ({first_line(error)})")
        return None

    by_posterior, by_em = problem.by_posterior(model), problem.by_em(model, k)
    posterior = by_posterior and attempt("posterior", by_posterior)
    likeliest = attempt("bic, aic", by_em)
    fit, method = (likeliest, by_em) if by_posterior is None else (posterior, by_posterior)
    row, starts = dict.fromkeys(COLUMNS, NAN), np.zeros(0)
    if posterior is not None:
        row["elbo"], starts = bounds(posterior)
        found = evidence(posterior)
        row |= {"log_evidence": found.value, "log_evidence_se": found.se, "khat": found.khat}
        notes += [f"K = {k}, log_evidence: {found.remark}"] if found.remark else []
    if likeliest is not None:
        row |= information_criteria(likeliest)
    if fit is not None and (problem.test is not None or problem.parts):
        rows = attempt("lpd_test", partial(problem.held_out, fit, method))
        if rows is not None:
            row |= {"lpd_test": float(rows.sum()), "lpd_test_se": float(math.sqrt(len(rows)) * rows.std())}
    notes += [f"K = {k}, {fit.name}: {fit.message}" for fit in (posterior, likeliest) if fit and fit.message]
    return _Tried(row | {"seconds": time.perf_counter() - began}, starts, posterior, likeliest, notes)


def _lost(k: int, error: WorkerLost) -> _Tried:
    """What is known of a K whose worker was lost."""
    return _Tried(dict.fromkeys((*COLUMNS, "seconds"), NAN), np.zeros(0), None, None, [f"K = {k}: {error}"])


def _selection(done: dict[int, _Tried], notes: list[str]) -> Selection:
    """The table of what was done, with p(K | x)."""
    table = DataFrame.from_dict({k: each.row for k, each in done.items()}, orient="index").rename_axis("components")
    table["probability"] = _probabilities(table["log_evidence"])
    bounds_of = [(k, bound) for k, each in done.items() for bound in each.starts if math.isfinite(bound)]
    starts = DataFrame(bounds_of, columns=["components", "elbo"]).set_index("components")
    doubted = (table["khat"] > GOOD_KHAT) & (table["log_evidence_se"] > CERTAIN)
    if doubtful := [str(k) for k in table.index[doubted]]:
        notes.append(f"log_evidence of K = {', '.join(doubtful)} has k-hat above {GOOD_KHAT}: it may be far too low")
    notes += [note for each in done.values() for note in each.notes]
    posteriors = {k: each.posterior for k, each in done.items() if each.posterior is not None}
    likeliest = {k: each.likeliest for k, each in done.items() if each.likeliest is not None}
    return Selection(table, starts, posteriors, likeliest, tuple(notes))


def _probabilities(log_evidence: Series) -> Series:
    """p(K | x) under a uniform prior; NaN where there is no evidence."""
    known = log_evidence.dropna()
    return Series(softmax(known.to_numpy()) if len(known) else [], known.index, float).reindex(log_evidence.index)


def _numbers(components: Iterable[int]) -> list[int]:
    """The numbers to try, each once."""
    if not isinstance(components, int | Iterable) or isinstance(components, Tensor):
        raise InputError(f"components={components!r} is no list: give the numbers to try, range(1, 9) for example")
    given = [components] if isinstance(components, int) else list(components)
    for k in given:
        if not isinstance(k, int | np.integer) or k < 1:
            raise InputError(f"components has {k!r}: give whole numbers, 1 or more")
    if not given:
        raise InputError("components is empty: give the numbers to try, range(1, 9) for example")
    return list(dict.fromkeys(map(int, given)))


def _of_size(model: Any, k: int) -> Model:
    """The model with K components, however it takes them."""
    if is_dataclass(model) and not isinstance(model, type):
        if hasattr(model, "components"):
            return replace(model, components=k)  # type: ignore[return-value]
    elif callable(model) and "components" in (parameters := inspect.signature(model).parameters):
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = {p.name for p in parameters.values() if p.default is p.empty and p.kind not in kinds}
        return partial(model, components=k) if needed - {"components"} else model(components=k)
    mend = "give a mixture, BayesianGMM for example, or a function of components that makes a model"
    raise InputError(f"model {getattr(model, '__name__', model_name(model))} has no components to choose: {mend}")


def _likeliest(model: Model, k: int) -> GMM:
    """The GMM of K components that a model's maximum likelihood is taken of."""
    return GMM(k, getattr(model, "covariance", "full"))


def _parts(data: Data, folds: int, seed: int) -> tuple[Tensor, ...]:
    """The rows of the data, shuffled, in so many parts."""
    if not isinstance(folds, int) or not 2 <= folds <= (data.rows or 0):
        raise InputError(f"folds={folds!r} must be a whole number from 2 to {data.rows}, or 0 to hold out no row")
    order = torch.randperm(data.rows or 0, generator=torch.Generator().manual_seed(seed))
    return order.tensor_split(folds)
