"""A Comparison on disk: its table, its fits and its pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pandas import DataFrame

from ..fit.saved import COMPARISON, data_files, facts_of, fit_files, json_file
from ..runtime.folder import NOTES, UNFINISHED, Files, stems_of, write_all
from ..runtime.inert import every_text, inert
from ..runtime.interrupts import asked_to_end
from .comparison import PICTURES, ROW_PICTURES, pictures_of, report_of
from .pictures import Picture

if TYPE_CHECKING:
    from ..compare.comparison import Comparison

INDEX = "index.html"
OPTIONS = ("seed", "jobs", "progress")
FRAMES = ("table", "parameters", "invariant", "gaps")
TABLES = tuple(f"{name}.csv" for name in FRAMES[1:])
STALE = (NOTES, UNFINISHED, INDEX, *TABLES, *PICTURES, *ROW_PICTURES)  # an earlier call may have left them


def save(comparison: Comparison, folder: str | Path, methods: Collection[str], command: str = "") -> list[Path]:
    """Write a comparison into a folder, made where it is missing.

    table.csv; parameters.csv and invariant.csv, the label-invariant distances, or gaps.csv; one NetCDF a fit for ArviZ,
    and what `pyrometer.load` needs beside: data.pt, one file of tensors a fit, comparison.json;
    comparison.png, losses.png where a fit was trained, fit.png and forest.png, and in place of the last two, where the
    first fit tells q(z | x) of a row, portrait.png, latent.png and reconstructions.png; notes.txt where there is
    something to note, a picture that could not be drawn for example; index.html, the report, with the shell
    command that led to it. methods: as `report_of` has them.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InputError
        The folder is a file, or nothing can be written there.
    """
    frames = {name: getattr(comparison, name) for name in FRAMES}
    stems, first, problem = stems_of(comparison.fits), next(iter(comparison.fits.values())), comparison.problem
    facts: dict[str, Any] = {name: getattr(comparison, name) for name in ("reference", "skipped", "notes")}
    known = problem.finished.of if problem.finished is not None else lambda fit: None
    facts["fits"] = [{**facts_of(fit, stems[name]), "known": known(fit)} for name, fit in comparison.fits.items()]
    rows = problem.chosen_rows.tolist() if problem.structure.only_local else None
    facts["options"] = {"rows": rows, **{name: getattr(problem, name) for name in OPTIONS}}
    files = {**tables(frames), **data_files(first.data, problem.test), COMPARISON: json_file(facts)}
    for name, fit in comparison.fits.items():
        files |= fit_files(fit, stems[name])
    if not asked_to_end():  # pictures take a while
        drawn = pictures_of(comparison)

        def index(file: BinaryIO) -> int:
            return file.write(report_of(comparison, methods, command, drawn).encode())

        files |= {INDEX: index, **pictures(drawn)}
    return write_all(folder, files, comparison.remarks(), STALE)


def tables(frames: Mapping[str, DataFrame]) -> Files:
    """CSV files of those that are not empty."""
    return {f"{name}.csv": partial(_csv, frame) for name, frame in frames.items() if len(frame)}


def pictures(drawn: Mapping[str, Picture]) -> Files:
    """Pictures by the names of their files."""
    return {name: picture.write for name, picture in drawn.items()}


def _csv(frame: DataFrame, file: BinaryIO) -> None:
    """A CSV file in which no name, of a column of the data or of a guide, is a formula to a spreadsheet."""
    label = "fit" if None in frame.index.names else None
    file.write(every_text(frame, inert).to_csv(index_label=label).encode(errors="backslashreplace"))
