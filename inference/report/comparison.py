"""The report of a comparison: verdict, table, what to try next, pictures, the model, the data, how to do it again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ...display.html import render
from ...display.table import as_html
from ...models.structure import model_name
from ..fit.fit import Fit
from ..local_latents.row_fit import RowFit
from ..local_latents.target import tells_q
from ..plots.comparison import plot, plot_fit
from ..plots.evidence import plot_evidence, plot_khat
from ..plots.forest import plot_forest
from ..plots.latent.codes import plot_latent
from ..plots.latent.portrait import plot_portrait
from ..plots.latent.reconstructions import plot_reconstructions
from ..plots.losses import plot_losses
from ..plots.posterior import plot_densities
from .data_summary import data_sentence
from .page import Section, page
from .parts import Drawings, columns_legend, data_section, model_section, picture_sections, reproduction_section
from .pictures import Picture
from .reproduce import lines_of

if TYPE_CHECKING:
    from ..compare.comparison import Comparison

PICTURES: dict[str, Any] = {
    "comparison.png": plot,
    "losses.png": plot_losses,
    "fit.png": plot_fit,
    "forest.png": plot_forest,
}
ROW_PICTURES: dict[str, Any] = {"portrait.png": plot_portrait, "latent.png": plot_latent}
ROW_PICTURES |= {"reconstructions.png": plot_reconstructions}
WORST = 3  # densities, where nothing says which parameter is the worst


def report_of(
    comparison: Comparison,
    methods: Collection[str],
    command: str = "",
    pictures: Mapping[str, Picture] | None = None,
) -> str:
    """The text of the report.

    methods: names of entries that stand for methods. command: that of a shell, if any. pictures: those drawn already,
    as `pictures_of` has them.
    """
    headline, problem, table = comparison.headline(), comparison.problem, comparison.marked()
    about = f"{model_name(problem.model)}, {data_sentence(problem.data, problem.test)}"
    shown = as_html(table, comparison.remarks(), style=False)
    steps = comparison.advice()
    sections = [
        Section("The table", [shown, columns_legend(table)]),
        *([Section("What to try next", [render("steps.html", steps=steps)])] if steps else []),
        *picture_sections(_drawings(comparison, pictures_of(comparison) if pictures is None else pictures)),
        model_section(problem.model, problem.data, problem.structure),
        data_section(problem.data, problem.test),
        reproduction_section(lines_of(comparison, methods), command, problem.seed),
    ]
    return page(f"Pyrometer: {model_name(problem.model)}", headline.sentence, sections, headline.tone, about)


def pictures_of(comparison: Comparison) -> dict[str, Picture]:
    """The pictures of a comparison by the names of their files, each drawn when it is first asked for."""
    first = next(iter(comparison.fits.values()))
    found = {name: Picture(partial(draw, comparison)) for name, draw in PICTURES.items()}
    if not any(len(fit.losses) for fit in comparison.fits.values()):
        found.pop("losses.png", None)
    if isinstance(first, RowFit) and tells_q(first.guide):
        found |= {name: Picture(partial(draw, first)) for name, draw in ROW_PICTURES.items()}
        found = {name: picture for name, picture in found.items() if name not in ("fit.png", "forest.png")}
    return found


def _drawings(comparison: Comparison, pictures: Mapping[str, Picture]) -> Drawings:
    """Pictures by their titles. pictures: as `pictures_of` has them."""
    first, names = next(iter(comparison.fits.values())), ", ".join(comparison.fits)
    evidence = partial(plot_evidence, comparison), f"Log evidence and ELBO of {names}, with their errors"
    khat = partial(plot_khat, comparison), f"Pareto k of the importance weights of {names}"
    shown: dict[str, Any] = {}
    if "losses.png" in pictures:
        shown["Training"] = pictures["losses.png"], f"Minus the ELBO by step of {names}"
    shown |= {"Evidence": evidence} | ({"k-hat": khat} if comparison.table["khat"].notna().any() else {})
    if first.structure.only_local:
        lost = f"What the ELBO of {names} lacks, and how far their means are off, row by row"
        gaps = {"Gaps": (pictures["comparison.png"], lost)} if len(comparison.gaps) else {}
        return gaps | shown | _latent_drawings(first, pictures)
    worst = _worst(comparison)
    overlay = partial(plot_densities, comparison, var_names=worst, num=WORST, figsize=(9.6, 2.8))
    forest = pictures["forest.png"], f"Mean and 94 % interval of the worst parameters by {names}"
    fitted = pictures["fit.png"], f"The data, and what {names} fitted to them"
    title = f"The worst parameter: {worst[0]}" if worst else "The parameters, one by one"
    return {title: (overlay, f"{title}, by {names}"), "The parameters": forest, **shown, "The fits": fitted}


def _worst(comparison: Comparison) -> list[str] | None:
    """The scalar whose mean is farthest off, of all fits; None where there is nothing to hold them to."""
    bias = comparison.table["bias"].dropna()
    return [str(comparison.table.loc[bias.idxmax(), "worst"])] if len(bias) else None


def _latent_drawings(fit: Fit, pictures: Mapping[str, Picture]) -> dict[str, Any]:
    """What the first guide makes of the rows."""
    if "latent.png" not in pictures:
        return {}
    latent = pictures["latent.png"], f"The rows in the latent space of {fit.name}"
    made = pictures["reconstructions.png"], f"Rows, and what {fit.name} makes of them"
    return {"Latent space": latent, "Reconstructions": made}
