"""compare: every guide and NUTS on one model and one data set, in one table."""

import copy
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pandas import DataFrame
from pyro.infer import ELBO

from ...errors import InputError, check_jobs, check_path, check_seed, is_one_of
from ...models.structure import Model, Structure
from ..compilation.compiled import Compile
from ..data.as_data import DataLike, data_for
from ..data.data import Data
from ..data.new_data import as_new_data
from ..density.batch_size import on_all_rows, with_batch_size
from ..distributed.group import check_alone
from ..fit.fit import Fit
from ..mapped.blocks import evenly_spaced, may_be_loaded
from ..mcmc.nuts import check_sampling
from ..resume.finished import Finished
from ..runtime.folder import check_folder
from ..runtime.interrupts import keep_what_is_finished
from ..steps.optimizer import Optimizer
from ..svi.svi import check_training
from .comparison import Comparison, compared
from .entries import CLOSED_FORM, METHODS, SVI, Entries, Problem, chosen_guides, run

TEST_ROWS = 100_000  # at most, evenly spaced, of those held out where rows lie in a file


def compare(
    model: Model,
    x: DataLike,
    guides: Entries | None = None,
    *,
    x_test: DataLike | None = None,
    methods: Collection[str] = (SVI,),
    reference: str | Fit | None = "nuts",
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
    steps: int | Literal["auto"] = "auto",
    starts: int = 3,
    lr: float | None = None,
    optimizer: Optimizer = "ClippedAdam",
    estimator: str | ELBO = "auto",
    batch_size: int | None = None,
    warmup: int = 500,
    draws: int | Literal["auto"] = "auto",
    chains: int = 4,
    compile: Compile = "auto",
    dtype: torch.dtype | None = None,
    rows: int | Sequence[int] = 20,
    var_names: Collection[str] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
) -> Comparison:
    """Fit several guides to one model and data, and measure each against a reference posterior.

    Parameters
    ----------
    model : any Pyro program.
    x : what it takes. One argument: a DataFrame, Series, array, tensor, DataLoader, path or data set name. Several: a
        tuple (X, y), or a dict or DataFrame by the parameters' names, whose categories become codes. What is as long as
        the plate of rows is cut along it, the rest is constant.
    guides : names from `pyrometer.guides.catalogue(model)`, or name -> guide, factory, Fit made before, or any method
        with its options bound, `partial(pyrometer.svi, guide="auto_mvn", lr=0.05)`. None takes a sensible few, [] none.
    x_test : held-out rows, in the form of x, for lpd_test.
    methods : svi fits the guides; nuts, laplace, pathfinder, dadvi, bam, em (of a GMM) and cavi (of a BayesianGMM) add
        themselves.
    reference : nuts, another method, the name of a guide, a Fit made before, or None; it is always run.
    seed : the same seed gives the same table, seconds aside.
    jobs : guides fitted at once, in processes of their own; -1 is one a core. None is 1, in this process, or what
        `joblib.parallel_config` around the call says, be it a cluster. The numbers do not depend on it.
    progress : show bars; a line every ten seconds where there is no terminal or notebook.
    steps, starts, lr, optimizer, estimator, batch_size : of `svi`.
    warmup, chains : of `nuts`. draws : of each guide and of each chain; auto is 1,000 of a guide, and of the chains as
        many as their convergence asks for. compile, dtype : of `svi` and `nuts`.
    rows : where rows share no continuous latent (a VAE, say): the training rows, or how many of them, on which the
        guides are held to NUTS over z.
    var_names : the variables that verdict, bias and sd_ratio are about, where auxiliary ones are to be left out.
    folder : where each fit is kept as soon as it is finished, the folder that `save` is to write, say. resume : take
        from there what is finished and go on; the numbers are those of a call without a break. Refused where a fit
        there was made of another model, of other data or by other options. Without it all is made anew.

    Returns
    -------
    Comparison
        A guide that fails is left out and named in `skipped`; the others are kept. A score that fails is a dash and a
        note. Where rows share no continuous latent, the first guide is trained with the model's params, unless nothing
        is left to train, and the others for the params that came out.

    Raises
    ------
    InputError
        Bad data or options, an unknown guide, or nothing that could be fitted.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> guides = ["auto_normal", "auto_mvn"]  # the first without correlations, which this posterior has
    >>> comparison = pyrometer.compare(CorrelatedGaussian(), "faithful", guides, starts=1, progress=False)
    >>> comparison.table["verdict"].to_dict()
    {'nuts': 'means and spreads', 'auto_normal': 'means', 'auto_mvn': 'means and spreads'}
    """
    named, seed = _methods(methods), check_seed(seed)
    check_alone("compare")
    check_jobs(jobs)
    both: dict[str, Any] = {"compile": compile, "dtype": dtype}
    trained = {"steps": steps, "starts": starts, "optimizer": optimizer, "estimator": estimator, **both}
    trained |= {} if is_one_of(draws, "auto") else {"draws": draws}
    trained |= {name: value for name, value in {"lr": lr, "batch_size": batch_size}.items() if value is not None}
    chained = {"warmup": warmup, "chains": chains, "draws": draws, **both}
    check_training(**trained)
    check_sampling(**chained)
    model = copy.deepcopy(model)  # whose networks are made for these rows
    data, structure = data_for(on_all_rows(model), x, dtype, by_rows=True)
    test = None if x_test is None else _held_out(x_test, data, model)
    chosen_vars = None if var_names is None else _variables(var_names, structure)
    finished = _finished(folder, resume)
    problem = Problem(model, data, structure, test, trained, chained, seed, progress, jobs, rows, chosen_vars, finished)
    entries = chosen_guides(problem, guides) if SVI in named or guides else {}
    if entries and SVI not in named:
        raise InputError("guides are given, and methods leaves out svi, which fits them: add it there")
    if entries and batch_size is not None:
        with_batch_size(model, batch_size)  # refused before the work, where the model takes none
    chosen = _reference(problem, reference, entries, named)
    if not structure.only_local:
        _refuse_large(data, [chosen, *named, *(entry for entry in entries.values() if isinstance(entry, str))], chosen)
    for method, check in CLOSED_FORM.items():
        if method in (chosen, *named):
            check(model)
    extra: dict[str, Any] = {reference.name: reference} if isinstance(reference, Fit) else {}
    if not problem.structure.only_local:
        extra |= {name: name for name in (chosen, *named) if name in METHODS and name not in extra}
    entries = {**extra, **entries}
    if not entries:
        raise InputError("there is nothing to fit: name a guide, a method or a reference")
    if finished is not None:
        finished.begin()
    fits = run(problem, entries)
    if finished is None:
        keep_what_is_finished()  # the fits are nowhere else, however long their scores take
    return compared(problem, fits, chosen, gaps=DataFrame())


