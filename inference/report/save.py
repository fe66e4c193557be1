"""A Comparison on disk: its table, its fits and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pandas import DataFrame

from ..fit.saved import data_files, facts_of, fit_files, json_file
from ..local_latents.row_fit import RowFit, tells_q
from ..plots.comparison import plot, plot_fit
from ..plots.drawing.figure import figure_of
from ..plots.forest import plot_forest
from ..plots.latent.codes import plot_latent
from ..plots.latent.portrait import plot_portrait
from ..plots.latent.reconstructions import plot_reconstructions
from ..plots.losses import plot_losses
from ..runtime.folder import NOTES, Files, stems_of, write_all
from ..runtime.inert import every_text, inert
from ..runtime.interrupts import asked_to_end

if TYPE_CHECKING:
    from ..compare.comparison import Comparison

COMPARISON, INDEX = "comparison.json", "index.html"
OPTIONS = ("seed", "jobs", "progress")
PICTURES: dict[str, Any] = {
    "comparison.png": plot,
    "losses.png": plot_losses,
    "fit.png": plot_fit,
    "forest.png": plot_forest,
}
ROW_PICTURES: dict[str, Any] = {"portrait.png": plot_portrait, "latent.png": plot_latent}
ROW_PICTURES |= {"reconstructions.png": plot_reconstructions}
FRAMES = ("table", "parameters", "invariant", "gaps")
TABLES = tuple(f"{name}.csv" for name in FRAMES[1:])
STALE = (NOTES, INDEX, *TABLES, *PICTURES, *ROW_PICTURES)  # an earlier call may have left them


def save(comparison: Comparison, folder: str | Path, command: str = "") -> list[Path]:
    """Write a comparison into a folder, made where it is missing.

    table.csv; parameters.csv and invariant.csv, the label-invariant distances, or gaps.csv; one NetCDF a fit for ArviZ,
    and what `pyrometer.load` needs beside: data.pt, one file of tensors a fit, comparison.json;
    comparison.png, losses.png where a fit was trained, fit.png and forest.png, and in place of the last two, where the
    first fit tells q(z | x) of a row, portrait.png, latent.png and reconstructions.png; notes.txt where there is
    something to note, a picture that could not be drawn for example; index.html, the report, with the shell
    command that led to it.

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
    facts["fits"] = [facts_of(fit, stems[name]) for name, fit in comparison.fits.items()]
    rows = problem.chosen_rows.tolist() if problem.structure.only_local else None
    facts["options"] = {"rows": rows, **{name: getattr(problem, name) for name in OPTIONS}}
    files = {**tables(frames), **data_files(first.data, problem.test), COMPARISON: json_file(facts)}
    for name, fit in comparison.fits.items():
        files |= fit_files(fit, stems[name])
    if not asked_to_end():  # pictures take a while
        files |= {INDEX: partial(comparison.report, command=command), **pictures(_drawings(comparison))}
    return write_all(folder, files, comparison.remarks(), STALE)


def _drawings(comparison: Comparison) -> dict[str, Callable[[], Any]]:
    """The pictures of a comparison by the names of their files."""
    first = next(iter(comparison.fits.values()))
    drawings: dict[str, Callable[[], Any]] = {name: partial(draw, comparison) for name, draw in PICTURES.items()}
    if not any(len(fit.losses) for fit in comparison.fits.values()):
        del drawings["losses.png"]
    if isinstance(first, RowFit) and tells_q(first.guide):
        drawings |= {name: partial(draw, first) for name, draw in ROW_PICTURES.items()}
        del drawings["fit.png"], drawings["forest.png"]
    return drawings


def tables(frames: Mapping[str, DataFrame]) -> Files:
    """CSV files of those that are not empty."""
    return {f"{name}.csv": partial(_csv, frame) for name, frame in frames.items() if len(frame)}


def pictures(draws: Mapping[str, Callable[[], Any]]) -> Files:
    """Pictures by the names of their files."""
    return {name: partial(_png, draw) for name, draw in draws.items()}


def _png(draw: Callable[[], Any], path: Path) -> None:
    figure_of(draw).savefig(path)


def _csv(frame: DataFrame, path: Path) -> None:
    """A CSV file in which no name, of a column of the data or of a guide, is a formula to a spreadsheet."""
    label = "fit" if None in frame.index.names else None
    every_text(frame, inert).to_csv(path, index_label=label, errors="backslashreplace")
