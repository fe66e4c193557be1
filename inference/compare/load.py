"""What was saved, read back: a Fit or a Comparison, of a model that is given again."""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ...errors import InputError, check_path
from ...models.structure import Model
from ..data.data import Data, structure_on
from ..density.batch_size import on_all_rows
from ..fit.fit import Fit
from ..fit.saved import COMPARISON, DATA, FIT, FORMAT
from ..mapped.references import rows_again
from ..resume.restored import guide_with, restored, trained_model
from ..runtime.arviz import from_netcdf
from ..runtime.inert import as_it_was, every_text
from ..runtime.staging import tidy
from .comparison import Comparison
from .entries import Problem

LONG = {"gaps": ("guide", "row"), "parameters": ("fit", "scalar")}  # tables with an index of two
FRAMES = ("table", "invariant", *LONG)


def load(path: str | Path, model: Model, guides: Mapping[str, Any] | None = None) -> Fit | Comparison:
    """Read what `fit.save` or `comparison.save` wrote.

    Parameters
    ----------
    path : the folder.
    model : the model that was fitted, which is code and so is not kept.
    guides : name of a fit -> its guide, where that is to tell q of new rows; the catalogue's by default.

    Returns
    -------
    Fit or Comparison
        The numbers are those that were saved; nothing is run again.

    Raises
    ------
    InputError
        There is nothing that was saved, it is damaged, or the model is another.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> from tempfile import TemporaryDirectory
    >>> fit = pyrometer.laplace(CorrelatedGaussian(), "faithful", progress=False)
    >>> with TemporaryDirectory() as folder:
    ...     files = fit.save(folder)
    ...     again = pyrometer.load(folder, CorrelatedGaussian())
    >>> bool((again.posterior["loc"] == fit.posterior["loc"]).all())
    True
    """
    folder, guides = check_path(path), guides or {}
    tidy(folder)
    parts = {part: _data(folder / DATA, kept) for part, kept in _tensors(folder / DATA).items()}
    data = parts["data"]
    if (folder / FIT).exists():
        facts = _facts(folder / FIT)
        return _fit(folder, facts, model, data, guides.get(facts["name"]))
    facts = _facts(folder / COMPARISON)
    fits = {one["name"]: _fit(folder, one, model, data, guides.get(one["name"])) for one in facts["fits"]}
    problem = Problem(model, data, structure_on(on_all_rows(model), data), parts.get("test"), **facts["options"])
    rest: dict[str, Any] = {name: _frame(folder / f"{name}.csv") for name in FRAMES}
    rest |= {"reference": facts["reference"], "skipped": facts["skipped"], "notes": tuple(facts["notes"])}
    return Comparison(fits, **rest, model=next(iter(fits.values())).model, problem=problem)


def _fit(folder: Path, facts: Mapping[str, Any], model: Model, data: Data, guide: Any) -> Fit:
    kept = _tensors(folder / f"{facts['stem']}.pt")
    model = trained_model(model, kept, data)
    state = kept["guide"]
    made = guide_with(guide or facts["name"], model, data, state) if state else None
    return restored(facts, kept, _read(folder / f"{facts['stem']}.nc", from_netcdf), model, data, made)


def _data(path: Path, kept: Mapping[str, Any]) -> Data:
    if odd := kept.keys() - {field.name for field in fields(Data)}:
        raise InputError(f"{path} is of another version, with {', '.join(sorted(odd))}: save it again")
    again = lambda value: rows_again(value) if isinstance(value, dict) and "mapped" in value else value  # noqa: E731
    args, kwargs = tuple(map(again, kept["args"])), {name: again(value) for name, value in kept["kwargs"].items()}
    return Data(**{**kept, "args": args, "kwargs": kwargs})


def _facts(path: Path) -> dict[str, Any]:
    found = _read(path, lambda path: json.loads(path.read_text(encoding="utf-8")))
    if found.get("format") != FORMAT:
        raise InputError(f"{path} is of format {found.get('format')}, and this version reads {FORMAT}: save it again")
    return found


def _tensors(path: Path) -> dict[str, Any]:
    return _read(path, partial(torch.load, weights_only=True))


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path.parent} holds no saved fit: {path.name} is missing or damaged") from error


def _frame(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    frame = pd.read_csv(path, dtype={"fit": str, "guide": str})  # a name may be a number
    if path.stem in LONG:
        return every_text(frame.set_index(list(LONG[path.stem])), as_it_was)
    return every_text(frame.set_index("fit").rename_axis(None), as_it_was)
