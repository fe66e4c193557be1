"""A training on disk: whose it is and all that changes, in one file that bears its checksum and is replaced at once."""

import json
import warnings
from dataclasses import fields, is_dataclass
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...models.structure import Model, model_name
from ..runtime.file import replace_file, sealed, unsealed
from ..steps.adam import Adam
from .training import Start

FILE = "checkpoint.pt"
NAMED, LISTED = {"values", "buffers", "best"}, {"losses", "test_losses"}  # parts: tensors by name, numbers in a list
MOMENTS = ("means", "squares")  # of Adam, a tensor a param
DAMAGED = "is no checkpoint, or a damaged one: remove it"
SHOWN = 60  # characters of an option in a message


def write(folder: Path, start: Start, owner: dict[str, Any], more: dict[str, Any]) -> None:
    """Put a training on disk, between steps. owner: what a resumed one must agree with. more: tensors, in dicts too."""
    kept = {**state_of(start), **more, "owner": json.dumps(owner)}
    written = BytesIO()
    torch.save(kept, written)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, sealed(written.getvalue()))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(f"cannot write a checkpoint into {folder}: {why}; what was there before is whole") from error


def state_of(start: Start) -> dict[str, Any]:
    """All that changes in a training, tensors in dicts."""
    guide = start.pairing.guide
    buffers = dict(guide.named_buffers()) if isinstance(guide, nn.Module) else {}
    kept: dict[str, Any] = {"values": start.values, "losses": start.losses, "buffers": buffers}
    if start.fast:
        return kept | {"adam": vars(start.fast.adam)}
    with start.at_work(start.seed):  # Pyro's optimizer goes by the names in the store
        return kept | {"optimizer": start.svi.optim.get_state()}


def read(folder: Path, owner: dict[str, Any]) -> dict[str, Any]:
    """What was written. Raises InputError where there is nothing, or where it belongs to another training."""
    path = folder / FILE
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} holds no checkpoint: train without resume first") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): remove it, or choose another folder") from error
    try:
        kept = _unpacked(content)
        differs = [name for name, value in owner.items() if kept["owner"][name] != value]
    except Exception as error:  # what is no archive of torch's fails in many ways
        raise InputError(f"{path} {DAMAGED}") from error
    for name in differs:
        was, wanted = _from_where_they_part(str(kept["owner"][name]), str(owner[name]))
        other = f"is of another training, {name} {was} instead of {wanted}"
        raise InputError(f"the checkpoint in {folder} {other}: choose another folder, or train as it was")
    return kept


def _unpacked(content: bytes) -> dict[str, Any]:
    """The parts of a checkpoint. Raises one error or another where it is none, or a damaged one."""
    with warnings.catch_warnings(action="ignore"):  # torch's, of archives that are not as it writes them
        kept = torch.load(BytesIO(unsealed(content)), weights_only=True)
    kept["owner"] = json.loads(kept["owner"])
    if not _is_whole(kept):
        raise ValueError("a part of it is missing, or is something else")
    return kept


def _from_where_they_part(one: str, other: str) -> list[str]:
    """Two texts; of long ones, as models are, the options from the first that differs on, as far as a line holds."""
    if max(len(one), len(other)) <= SHOWN:
        return [one, other]
    heads = [text[: text.find("(") + 1] for text in (one, other)]
    parts = [text.removeprefix(head).split(", ") for text, head in zip((one, other), heads, strict=True)]
    first = next((place for place, (was, wanted) in enumerate(zip_longest(*parts)) if was != wanted), 0)
    shown = [", ".join(part[first:])[:SHOWN] for part in parts]
    return [f"{head}{'... ' * (first > 0)}{text} ..." for head, text in zip(heads, shown, strict=True)]


def _is_whole(kept: dict[str, Any]) -> bool:
    """Whether every part is there and of its kind: tensors by name, numbers one after the other, an optimizer."""
    steps = kept.get("adam", kept.get("optimizer"))
    if not (kept.keys() >= NAMED | LISTED and isinstance(steps, dict) and isinstance(kept["owner"], dict)):
        return False
    named, listed = [kept[part] for part in NAMED], [kept[part] for part in LISTED]
    moments = [steps.get(part, []) for part in MOMENTS] if "adam" in kept else []
    return (
        isinstance(kept["owner"].get("guide"), str)
        and all(isinstance(part, dict) and all(isinstance(name, str) for name in part) for part in named)
        and all(isinstance(part, list) for part in [*listed, *moments])
        and all(isinstance(loss, float) for part in listed for loss in part)
        and all(_is_plain(each) for part in [*(part.values() for part in named), *moments] for each in part)
    )


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided


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


def restore(start: Start, kept: dict[str, Any], folder: Path) -> None:
    """Bring a fresh start to where the checkpoint was; to be called after its first, empty, advance."""
    if ("adam" in kept) != bool(start.fast):
        was = "compiled" if "adam" in kept else "not compiled"
        these = f"and these are {start.compiled}: see compile"
        raise InputError(f"the steps of the checkpoint in {folder} were {was}, {these}")
    _check_shapes(start, kept, folder)
    try:
        start.losses = [float(loss) for loss in kept["losses"]]
        start.values = kept["values"]
        start.minibatches.draw(len(start.losses))
        if isinstance(start.pairing.guide, nn.Module):
            start.pairing.guide.load_state_dict(kept["buffers"], strict=False)
        if start.fast:
            start.fast.adam = Adam(**kept["adam"])
        else:
            start.svi.optim.set_state(kept["optimizer"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{folder / FILE} {DAMAGED}") from error


def _check_shapes(start: Start, kept: dict[str, Any], folder: Path) -> None:
    """Refuse what was kept of params of other names or shapes than the training has."""
    wanted = _shapes(start.values)
    parts = {"values": (kept["values"], wanted)}
    if kept["best"]:
        parts["best"] = (kept["best"], wanted)
    if start.fast and kept["adam"].get("taken"):
        names = list(start.fast.training.params)
        for part in ("means", "squares"):
            moments = dict(zip(names, kept["adam"].get(part, ()), strict=False))
            parts[part] = (moments, {name: wanted[name] for name in names})
    for part, (values, asked) in parts.items():
        has = _shapes(values)
        for name in {**asked, **has}:
            if has.get(name) != asked.get(name):
                what = f"has other {part} of {name!r} than this training"
                raise InputError(f"the checkpoint in {folder} {what}: choose another folder")


def _shapes(values: dict[str, Tensor]) -> dict[str, Any]:
    return {name: (value.shape, value.dtype) for name, value in values.items()}
