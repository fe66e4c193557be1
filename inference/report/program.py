"""A model for its readers: its source, and the graph of its sites."""

from __future__ import annotations

import functools
import inspect
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pyro
from pyro import poutine

from ...models.structure import Model, model_name, one_line
from ...models.trace import is_deterministic
from ..data.data import Data, structure_on
from .page import code, drawing

if TYPE_CHECKING:
    from markupsafe import Markup

SITES, PARAMS = 60, 12  # in a graph, at most
SECONDS = 30.0  # that drawing it may take


def source(model: Model) -> str:
    """The source of a model, a notebook's cell too; empty where Python does not know it."""
    while isinstance(model, functools.partial):
        model = model.func
    shown: Any = model if inspect.isroutine(model) or inspect.isclass(model) else type(model)
    if inspect.ismethod(shown):
        shown = type(shown.__self__)
    if str(shown.__module__).split(".")[0] in ("pyro", "torch", "builtins", "functools"):
        return ""  # what wraps a model, and not the model
    try:
        return inspect.cleandoc("\n" + inspect.getsource(inspect.unwrap(shown)))
    except (OSError, TypeError):
        return ""


def source_html(model: Model) -> tuple[Markup | None, str]:
    """The source as markup, and a line in its place where there is none."""
    found = source(model)
    return (code(found), "") if found else (None, f"The source of {model_name(model)} is not known to Python.")


def graph_html(model: Model, data: Data) -> tuple[Markup | None, str]:
    """The graph of the model's sites by `pyro.render_model`, and a line in its place where it cannot be drawn."""
    if shutil.which("dot") is None:
        return None, "The graph is left out: graphviz, with its program dot, is not installed."
    try:
        structure = structure_on(model, data)
        if len(structure.sites) > SITES + len(structure.of_kind("param")):
            return None, f"The graph is left out: the model has {len(structure.sites)} sites."
        graph = _rendered(model, data, params=len(structure.of_kind("param")) <= PARAMS)
        command = ["dot", "-Tsvg", "-Gbgcolor=white"]
        run = subprocess.run(command, input=graph.source.encode(), capture_output=True, timeout=SECONDS, check=True)
    except Exception as error:  # what Pyro cannot follow, or dot cannot draw
        return None, f"The graph could not be drawn: {one_line(error)}"
    return drawing(run.stdout, f"The graph of {model_name(model)}: its sites, its plates and what depends on what"), ""


def _rendered(model: Model, data: Data, params: bool) -> Any:
    """The graph by Pyro, without the deterministic sites where it cannot follow these."""
    options = {"render_distributions": True, "render_params": params}
    with data.isolated(0):
        try:
            return pyro.render_model(model, data.args, data.kwargs, render_deterministic=True, **options)
        except Exception:
            shown = poutine.block(model, hide_fn=_is_deterministic)
            return pyro.render_model(shown, data.args, data.kwargs, **options)


def _is_deterministic(msg: Any) -> bool:
    return msg["type"] == "sample" and is_deterministic(msg)
