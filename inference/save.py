"""Results on disk: tables, posteriors and pictures, moved into place together."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from arviz import InferenceData
from matplotlib.figure import Figure
from pandas import DataFrame

from ..errors import InputError
from ..models.structure import one_line
from .plots import plot, plot_fit, plot_forest, plot_losses
from .plots.latent import plot_latent, plot_portrait, plot_reconstructions
from .row_fit import RowFit, tells_q

if TYPE_CHECKING:
    from .comparison import Comparison
    from .fit import Fit

__all__ = ["check_folder", "netcdfs", "pictures", "save", "tables", "write_all"]

Drawing: TypeAlias = Callable[[Any], Figure]
PICTURES: dict[str, Drawing] = {"comparison.png": plot, "losses.png": plot_losses}
PICTURES |= {"fit.png": plot_fit, "forest.png": plot_forest}
ROW_PICTURES: dict[str, Drawing] = {"portrait.png": plot_portrait, "latent.png": plot_latent}
ROW_PICTURES |= {"reconstructions.png": plot_reconstructions}
NOTES = "notes.txt"
STALE = (NOTES, "gaps.csv", "invariant.csv", *PICTURES, *ROW_PICTURES)  # what an earlier call may have left
Files: TypeAlias = dict[str, Callable[[Path], Any]]


def save(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write a comparison into a folder, made where it is missing.

    table.csv; invariant.csv, the label-invariant distances, or gaps.csv; one NetCDF a fit, for `arviz.from_netcdf`;
    comparison.png, losses.png, fit.png and forest.png, and in place of the last two, where the first fit tells q(z | x)
    of a row, portrait.png, latent.png and reconstructions.png; notes.txt where there is something to note, a picture
    that could not be drawn for example.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InputError
        The folder is a file, or nothing can be written there.
    """
    frames = {"table": comparison.table, "invariant": comparison.invariant, "gaps": comparison.gaps}
    files = {**tables(frames), **netcdfs(comparison.fits), **pictures(_drawings(comparison))}
    return write_all(folder, files, comparison.remarks(), STALE)


def write_all(
    folder: str | Path, files: Files, remarks: Collection[str] = (), stale: Collection[str] = ()
) -> list[Path]:
    """Write files by their names into a folder, all of them or none; what was written.

    Files of these names are replaced, others left alone, but for stale ones. All is written aside first and moved in at
    the end. A file that fails for any reason but the disk leaves the others, and is named in notes.txt, below the
    remarks. Raises InputError where nothing can be written.
    """
    folder, remarks = Path(folder).expanduser(), [*remarks]
    check_folder(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".pyrometer-", dir=_ground(folder)) as aside:
            ready = Path(aside) / "ready"
            ready.mkdir()
            for name, write in files.items():
                try:
                    write(ready / name)
                except OSError:
                    raise
                except Exception as error:
                    (ready / name).unlink(missing_ok=True)
                    done = "drawn" if name.endswith(".png") else "written"
                    remarks.append(f"{name} could not be {done}: {one_line(error)}")
            if remarks:
                (ready / NOTES).write_text("\n".join(remarks) + "\n", encoding="utf-8")
            return _move(ready, folder, stale)
    except OSError as error:
        raise InputError(_refusal(folder, error)) from error


def _drawings(comparison: Comparison) -> dict[str, Callable[[], Figure]]:
    """The pictures of a comparison by the names of their files."""
    first = next(iter(comparison.fits.values()))
    if not isinstance(first, RowFit) or not tells_q(first.guide):
        return {name: partial(draw, comparison) for name, draw in PICTURES.items()}
    shared = {name: partial(draw, comparison) for name, draw in PICTURES.items() if draw not in (plot_fit, plot_forest)}
    return {**shared, **{name: partial(draw, first) for name, draw in ROW_PICTURES.items()}}


def tables(frames: Mapping[str, DataFrame]) -> Files:
    """CSV files of those that are not empty."""
    return {f"{name}.csv": partial(_csv, frame) for name, frame in frames.items() if len(frame)}


def netcdfs(fits: Mapping[str, Fit]) -> Files:
    """The posterior of each fit."""
    return {file: partial(_netcdf, fits[name].idata) for name, file in file_names(fits).items()}


def pictures(draws: Mapping[str, Callable[[], Figure]]) -> Files:
    """Pictures by the names of their files."""
    return {name: partial(_png, draw) for name, draw in draws.items()}


def _csv(frame: DataFrame, path: Path) -> None:
    named = all(name is not None for name in frame.index.names)
    frame.to_csv(path, index_label=None if named else "fit")


def _netcdf(idata: InferenceData, path: Path) -> None:
    idata.to_netcdf(str(path), engine="h5netcdf")


def _png(draw: Callable[[], Figure], path: Path) -> None:
    draw().savefig(path)


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


def _move(ready: Path, folder: Path, stale: Collection[str]) -> list[Path]:
    """Everything in `ready` into place: at once where the folder is new, else file by file."""
    written = [folder / path.name for path in sorted(ready.iterdir())]
    if folder.exists():
        for path in written:
            os.replace(ready / path.name, path)
        for name in stale:
            if folder / name not in written:
                (folder / name).unlink(missing_ok=True)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(ready, folder)
    return written
