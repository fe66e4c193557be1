"""The report of a comparison: verdict, table, what to try next, pictures, the model, the data, how to do it again."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from ...display.html import render
from ...display.table import as_html
from ...models.structure import model_name
from ..local_latents.row_fit import RowFit
from ..local_latents.target import tells_q
from ..plots import plot, plot_fit, plot_forest, plot_losses
from ..plots.latent import plot_latent, plot_reconstructions
from .data_summary import data_sentence
from .page import Section, page
from .parts import Drawings, columns_legend, data_section, model_section, picture_sections, reproduction_section
from .reproduce import lines_of

if TYPE_CHECKING:
    from ..compare.comparison import Comparison


def report_of(comparison: Comparison, methods: Collection[str], command: str = "") -> str:
    """The text of the report. methods: names of entries that stand for methods. command: that of a shell, if any."""
    headline, problem, table = comparison.headline(), comparison.problem, comparison.marked()
    about = f"{model_name(problem.model)}, {data_sentence(problem.data, problem.test)}"
    shown = as_html(table, comparison.remarks(), style=False)
    steps = comparison.advice()
    sections = [
        Section("The table", [shown, columns_legend(table)]),
        *([Section("What to try next", [render("steps.html", steps=steps)])] if steps else []),
        *picture_sections(_drawings(comparison)),
        model_section(problem.model, problem.data, problem.structure),
        data_section(problem.data, problem.test),
        reproduction_section(lines_of(comparison, methods), command, problem.seed),
    ]
    return page(f"Pyrometer: {model_name(problem.model)}", headline.sentence, sections, headline.tone, about)


def _drawings(comparison: Comparison) -> Drawings:
    """The pictures, by their titles."""
    first, names = next(iter(comparison.fits.values())), ", ".join(comparison.fits)
    training = {"Training": (partial(plot_losses, comparison), f"Minus the ELBO by step of {names}")}
    if not first.structure.only_local:
        fitted = partial(plot_fit, comparison), f"The data, and what {names} fitted to them"
        forest = partial(plot_forest, comparison), f"Mean and 94 % interval of each parameter by {names}"
        return {"The fits": fitted, "The parameters": forest, **training}
    gaps = partial(plot, comparison), f"What the ELBO of {names} lacks, and how far their means are off, row by row"
    drawings: dict[str, Any] = {**({"Gaps": gaps} if len(comparison.gaps) else {}), **training}
    if isinstance(first, RowFit) and tells_q(first.guide):
        drawings["Latent space"] = partial(plot_latent, first), f"The rows in the latent space of {first.name}"
        drawings["Reconstructions"] = partial(plot_reconstructions, first), f"Rows, and what {first.name} makes of them"
    return drawings
