"""The report of a training, or of fits of several sizes of a model: tables, pictures, the model, how to do it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from ...display.table import Mark, Table, as_html
from ...models.structure import model_name
from ..fit.fit import Fit
from .data_summary import data_sentence
from .page import Section, page
from .parts import Drawings, data_section, model_section, picture_sections, reproduction_section
from .pictures import Picture


def report_of_fits(
    sentence: str,
    fit: Fit,
    tables: Mapping[str, Table],
    drawings: Drawings,
    notes: Sequence[str] = (),
    tone: Mark = "",
    command: str = "",
    seed: int | None = None,
) -> str:
    """The text of a report. fit: whose model and data it shows. notes: below the first table, or in its place."""
    remarks = {next(iter(tables), "Notes"): notes} if notes else {}
    told = {title: as_html(table, remarks.get(title, ()), style=False) for title, table in tables.items()}
    said = [Section("Notes", prose=notes)] if notes and not tables else []
    sections = [*(Section(title, [shown]) for title, shown in told.items()), *said, *picture_sections(drawings)]
    sections += [model_section(fit.model, fit.data, fit.structure), data_section(fit.data)]
    sections += [reproduction_section("", command, seed)]
    about = f"{model_name(fit.model)}, {data_sentence(fit.data, None)}"
    return page(f"Pyrometer: {model_name(fit.model)}", sentence, sections, tone, about)


def training_page(
    summary: str, fit: Fit, tables: Mapping[str, Table], pictures: Mapping[str, Picture], command: str, seed: int
) -> Callable[[BinaryIO], int]:
    """What writes the report of a training. summary: lines. pictures: by the names of their files."""
    titles = {name: Path(name).stem.capitalize() for name in pictures}
    drawn = {titles[name]: (picture, f"{titles[name]} of {fit.name}") for name, picture in pictures.items()}
    sentence, *notes = [*summary.splitlines(), *fit.remarks]

    def write(file: BinaryIO) -> int:
        text = report_of_fits(sentence, fit, tables, drawn, notes, command=command, seed=seed)
        return file.write(text.encode())

    return write
