"""A training on disk: all that changes in one file of tensors, replaced at once; whose it is in JSON beside it."""

import copy
import json
import os
import pickle
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...models.structure import Model, model_name
from ..runtime.pyro_private import MODULE_DIVIDER
from ..steps.adam import Adam
from .training import Start

TENSORS, OWNER = "checkpoint.pt", "checkpoint.json"
PREFIX = f"decoder{MODULE_DIVIDER}"  # of what is in the module `decoder`, in Pyro's store


def write(folder: Path, start: Start, owner: dict[str, Any], more: dict[str, Any]) -> None:
    """Put a training on disk, between steps. owner: what a resumed one must agree with. more: tensors, in dicts too."""
    kept: dict[str, Any] = {"values": start.values, "losses": start.losses, **more}
    if start.fast:
        kept["adam"] = vars(start.fast.adam)
    else:
        with start.at_work(start.seed):  # Pyro's optimizer goes by the names in the store
            kept["optimizer"] = start.svi.optim.get_state()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / OWNER, lambda path: path.write_text(json.dumps(owner, indent=1)))
        _replace(folder / TENSORS, lambda path: torch.save(kept, path))
    except OSError as error:
        raise InputError(f"cannot write a checkpoint into {folder}: {error.strerror or error}") from error


def read(folder: Path, owner: dict[str, Any]) -> dict[str, Any]:
    """What was written. Raises InputError where there is nothing, or where it belongs to another training."""
    try:
        found = json.loads((folder / OWNER).read_text())
        kept = torch.load(folder / TENSORS, weights_only=True)
        differs = [name for name, value in owner.items() if found[name] != value]
        if not {"values", "losses"} <= set(kept):
            raise KeyError("values, losses")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} holds no checkpoint: train without resume first") from error
    except (ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"what lies in {folder} is no checkpoint, or a damaged one: remove it") from error
    for name in differs:
        other = f"is of another training, {name} {found[name]} instead of {owner[name]}"
        raise InputError(f"the checkpoint in {folder} {other}: choose another folder, or train as it was")
    return kept


def known_by(model: Model) -> str:
    """What a model is known by in a checkpoint, wherever it runs and in whatever batches."""
    if not is_dataclass(model):
        return model_name(model)
    aside = {each.name: None for each in fields(model) if each.name in ("batch_size", "device")}
    return repr(replace(model, **aside))  # type: ignore[type-var]


def decoder(folder: str | Path, model: Any, x: Tensor) -> Any:
    """The model with the trained decoder of a checkpoint, frozen. x: rows like those it was trained on.

    Raises InputError where the checkpoint is none, or of another model.
    """
    folder = Path(folder).expanduser()
    kept = read(folder, {"model": known_by(model)})
    trained = copy.deepcopy(model)
    values = (kept.get("best") or kept["values"]).items()
    own = {name.removeprefix(PREFIX): value for name, value in values if name.startswith(PREFIX)}
    try:
        trained.network(x).load_state_dict(own)
    except RuntimeError as error:
        shape = tuple(x.shape[1:])
        raise InputError(f"the checkpoint in {folder} is of rows of another shape than {shape}") from error
    return trained.frozen()


def restore(start: Start, kept: dict[str, Any], folder: Path) -> None:
    """Bring a fresh start to where the checkpoint was; to be called after its first, empty, advance."""
    if ("adam" in kept) != bool(start.fast):
        was = "compiled" if "adam" in kept else "not compiled"
        these = f"and these are {start.compiled}: see compile"
        raise InputError(f"the steps of the checkpoint in {folder} were {was}, {these}")
    start.losses = list(kept["losses"])
    start.values = kept["values"]
    start.minibatches.draw(len(start.losses))
    if start.fast:
        start.fast.adam = Adam(**kept["adam"])
    else:
        start.svi.optim.set_state(kept["optimizer"])


def _replace(path: Path, write: Any) -> None:
    aside = path.with_name(f"{path.name}.new")
    write(aside)
    os.replace(aside, path)
