"""Fits kept in a folder as soon as they are finished, and taken from there by who goes on."""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import torch

from ...errors import InputError
from ...models.structure import Model, one_line
from ..data.data import Data
from ..fit.fit import Fit
from ..fit.saved import COMPARISON, facts_of, fit_files, guide_name
from ..runtime.arviz import from_netcdf
from ..runtime.file import replace_file, sealed, unsealed
from ..runtime.folder import UNFINISHED, stems_of
from .known import known_of
from .restored import guide_with, restored, trained_model

DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError)
SHOWN = 40  # letters of an option


@dataclass(frozen=True)
class Finished:
    """Where the fits of a comparison are kept. resume: whether those that lie there are taken.

    known: what each fit of this comparison is known by, name -> its words, for who saves it.
    """

    folder: Path
    resume: bool = False
    known: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def unfinished(self) -> Path:
        """The folder of fits whose comparison is not finished."""
        return self.folder / UNFINISHED

    def begin(self) -> None:
        """Leave out what another comparison has kept, unless this one goes on from there. Raises InputError."""
        if self.resume or not self.unfinished.is_dir():
            return
        try:
            for path in self.unfinished.glob("*.fit"):
                path.unlink()
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise InputError(f"cannot write into {self.unfinished}: {why}; choose another folder") from error

    def keep(self, name: str) -> Keep:
        """What keeps a Fit of this name, in whatever process it is made."""
        return Keep(self._path(name).absolute(), self.known[name])

    def take(self, name: str, job: Any, made_of: Any, model: Model, data: Data, trains: bool = False) -> Fit | None:
        """The Fit of a job that was kept; None where there is none, or a damaged one.

        made_of: the model as it was given, and the params that are trained already. trains: whether the fit trained
        the model's own. Raises InputError where it was made in another way.
        """
        wanted = self.known[name] = known_of(job, made_of, data)
        if not self.resume:
            return None
        at = self._path(name)
        kept = _read(at) if at.exists() else _of_finished(self.folder, name)
        if kept is None:
            return None
        if kept["known"] != wanted:
            if not at.exists() and self.unfinished.exists():  # results that are about to be replaced
                return None
            raise InputError(f"{self.folder} holds {name} {_difference(kept['known'], wanted)}")
        try:
            return _restored(kept, model, data, job.keywords.get("guide", kept["facts"]["guide"]), trains)
        except DAMAGED as error:
            _say_damaged(at if at.exists() else self.folder, name, error)
            return None

    def of(self, fit: Fit) -> dict[str, str] | None:
        """What a fit is known by, where it can be taken again: it was not interrupted, and its guide can be remade."""
        known = self.known.get(fit.name)
        return known if known is not None and _can_be_kept(fit, known) else None

    def _path(self, name: str) -> Path:
        stem = stems_of([name])[name][:SHOWN]
        return self.unfinished / f"{stem}-{crc32(name.encode()):08x}.fit"


@dataclass(frozen=True)
class Keep:
    """What keeps one Fit. path: of its file. known: what it is known by."""

    path: Path
    known: dict[str, str]

    def __call__(self, fit: Fit) -> Fit:
        """The same Fit, kept; with a remark where that could not be."""
        if not _can_be_kept(fit, self.known):
            return fit
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, sealed(_packed(fit, self.known)))
        except Exception as error:  # a fit that cannot be kept is a fit all the same
            why = str(getattr(error, "strerror", None) or one_line(error)).lower()
            return replace(fit, remarks=(*fit.remarks, f"it could not be kept aside ({why}), and resume makes it anew"))
        return fit


def _can_be_kept(fit: Fit, known: Mapping[str, str]) -> bool:
    """Whether a Fit is finished, and its guide, where it has one, can be made again."""
    return not fit.message.startswith("interrupted") and ("guide" in known or guide_name(fit) != "")


def _packed(fit: Fit, known: Mapping[str, str]) -> bytes:
    """One file of a Fit: its numbers as in a folder of results, and what it is known by."""
    parts: dict[str, Any] = {"facts": json.dumps(facts_of(fit, "")), "known": json.dumps(known)}
    for name, write in fit_files(fit, "").items():
        memory = BytesIO()
        write(memory)
        parts[name] = torch.frombuffer(bytearray(memory.getvalue()), dtype=torch.uint8)
    memory = BytesIO()
    torch.save(parts, memory)
    return memory.getvalue()


def _read(path: Path) -> dict[str, Any] | None:
    """What was kept of a Fit; None, and a warning, where that is damaged."""
    try:
        parts = torch.load(BytesIO(unsealed(path.read_bytes())), weights_only=True)
        tensors, idata = (BytesIO(parts[name].numpy().tobytes()) for name in (".pt", ".nc"))
        return {
            "facts": json.loads(parts["facts"]),
            "known": json.loads(parts["known"]),
            "tensors": partial(torch.load, tensors, weights_only=True),
            "idata": partial(from_netcdf, idata),
        }
    except DAMAGED as error:
        _say_damaged(path, path.stem.rpartition("-")[0], error)
        return None


def _of_finished(folder: Path, name: str) -> dict[str, Any] | None:
    """The same of a folder whose comparison is finished; None where it has no such Fit."""
    try:
        fits = json.loads((folder / COMPARISON).read_text(encoding="utf-8"))["fits"]
        facts = next((one for one in fits if one["name"] == name and one.get("known")), None)
        if facts is None:
            return None
        tensors = partial(torch.load, folder / f"{facts['stem']}.pt", weights_only=True)
        return {
            "facts": facts,
            "known": facts["known"],
            "tensors": tensors,
            "idata": partial(from_netcdf, folder / f"{facts['stem']}.nc"),
        }
    except DAMAGED:
        return None


def _restored(kept: Mapping[str, Any], model: Model, data: Data, guide: Any, trains: bool) -> Fit:
    tensors = kept["tensors"]()
    model = trained_model(model, tensors, data) if trains else model
    made = None if kept["facts"]["guide"] is None else guide_with(guide, model, data, tensors["guide"])
    return restored(kept["facts"], tensors, kept["idata"](), model, data, made)


def _difference(was: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """What differs first between two fits, and what would mend it."""
    mend = "give it as it was, leave resume out to begin anew, or choose another folder"
    for name in {**was, **wanted}:
        before, now = (each.get(name, "none") for each in (was, wanted))
        if before == now:
            continue
        if name in ("model", "data", "method") or max(len(before), len(now)) > SHOWN:
            return f"fitted with another {name}: {mend}"
        return f"fitted with {name}={before} instead of {now}: {mend}"
    return ""


def unfinished_fits(folder: str | Path) -> bool:
    """Whether fits lie in a folder whose comparison is not finished."""
    return any((Path(folder).expanduser() / UNFINISHED).glob("*.fit"))


def _say_damaged(path: Path, name: str, error: Exception) -> None:
    warnings.warn(f"{path} is damaged ({str(error).partition(chr(10))[0]}): {name} is made anew", stacklevel=2)


def say_taken(fits: Mapping[str, Fit], folder: Path) -> None:
    """A line on standard error that names what was taken."""
    if fits and sys.stderr is not None:
        print(f"taken from {folder}: {', '.join(fits)}", file=sys.stderr)
