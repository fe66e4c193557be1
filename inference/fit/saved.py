"""A Fit on disk: numbers as NetCDF and tensors, everything else as JSON; nothing in it is code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import InputError
from ...guides import catalogue
from ..data.data import Data
from ..mapped.references import reference_to
from ..mapped.tensor import Mapped
from ..runtime.arviz import to_netcdf
from ..runtime.folder import Files, stems_of

if TYPE_CHECKING:
    from .fit import Fit

FORMAT = 1  # of what is written; another is refused
DATA, FIT, COMPARISON = "data.pt", "fit.json", "comparison.json"
PLAIN = (int, float, str, bool, type(None))
FACTS = ("name", "estimator", "steps", "seconds", "converged", "why", "message", "remarks", "compiled")  # as JSON
ARRAYS = ("losses", "elbo_draws", "log_weights", "in_pivot", "start_losses", "test_losses")


def files_of(fit: Fit) -> Files:
    """The files of a Fit: posterior as NetCDF, data and parameters as tensors, the rest in fit.json."""
    stem = stems_of([fit.name])[fit.name]
    return {**fit_files(fit, stem), **data_files(fit.data), FIT: json_file(facts_of(fit, stem))}


def data_files(data: Data, test: Data | None = None) -> Files:
    """The data, and the rows held out. Raises InputError for an argument that is neither an array nor a plain value."""
    kept = {"data": _plain(data), **({} if test is None else {"test": _plain(test)})}
    return {DATA: partial(torch.save, kept)}


def fit_files(fit: Fit, stem: str) -> Files:
    """The numbers of a Fit under a stem: posterior and tensors."""
    arrays = {name: torch.as_tensor(getattr(fit, name)) for name in ARRAYS if hasattr(fit, name)}
    state = fit.guide.state_dict() if isinstance(fit.guide, torch.nn.Module) else {}
    kept = {"arrays": arrays, "params": _detached(fit.params), "guide": _detached(state)}
    return {
        f"{stem}.nc": partial(to_netcdf, fit.idata),
        f"{stem}.pt": partial(torch.save, kept),
    }


def facts_of(fit: Fit, stem: str) -> dict[str, Any]:
    """What JSON says of a Fit."""
    more = {"stem": stem, "exchangeable": fit.exchangeable, "guide": guide_name(fit)}
    return {**more, **{name: getattr(fit, name) for name in FACTS}}


def guide_name(fit: Fit) -> str | None:
    """The catalogue's name of a guide's class; empty where it has none, None where there is no guide."""
    if fit.guide is None:
        return None
    return next((name for name, made in catalogue(fit.model).items() if made is type(fit.guide)), "")


def json_file(facts: Mapping[str, Any]) -> Any:
    """Facts as a file that says which format it is in."""
    text = json.dumps({"format": FORMAT, **facts}, indent=1)
    return lambda file: file.write(text.encode())


def _plain(data: Data) -> dict[str, Any]:
    for value in (*data.args, *data.kwargs.values()):
        if not isinstance(value, (Tensor, *PLAIN)):
            raise InputError(f"a {type(value).__name__} among the data cannot be saved: give arrays, numbers or text")
    data = data.map(lambda value: reference_to(value) if isinstance(value, Mapped) else value)  # type: ignore[arg-type, return-value]
    return {field.name: getattr(data, field.name) for field in fields(data)}


def _detached(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in values.items() if isinstance(value, Tensor)}
