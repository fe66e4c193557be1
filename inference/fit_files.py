"""A Fit on disk: numbers as NetCDF and tensors, everything else as JSON; nothing in it is code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import arviz as az
import torch
from torch import Tensor

from ..errors import InputError
from ..guides import catalogue
from ..models.structure import Model, exchangeable_dims
from .data import Data
from .fit import Fit
from .guide_of import guide_of
from .relabel import Labels

__all__ = ["FORMAT", "Files", "data_files", "facts_of", "fit_files", "read_data", "read_fit", "read_json"]

FORMAT = 1  # of what is written; another is refused
DATA = "data.pt"
PLAIN = (int, float, str, bool, type(None))
FACTS = ("name", "estimator", "steps", "seconds", "message", "compiled")  # of a Fit, as JSON
ARRAYS = ("losses", "elbo_draws", "log_weights", "in_pivot", "start_losses", "test_losses")
Files = dict[str, Callable[[Path], Any]]


def data_files(data: Data, test: Data | None = None) -> Files:
    """The data, and the rows held out. Raises InputError for an argument that is neither an array nor a plain value."""
    kept = {"data": _plain(data), **({} if test is None else {"test": _plain(test)})}
    return {DATA: lambda path: torch.save(kept, path)}


def fit_files(fit: Fit, stem: str) -> Files:
    """The numbers of a Fit under a stem: posterior and tensors."""
    arrays = {name: torch.as_tensor(getattr(fit, name)) for name in ARRAYS if hasattr(fit, name)}
    state = fit.guide.state_dict() if isinstance(fit.guide, torch.nn.Module) else {}
    kept = {"arrays": arrays, "params": _detached(fit.params), "guide": _detached(state)}
    write_idata = lambda path: fit.idata.to_netcdf(str(path), engine="h5netcdf")  # noqa: E731
    return {f"{stem}.nc": write_idata, f"{stem}.pt": lambda path: torch.save(kept, path)}


def facts_of(fit: Fit, stem: str) -> dict[str, Any]:
    """What JSON says of a Fit."""
    labels = [labels.dim for labels in fit.labels]
    return {
        "stem": stem,
        "labels": labels,
        "remarks": list(fit.remarks),
        **{name: getattr(fit, name) for name in FACTS},
    }


def read_json(path: Path) -> dict[str, Any]:
    """Facts that were written. Raises InputError where there are none, or of another format."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path.parent} holds nothing that was saved here: {path.name} is missing or broken"
        ) from error
    if found.get("format") != FORMAT:
        raise InputError(f"{path} is of format {found.get('format')}, and this version reads {FORMAT}: save it again")
    return found


def read_data(folder: Path) -> tuple[Data, Data | None]:
    """The data, and the rows held out."""
    kept = _tensors(folder / DATA)
    names = {field.name for field in fields(Data)}
    made = {part: Data(**{name: value for name, value in kept[part].items() if name in names}) for part in kept}
    return made["data"], made.get("test")


def read_fit(folder: Path, facts: Mapping[str, Any], model: Model, data: Data, guide: Any = None) -> Fit:
    """A Fit of a model that is given again. guide: that of the Fit, where it is to tell q of new rows."""
    kept = _tensors(folder / f"{facts['stem']}.pt")
    actions = exchangeable_dims(model)
    restored = getattr(model, "restored", None)
    model = restored(kept["params"], *data.args) if restored else model
    arrays = {name: value.numpy() for name, value in kept["arrays"].items()}
    rest: dict[str, Any] = {name: facts[name] for name in FACTS}
    rest |= {"labels": tuple(Labels(dim, actions.get(dim, {})) for dim in facts["labels"]), "params": kept["params"]}
    rest |= {"remarks": tuple(facts["remarks"]), "guide": _guide(guide or facts["name"], model, data, kept["guide"])}
    idata = az.from_netcdf(str(folder / f"{facts['stem']}.nc"), engine="h5netcdf")
    return KINDS["test_losses" in arrays](model=model, data=data, idata=idata, **arrays, **rest)


KINDS: dict[bool, Callable[..., Fit]] = {False: Fit}


def _guide(guide: Any, model: Model, data: Data, state: Mapping[str, Tensor]) -> Any:
    """The guide with the parameters that it had; None where it is not known what made it."""
    if not state or (isinstance(guide, str) and guide not in catalogue(model)):
        return None
    with data.isolated(0):
        made = guide_of(guide, model)
        data.run(made)  # makes its networks
        made.load_state_dict(state)
    return made


def _plain(data: Data) -> dict[str, Any]:
    for value in (*data.args, *data.kwargs.values()):
        if not isinstance(value, Tensor | PLAIN):
            raise InputError(f"a {type(value).__name__} among the data cannot be saved: give arrays, numbers or text")
    return {field.name: getattr(data, field.name) for field in fields(data)}


def _detached(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in values.items()}


def _tensors(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is missing or damaged: save it again") from error
