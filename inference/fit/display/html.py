"""A Fit as HTML: the figure that matters, its parameters, the model's sites and the guide's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ....display.html import render
from ....display.objects import description
from ....display.table import DASH, Cell, Mark, Table, as_html
from .figure import figure

if TYPE_CHECKING:
    from markupsafe import Markup

    from ....models.structure import Structure
    from ..fit import Fit

SCALARS, OF_ONE = 12, 4  # shown, at most: of all variables, and of one
NUMBERS = 50_000_000  # draws that are averaged, at most


def fit_html(fit: Fit) -> str:
    """`_repr_html_` of a Fit."""
    found = figure(fit)
    bad: Mark = "bad" if fit.converged is False else "partly"
    tone: Mark = "" if found.good is None else "good" if found.good else bad
    params = {name: (str(tuple(value.shape)), value.numel()) for name, value in fit.params.items()}
    scalars = _scalars(fit) if _worth_averaging(fit) else Table({})
    shown = {
        "scalars": as_html(scalars, style=False) if scalars.rows else "",
        "hidden": sum(int(np.prod(values.shape[2:])) for values in fit.posterior.values()) - len(scalars.rows),
        "sites": sites_html(fit.structure),
        "model": render("object.html", thing=description(fit.model), style=False),
        "guide": render("object.html", thing=description(fit.guide), style=False) if fit.guide is not None else "",
        "params": params,
    }
    return str(render("fit.html", fit=fit, figure=found, tone=tone, **shown))


def sites_html(structure: Structure) -> Markup:
    """The sites of a model on its data: kind, shape, dims."""

    def row(site: Any) -> dict[str, Cell]:
        shape = " x ".join(map(str, site.shape)) or "scalar"
        return {"kind": Cell(site.kind), "shape": Cell(shape), "dims": Cell(", ".join(site.dims) or DASH)}

    return as_html(Table({site.name: row(site) for site in structure.sites}), style=False)


def _worth_averaging(fit: Fit) -> bool:
    return not fit.structure.only_local and sum(values.size for values in fit.posterior.values()) <= NUMBERS


def _scalars(fit: Fit) -> Table:
    """Mean and sd of the first scalars of each variable, the sd with two digits and the mean as many decimals."""
    rows: dict[str, dict[str, Cell]] = {}
    for name, mean, sd in _moments(fit):
        if len(rows) < SCALARS:
            decimals = int(np.clip(1 - np.floor(np.log10(sd)), 0, 10)) if np.isfinite(sd) and sd > 0 else 3
            rows[name] = {"mean": Cell(f"{mean:.{decimals}f}"), "sd": Cell(f"{sd:.{decimals}f}" if sd > 0 else DASH)}
    return Table(rows, {"mean": "of the posterior draws", "sd": "their standard deviation"})


def _moments(fit: Fit) -> Iterator[tuple[str, float, float]]:
    for name, values in fit.posterior.items():
        dims = [str(dim) for dim in values.dims[2:]]
        labels = [values.coords[dim].values if dim in values.coords else range(values.sizes[dim]) for dim in dims]
        for place in list(np.ndindex(values.shape[2:]))[:OF_ONE]:
            draws = values.values[(..., *place)]
            entry = ", ".join(str(axis[i]) for axis, i in zip(labels, place, strict=True))
            yield f"{name}[{entry}]" if place else str(name), float(draws.mean()), float(draws.std())
