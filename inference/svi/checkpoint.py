"""A training on disk: all that changes in one file of tensors, replaced at once; whose it is in JSON beside it."""

import json
import os
import pickle
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pyro
import torch
from torch import nn

from ...errors import InputError
from ...models.structure import Model, model_name
from ..data.as_data import DataLike, data_for
from ..density.batch_size import on_all_rows
from ..local_latents.row_fit import RowFit, row_fit
from ..steps.adam import Adam
from ..steps.pairing import pair
from .guide_of import guide_of
from .training import Start

TENSORS, OWNER = "checkpoint.pt", "checkpoint.json"


def write(folder: Path, start: Start, owner: dict[str, Any], more: dict[str, Any]) -> None:
    """Put a training on disk, between steps. owner: what a resumed one must agree with. more: tensors, in dicts too."""
    guide = start.pairing.guide
    buffers = dict(guide.named_buffers()) if isinstance(guide, nn.Module) else {}
    kept: dict[str, Any] = {"values": start.values, "losses": start.losses, "buffers": buffers, **more}
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
    """What a model is known by in a checkpoint, wherever it runs and in whatever batches.

    A field whose metadata say `later` counts where it is not at its default, so that checkpoints from before it hold.
    """
    if not is_dataclass(model):
        return model_name(model)
    old = lambda each: each.metadata.get("later") and getattr(model, each.name) == each.default  # noqa: E731
    held = {each.name: getattr(model, each.name) for each in fields(model) if each.repr and not old(each)}
    known = {name: model_name(value) if isinstance(value, FunctionType) else value for name, value in held.items()}
    known |= dict.fromkeys({"batch_size", "device"} & known.keys())
    said = ", ".join(f"{name}={value!r}" for name, value in known.items())
    return f"{model_name(model)}({' '.join(said.split())})"


def trained(folder: str | Path, model: Any, x: DataLike, guide: Any = None, draws: int = 50) -> RowFit:
    """The fit that a training left in its folder, its model frozen; nothing is trained again.

    model: as it was given to `train`. x: the rows it was trained on. guide: what made it, where it is none of the
    catalogue's names. Raises InputError where the checkpoint is none, or of another model or architecture.
    """
    folder = Path(folder).expanduser()
    try:
        data, structure = data_for(on_all_rows(model), x)  # which tells a model of strings its alphabet, too
    except InputError:
        read(folder, {"model": known_by(model)})  # another model than was trained is the better reason
        raise
    kept = read(folder, {"model": known_by(model)})
    name = json.loads((folder / OWNER).read_text())["guide"]
    values, done = kept.get("best") or kept["values"], len(kept["losses"])
    with data.isolated(0):
        try:
            restored = model.restored(values, data.values).frozen()
            pairing = pair(restored, guide_of(guide or name, restored), name, data, structure, "auto")
            for name_of, value in pyro.get_param_store().get_state()["params"].items():
                value.data.copy_(values[name_of])
            if isinstance(pairing.guide, nn.Module):
                pairing.guide.load_state_dict(kept["buffers"], strict=False)
        except (RuntimeError, KeyError) as error:
            shape = tuple(data.values.shape[1:])
            raise InputError(
                f"the checkpoint in {folder} does not fit rows of shape {shape}: {_first(error)}"
            ) from error
        how = {"losses": np.array(kept["losses"]), "steps": done, "params": values}
        found = row_fit(name, pairing, data, draws, **how)
    return replace(found, test_losses=np.array(kept["test_losses"]))


def _first(error: Exception) -> str:
    """The first fault of those that torch names when tensors are loaded into a network."""
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[min(1, len(lines) - 1)]


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
