"""compare: every guide and NUTS on one model and one data set, in one table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..guides import GuideFactory, catalogue, defaults
from ..models import VAE
from ..models.structure import Model, model_name
from .closed_form import cavi, em
from .compare_rows import compare_rows
from .comparison import Comparison
from .compiled import Compile
from .data import Tabular, as_data, as_new_data
from .fit import Fit
from .fits import fit_all
from .invariants import invariants
from .nuts import nuts
from .posterior import matched_to
from .scores import scores, unconverged
from .svi import svi

__all__ = ["compare"]

SPREAD = 5.0  # nats between the best and the worst start beyond which a reader should know
CLASSICS: dict[str, Callable[..., Fit]] = {"em": em, "cavi": cavi}
Guides = Iterable[str] | Mapping[str, GuideFactory]


def compare(
    model: Model,
    x: Tabular,
    guides: Guides | None = None,
    *,
    x_test: Tabular | None = None,
    methods: Collection[str] = ("svi",),
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
    compile: Compile = "auto",
    rows: int | Sequence[int] = 20,
) -> Comparison:
    """Fit several guides to one model and data, and measure each against a reference posterior.

    Parameters
    ----------
    model : a Pyro program model(x), its observations under a plate named `data`.
    x : DataFrame, Series, array, tensor, path or data set name: (N, D), or (N,) for a model of a vector.
    guides : names from `pyrometer.guides.catalogue(model)`, or name -> factory; None takes a sensible few.
    x_test : held-out rows with the columns of x, for lpd_test.
    methods : svi fits the guides; nuts, em (of a GMM) and cavi (of a BayesianGMM) add themselves.
    reference : nuts, another method, the name of a guide, a Fit made before, or None; it is always run.
    seed : the same seed gives the same table, seconds aside.
    jobs : guides fitted at once, each in a process of its own.
    progress : show bars; they are silent where there is no terminal or notebook.
    steps, starts, batch_size : of `svi`.
    warmup, chains : of `nuts`. draws : of each guide and of each chain. compile : of `svi` and `nuts`.
    rows : of a VAE only: the training rows, or how many of them, on which the guides are held to NUTS over z.

    Returns
    -------
    Comparison
        A guide that fails is left out and named in `skipped`; the others are kept. That of a VAE is a `RowComparison`:
        the first guide is trained with the decoder, unless that is frozen, the others for the decoder that came out.

    Raises
    ------
    InputError
        Bad data or options, an unknown guide, or nothing that could be fitted.

    Examples
    --------
    >>> compare(BayesianGMM(2), "faithful", ["structured", "auto_mvn"]).table  # doctest: +SKIP
    """
    for method in methods:
        if method not in ("svi", "nuts", *CLASSICS):
            raise InputError(f"method {method!r} is unknown: choose from svi, nuts, {', '.join(CLASSICS)}")
    factories = _factories(model, guides) if "svi" in methods else {}
    if isinstance(model, VAE):
        _refuse_for_rows(methods, reference)
        work = {"seed": seed, "progress": progress, "compile": compile, "steps": steps, "starts": starts}
        chains_of_z = {"warmup": warmup, "draws": draws, "chains": chains} if reference == "nuts" else None
        return compare_rows(
            model, x, factories, x_test=x_test, rows=rows, nuts=chains_of_z, jobs=jobs, batch_size=batch_size, **work
        )
    data = as_data(x, components=getattr(model, "components", None))
    if x_test is not None:
        as_new_data(x_test, data, name="x_test")  # a bad one is refused before the work, not after it
    if isinstance(reference, str) and reference not in {*CLASSICS, "nuts", *factories}:
        raise InputError(f"reference={reference!r} is not one of nuts, {', '.join([*CLASSICS, *factories])}")
    common: dict[str, Any] = {"seed": seed, "progress": progress}
    markov: dict[str, Any] = {"compile": compile, "warmup": warmup, "draws": draws, "chains": chains}
    todo: dict[str, Callable[[], Fit]] = {}
    for method in dict.fromkeys([*([reference] if isinstance(reference, str) else []), *methods]):
        if method == "nuts":
            todo["nuts"] = partial(nuts, model, data, **markov, **common)
        elif method in CLASSICS:
            todo[method] = partial(CLASSICS[method], model, data, **common)
    sizes: dict[str, Any] = {
        "compile": compile,
        "steps": steps,
        "starts": starts,
        "draws": draws,
        "batch_size": batch_size,
    }
    for name, factory in factories.items():
        todo[name] = partial(svi, model, factory, data, name=name, **sizes, **common)
    fits, skipped = fit_all(todo, jobs)
    if isinstance(reference, Fit):
        fits = {reference.name: reference, **fits}
    ruler = reference.name if isinstance(reference, Fit) else reference
    return _comparison(fits, skipped, ruler if ruler in fits else None, x_test)


def _refuse_for_rows(methods: Collection[str], reference: str | Fit | None) -> None:
    """What a VAE is not compared with."""
    if list(methods) != ["svi"]:
        raise InputError("a VAE is fitted by svi alone: leave methods as it is, NUTS over z is the reference")
    if reference not in ("nuts", None):
        raise InputError(f"reference={getattr(reference, 'name', reference)!r} is not for a VAE: choose nuts or None")


def _factories(model: Model, guides: Guides | None) -> dict[str, str | GuideFactory]:
    """Guides by name; a name alone stands for its catalogue entry. Unknown names are refused."""
    if isinstance(guides, str):
        guides = [guides]
    chosen = dict(guides) if isinstance(guides, Mapping) else {name: name for name in guides or defaults(model)}
    known = catalogue(model)
    for guide in chosen.values():
        if isinstance(guide, str) and guide not in known:
            raise InputError(f"model {model_name(model)} has no guide {guide!r}: choose from {', '.join(known)}")
    return chosen


def _comparison(
    fits: dict[str, Fit], skipped: dict[str, str], reference: str | None, x_test: Tabular | None
) -> Comparison:
    first = fits[reference] if reference else next(iter(fits.values()))
    pivot = first.pivot()
    fits = {name: fit if fit is first else matched_to(fit, pivot) for name, fit in fits.items()}
    ruler = fits[reference] if reference else None
    table = pd.DataFrame([scores(fit, ruler, x_test) for fit in fits.values()], index=list(fits)).infer_objects()
    notes = list(_notes(fits))
    if reference and (fault := unconverged(fits[reference])):
        table.loc[reference, "estimator"] += " (not converged)"
        notes.insert(0, f"the reference {reference} did not converge ({fault}): do not trust bias and sd_ratio")
    return Comparison(fits, table, reference, skipped, invariants(fits, first), tuple(notes))


def _notes(fits: dict[str, Fit]) -> Iterable[str]:
    for name, fit in fits.items():
        if fit.message:
            yield f"{name}: {fit.message}"
        ended = fit.start_losses[np.isfinite(fit.start_losses)]
        if len(ended) > 1 and np.ptp(ended) > SPREAD:
            yield f"{name}: {len(ended)} starts lay {np.ptp(ended):.1f} nats apart when the best was chosen"