def _held_out(x: DataLike, data: Data, model: Model) -> Data:
    """Held-out rows, all of them where they and those that are fitted came in memory."""
    test = as_new_data(x, data, model, name="x_test")
    few = (test.rows or 0) <= TEST_ROWS or (data.mapped is None and test.mapped is None)
    return test if few else test.take(evenly_spaced(test.rows or 0, TEST_ROWS))


def _finished(folder: str | Path | None, resume: bool) -> Finished | None:
    """Where fits are kept. Raises InputError where nothing can be written there."""
    if folder is None:
        if resume:
            raise InputError("resume needs the folder of the finished fits: give folder too")
        return None
    check_folder(folder)
    return Finished(check_path(folder), resume)


def _methods(methods: Collection[str] | str) -> list[str]:
    methods = [methods] if isinstance(methods, str) else methods
    if not isinstance(methods, list | tuple | set | frozenset | dict):
        raise InputError(f"methods={methods!r} is no list: name some of {SVI}, {', '.join(METHODS)}")
    if not len(methods):
        raise InputError(f"methods is empty: name one of {SVI}, {', '.join(METHODS)}, or leave it out")
    for method in methods:
        if not is_one_of(method, SVI, *METHODS):
            raise InputError(f"method {method!r} is unknown: choose from {SVI}, {', '.join(METHODS)}")
    return list(dict.fromkeys(methods))


def _refuse_large(data: Data, methods: Sequence[str | None], reference: str | None) -> None:
    """Refuse methods that hold all rows in memory, where these lie in a file and are too many for that."""
    if data.mapped is None or may_be_loaded(data.mapped.bytes):
        return
    for method in methods:
        if method in METHODS and method not in CLOSED_FORM:
            how = f"reference={method!r}" if method == reference else f"method {method!r}"
            size = f"the {data.rows} rows of {data.mapped.pages.place.name}"
            mend = "take reference='cavi' or None, or give compare a sample of rows, x[::1000] say"
            raise InputError(f"{how} holds all rows in memory at every step, and {size} are too many: {mend}")


def _variables(var_names: Collection[str], structure: Structure) -> tuple[str, ...]:
    known = [site.name for site in structure.of_kind("latent", "param", "deterministic")]
    if not isinstance(var_names, Iterable):
        raise InputError(f"var_names={var_names!r} is no list of names: choose from {', '.join(known)}")
    wanted = (var_names,) if isinstance(var_names, str) else tuple(var_names)
    for name in wanted:
        if name not in known:
            raise InputError(f"var_names: the model has no variable {name!r}: choose from {', '.join(known)}")
    if not wanted:
        raise InputError("var_names is empty: name a variable, or leave it out for all")
    return wanted


def _reference(problem: Problem, reference: str | Fit | None, entries: Any, methods: list[str]) -> str | None:
    """The name of the reference; what cannot be one is refused."""
    if problem.structure.only_local:
        if methods != [SVI]:
            raise InputError("rows share no continuous latent: svi alone fits them, and NUTS over z is the reference")
        if not (reference is None or is_one_of(reference, "nuts")):
            named = getattr(reference, "name", reference)
            raise InputError(f"reference={named!r} is not for a model with latents a row only: choose nuts or None")
        if not entries:
            raise InputError("a model with latents a row only needs a guide: name one")
        return reference if isinstance(reference, str) else None
    if isinstance(reference, Fit):
        problem.check(reference, "reference")
        if entries.get(reference.name, reference) is not reference:
            raise InputError(f"reference {reference.name} has the name of an entry: give one of them another")
        return reference.name
    if reference is not None and not is_one_of(reference, *METHODS, *entries):
        raise InputError(f"reference={reference!r} is not one of {', '.join([*METHODS, *entries])}")
    return reference
