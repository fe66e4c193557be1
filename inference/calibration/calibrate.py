"""calibrate: fit a method to many data sets whose truth is known, and see where the truths come to lie."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from pandas import DataFrame, Index

from ...errors import InputError, check_jobs, check_positive, check_seed, first_line
from ...guides import catalogue
from ...models.structure import Model, model_name
from ..compare.entries import METHODS, Entry, Problem, chosen_guides, job_of
from ..data.as_data import DataLike, data_for
from ..density.batch_size import on_all_rows
from ..distributed.group import check_alone
from ..fit.fit import Fit
from ..runtime.progress import progress_bar
from ..workers.many import WorkerLost, cores_for, in_workers
from .calibration import MIN_BINS, MIN_EXPECTED, MIN_SIMULATIONS, Calibration
from .quantities import Quantities, quantities_of, ranked
from .simulations import Simulations, simulated

PILOTS = 3  # simulations that may fail before the method is at fault, and not the data
AT_ONCE = 25  # simulations that one process is given: each hand-over costs it what it knows of the model
ROUNDS = 2  # of hand-overs at least, for the bar to move
# Of each fit: a hundred draws or so are needed, and what is compiled once serves all.
NUTS = {"warmup": 300, "draws": 400, "chains": 1, "jobs": 1, "compile": True}
FEW = 20  # draws, fewer than which tell little of a posterior
SHOWN = 3  # warnings, the commonest


def calibrate(
    model: Model,
    method: Entry,
    x: DataLike | int,
    *,
    simulations: int = 1000,
    draws: int = 99,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
    dtype: torch.dtype | None = None,
) -> Calibration:
    """Simulation-based calibration: whether a method's posteriors hold the truth as often as they say.

    Truths are drawn from the prior and data at the truths; the method is fitted to each data set, and the rank of each
    truth among its draws is uniform if these are the posterior's (Talts, Betancourt, Simpson, Vehtari and Gelman 2018,
    theorem 1). For a guide, the symmetry of the ranks alone says whether its means are right (Yao, Vehtari, Simpson and
    Gelman 2018, section 3.2).

    Parameters
    ----------
    model : any Pyro program with proper priors, none of them read from what is observed.
    method : an entry of `compare`: nuts, cavi, the name of a guide, a guide, or a method with its options bound,
        `partial(pyrometer.nuts, chains=2)`. By its name, nuts takes one chain of 300 + 400 draws.
    x : what the model takes, as `compare` has it: of this shape, with these covariates and missing values, are the
        simulated data; its observed values are replaced. Or a number of rows, for a model of one column.
    simulations : S, 50 or more.
    draws : L, 9 or more, of each fit: chains are thinned to so many, or to half their effective sample size.
    seed : the same seed gives the same ranks.
    jobs : simulations fitted at once, in processes of their own; -1 is one a core. None is 1, in this process, or what
        `joblib.parallel_config` around the call says, be it a cluster. The numbers do not depend on it.
    progress : show a bar; a line every ten seconds where there is no terminal or notebook.
    dtype : of the data, float64 by default.

    Returns
    -------
    Calibration
        Its scalars: the entries of each latent site (20 at most), exchangeable components put in order in truth and
        draws alike; the log joint density and the log likelihood, discrete sites summed out. A simulation that fails is
        left out and named in `failures`. After Ctrl-C, of those that were done.

    Raises
    ------
    InputError
        Bad data or options, a model that cannot be drawn from, a method that is unknown, gives one point only, or fails
        on each of the first three data sets.

    Examples
    --------
    >>> from functools import partial
    >>> import pyro
    >>> import pyro.distributions as dist
    >>> import pyrometer
    >>> def height(y):
    ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    ...     with pyro.plate("data", len(y)):
    ...         pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
    >>> method = partial(pyrometer.laplace, starts=1, draws=20)  # exact: the posterior is Gaussian
    >>> found = pyrometer.calibrate(height, method, 4, simulations=50, draws=9, progress=False)  # data of 4 rows
    >>> set(found.table["verdict"])
    {'uniform'}
    """
    check_alone("calibrate")
    began = time.perf_counter()
    check_positive(simulations=simulations, draws=draws)
    check_jobs(jobs)
    seed = check_seed(seed)
    if simulations < MIN_SIMULATIONS:
        needs = f"the chi-square test needs {MIN_EXPECTED} in each of {MIN_BINS} bins"
        raise InputError(f"simulations={simulations} are too few: {needs}, {MIN_SIMULATIONS} or more")
    if draws < MIN_BINS - 1:
        raise InputError(f"draws={draws} are too few: {MIN_BINS} bins of ranks take {MIN_BINS - 1} or more")
    model = on_all_rows(model)
    data, structure = data_for(model, _template(x), dtype)
    made = simulated(model, data, structure, simulations, seed)
    nuts, svi = {**NUTS, "dtype": dtype}, {"draws": draws, "dtype": dtype}
    problem = Problem(model, data, structure, svi=svi, nuts=nuts, progress=False)
    name, entry = _entry(problem, method)
    task = Task(problem, name, entry, quantities_of(made), draws)
    with progress_bar(simulations, f"calibrate {name}", progress, unit="fit") as bar:
        outcomes = []
        try:
            for outcome in _outcomes(task, made, jobs):
                outcomes.append(outcome)
                bar.update()
        except KeyboardInterrupt:
            if not outcomes:
                raise
    outcomes.sort(key=lambda outcome: outcome.number)
    return _calibration(task, outcomes, simulations, time.perf_counter() - began)


@dataclass(frozen=True)
class Task:
    """What is done with each simulation. problem: on the template. entry: what is fitted, called by that name."""

    problem: Problem
    name: str
    entry: Entry
    quantities: Quantities
    draws: int

    def fit(self, simulations: Simulations, place: int) -> Fit:
        """The method on one simulated data set."""
        seed = int(simulations.seeds[place])
        problem = replace(self.problem, data=simulations.data(place), seed=seed)
        fit = job_of(problem, self.name, self.entry)(problem.model)
        if not isinstance(fit, Fit):
            raise InputError(f"method {self.name} gave a {type(fit).__name__}: a method gives a Fit")
        if fit.is_point:
            raise PointError(f"method {self.name} gives one point and no distribution: there are no ranks to take")
        return fit


class PointError(InputError):
    """A point estimate, which no other data will make a distribution."""


class Outcome(NamedTuple):
    """Of one simulation: ranks (P,). thinned: how many draws they are among. warned: what the fit warned of.

    error: why there are no ranks, None where there are.
    """

    number: int
    ranks: np.ndarray | None
    thinned: int = 0
    diverged: bool = False
    warned: tuple[str, ...] = ()
    error: Exception | None = None


def _template(x: Any) -> Any:
    """The template itself; for a number of rows, so many numbers in one column."""
    if not isinstance(x, int | np.integer):
        return x
    check_positive(x=int(x))
    return np.random.default_rng(0).standard_normal(int(x))


def _entry(problem: Problem, method: Entry) -> tuple[str, Entry]:
    """The method, and its name. Raises InputError where there is none of that name, or it is no method."""
    known = [*METHODS, *catalogue(problem.model)]
    if isinstance(method, str) and method not in known:
        raise InputError(f"method {method!r} is unknown: choose from {', '.join(known)}")
    if isinstance(method, Fit) or not (isinstance(method, str) or callable(method)):
        raise InputError(f"method is a {type(method).__name__}: give the name of one, a guide, or a method of its own")
    ((name, entry),) = chosen_guides(problem, [method]).items()
    return name, entry


def _outcomes(task: Task, simulations: Simulations, jobs: int | None) -> Iterator[Outcome]:
    """What each simulation comes to, as they are done."""
    done = 0
    for outcome in _pilots(task, simulations):
        done += 1
        yield outcome
    cores = cores_for(jobs)
    size = max(1, min(AT_ONCE, (len(simulations) - done) // (ROUNDS * cores))) if cores else 1
    starts = range(done, len(simulations), size)
    parts = (simulations.take(slice(start, start + size)) for start in starts)
    for place, part in in_workers(_each, ((task, part) for part in parts), jobs):
        if isinstance(part, WorkerLost):
            lost = simulations.numbers[starts[place] : starts[place] + size]
            part = [Outcome(int(number), None, error=part) for number in lost]
        yield from part


def _pilots(task: Task, simulations: Simulations) -> list[Outcome]:
    """The first simulations, up to one that does not fail. Raises the first error where all of some do."""
    outcomes: list[Outcome] = []
    for place in range(PILOTS):
        outcomes.append(_outcome(task, simulations, place))
        if outcomes[-1].error is None:
            return outcomes
        if isinstance(outcomes[-1].error, PointError):
            raise outcomes[-1].error
    raise next(outcome.error for outcome in outcomes if outcome.error)


def _each(task: Task, simulations: Simulations) -> list[Outcome]:
    outcomes = [_outcome(task, simulations, place) for place in range(len(simulations))]
    # What any library raises need not survive the way to another process.
    return [o if o.error is None else o._replace(error=InputError(first_line(o.error))) for o in outcomes]


def _outcome(task: Task, simulations: Simulations, place: int) -> Outcome:
    """One simulation, fitted and ranked; whatever fails costs only itself."""
    number = int(simulations.numbers[place])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = task.fit(simulations, place)
            if fit.message.startswith("interrupted"):  # a sampler keeps what it has, and this is to end
                raise KeyboardInterrupt
            ranks, thinned = ranked(fit, simulations, place, task.quantities, task.draws)
        except Exception as error:
            return Outcome(number, None, error=error)
    diverged = fit.is_mcmc and bool(fit.idata["sample_stats"]["diverging"].any())
    warned = tuple({str(each.message).splitlines()[0]: None for each in caught if _is_ours(each)})
    return Outcome(number, ranks, thinned, diverged, warned)


def _is_ours(caught: warnings.WarningMessage) -> bool:
    """Whether a warning is of the fit, and not of what is on its way out of a library."""
    return not issubclass(caught.category, DeprecationWarning | FutureWarning | PendingDeprecationWarning)


def _calibration(task: Task, outcomes: list[Outcome], asked: int, seconds: float) -> Calibration:
    """All outcomes in one."""
    ended = [outcome for outcome in outcomes if outcome.error is None]
    failures = {outcome.number: first_line(outcome.error) for outcome in outcomes if outcome.error is not None}
    names = list(task.quantities.names)
    values = np.array([outcome.ranks for outcome in ended], int).reshape(len(ended), len(names))
    ranks = DataFrame(values, Index([outcome.number for outcome in ended], name="simulation"), names)
    notes = [*_notes(ended, task.draws), *task.quantities.remarks]
    if len(outcomes) < asked:
        notes.insert(0, f"interrupted after {len(outcomes)} of {asked} simulations")
    what = task.name, model_name(task.problem.model)
    return Calibration(*what, ranks, task.draws, task.quantities.of_data_names, failures, tuple(notes), seconds)


def _notes(ended: list[Outcome], draws: int) -> Iterator[str]:
    """What a reader must know of the fits."""
    number, few = len(ended), [outcome.thinned for outcome in ended if outcome.thinned < min(FEW, draws)]
    if few:
        yield f"{len(few)} of {number} fits are worth fewer than {FEW} independent draws (least {min(few)}): draw more"
    if diverged := sum(outcome.diverged for outcome in ended):
        yield f"{diverged} of {number} fits have divergences"
    for text, times in Counter(text for outcome in ended for text in outcome.warned).most_common(SHOWN):
        yield f"{times} of {number} fits warned: {text}"
