"""The parts that every report has: pictures, the model, the data, how to reproduce."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...display.html import render
from ...display.objects import description
from ...display.table import Cell, Table, as_html
from ...models.structure import Model, Structure
from ..data.data import Data
from ..fit.display.html import sites_html
from .data_summary import data_sentence, data_table, left_out
from .page import Section, code, picture
from .pictures import Picture
from .program import graph_html, source_html
from .reproduce import versions

Drawings = Mapping[str, tuple[Callable[[], Any] | Picture, str]]  # title -> what draws a Figure, and what it shows
LONG_SOURCE = 60  # lines, beyond which the source is folded


def picture_sections(drawings: Drawings) -> list[Section]:
    """A section a picture."""
    return [Section(title, [picture(draw, says)]) for title, (draw, says) in drawings.items()]


def model_section(model: Model, data: Data, structure: Structure) -> Section:
    """What a model of the package says of itself, the graph, the sites, and the source."""
    graph, without_graph = graph_html(model, data)
    source, without_source = source_html(model)
    said = description(model)
    about = render("object.html", thing=said, style=False) if said.parameters else ""
    long = source is not None and source.count("\n") > LONG_SOURCE
    shown = render("folded.html", title="source", content=source) if long else source
    prose = [line for line in (without_graph, without_source) if line]
    return Section("The model", [part for part in (about, graph, sites_html(structure), shown) if part], prose)


def data_section(data: Data, test: Data | None = None) -> Section:
    """How many rows, and every argument or column in figures."""
    return Section("The data", [as_html(data_table(data), style=False)], [data_sentence(data, test), *left_out(data)])


def reproduction_section(lines: str, command: str = "", seed: int | None = None) -> Section:
    """The shell command, the lines of code and the versions that lead to the same numbers."""
    known = Table({name: {"version": Cell(text)} for name, text in versions().items()})
    same = "the same numbers on the same machine and versions, seconds aside."
    said = [] if seed is None else [f"Seed {seed}: {same}"]
    parts = [code(text) for text in (command, lines) if text]
    return Section("How to reproduce", [*parts, as_html(known, style=False)], said)


def columns_legend(table: Table) -> Any:
    """What each column of a table says, folded."""
    says = Table({name: {"says": Cell(table.says.get(name, ""))} for name in table.columns})
    return render("folded.html", title="what the columns say", content=as_html(says, style=False))
