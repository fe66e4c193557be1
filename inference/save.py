"""A Comparison on disk: its table, its posteriors and its pictures, all of them or none."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .plots import plot, plot_fit, plot_forest, plot_losses

if TYPE_CHECKING:
    from .compare import Comparison

__all__ = ["check_folder", "save"]

PICTURES = {"comparison.png": plot, "fit.png": plot_fit, "losses.png": plot_losses, "forest.png": plot_forest}
NOTES = "notes.txt"


def save(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write a comparison into a folder, made where it is missing.

    table.csv; invariant.csv, the label-invariant distances; one NetCDF a fit, for `arviz.from_netcdf`; comparison.png,
    fit.png, losses.png and forest.png; notes.txt where there is something to note. Files of these names are replaced,
    others left alone. All is written aside first and moved in at the end, so that nothing half-written stays behind.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InputError
        The folder is a file, or nothing can be written there.
    """
    folder = Path(folder).expanduser()
    check_folder(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".pyrometer-", dir=_ground(folder)) as aside:
            ready = Path(aside) / "ready"
            ready.mkdir()
            _write(comparison, ready)
            return _move(ready, folder)
    except OSError as error:
        raise InputError(_refusal(folder, error)) from error


def check_folder(folder: str | Path) -> None:
    """Raise InputError where `save` could not write into this folder; nothing is left there."""
    folder = Path(folder).expanduser()
    try:
        ground = _ground(folder)
        if not ground.is_dir():
            raise InputError(f"cannot write into {folder}: {ground} is a file; choose another folder")
        with tempfile.TemporaryDirectory(prefix=".pyrometer-", dir=ground):
            pass
    except OSError as error:
        raise InputError(_refusal(folder, error)) from error


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A NetCDF's name a fit, name -> file; unlike ones, on file systems that ignore case too."""
    chosen: dict[str, str] = {}
    for name in names:
        stem = unique = re.sub(r"[^\w.+-]+", "_", name).lstrip(".") or "fit"
        while f"{unique}.nc".lower() in {other.lower() for other in chosen.values()}:
            unique = f"{stem}_{len(chosen)}"
        chosen[name] = f"{unique}.nc"
    return chosen


def _ground(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _refusal(folder: Path, error: OSError) -> str:
    return f"cannot write into {folder}: {(error.strerror or str(error)).lower()}; choose another folder"


def _write(comparison: Comparison, folder: Path) -> None:
    comparison.table.to_csv(folder / "table.csv", index_label="fit")
    if len(comparison.invariant):
        comparison.invariant.to_csv(folder / "invariant.csv", index_label="fit")
    for name, file in file_names(comparison.fits).items():
        comparison.fits[name].idata.to_netcdf(str(folder / file), engine="h5netcdf")
    for file, draw in PICTURES.items():
        draw(comparison).savefig(folder / file)
    if remarks := comparison.remarks():
        (folder / NOTES).write_text("\n".join(remarks) + "\n", encoding="utf-8")


def _move(ready: Path, folder: Path) -> list[Path]:
    """Everything in `ready` into place: at once where the folder is new, else file by file."""
    written = [folder / path.name for path in sorted(ready.iterdir())]
    if folder.exists():
        for path in written:
            os.replace(ready / path.name, path)
        if folder / NOTES not in written:
            (folder / NOTES).unlink(missing_ok=True)  # those of an earlier comparison
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(ready, folder)
    return written
