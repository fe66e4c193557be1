"""The site, which `make docs` builds into build/docs: no network is needed, and a warning is an error.

Docstrings are plain text with names in backticks. Before napoleon reads them, what reStructuredText would take for
markup is escaped, and `name : what it is` becomes a name with a description instead of a type.
"""

import logging
import re
import shutil
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "Pyrometer"
author = copyright = "The Pyrometer developers"
version = release = PROJECT["version"]
html_title = f"Pyrometer {version}"
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # brings MathJax with it, so that equations are seen without a network
]
exclude_patterns = ["**/.ipynb_checkpoints"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_favicon = html_logo = None
templates_path: list[str] = []

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their pictures; `make notebooks` runs them
nb_merge_streams = True

default_role = "py:obj"  # `compare` is a link where it is documented, and code where it is not
autodoc_typehints = "none"  # docstrings say in words and shapes what is taken
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 90
add_module_names = False
toc_object_entries_show_parents = "hide"

logging.getLogger().addHandler(logging.NullHandler())  # else ArviZ brings one, and tells of its parts

HEADING = re.compile(r"-{3,}$")
NAMED = re.compile(r"([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*) : (.*)")
ANOTHER = re.compile(r"(?<=\.) (?=[a-z_]\w*(?:, [a-z_]\w*)* : )")  # name on the line of the one before
PIPE_OR_STAR, ESCAPED = re.compile(r"[|*]"), r"\\\g<0>"
MARKUP = re.compile(r"[*|\\]|_(?!\w)")


def escaped(line: str) -> str:
    """The line with what is markup outside of backticks as plain characters."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else MARKUP.sub(ESCAPED, part) for part in parts)


def read_as_plain_text(app: Any, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """A docstring's lines, changed in place."""
    section, read = "", []
    lines[:] = [part for line in lines for part in ANOTHER.split(line)]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if HEADING.match(after.strip()) and line.strip():
            section = line.strip()
        alone = not after.strip() or after.startswith(" ") or NAMED.match(after)  # else it is a sentence with a colon
        named = NAMED.match(line) if alone else None
        if section == "Examples" or HEADING.match(line):
            read.append(line)
        elif named:
            read += [named[1], f"    {escaped(named[2])}"]
        else:
            read.append(escaped(line))
    lines[:] = read


def take_in_notebooks(app: Any) -> None:
    """Copies of the notebooks beside the pages: Sphinx reads nothing above its own folder."""
    copies = HERE / "notebooks"
    copies.mkdir(exist_ok=True)
    names = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    for stale in [path for path in copies.glob("*.ipynb") if path.name not in names]:
        stale.unlink()
    for name in names:
        shutil.copy2(ROOT / "notebooks" / name, copies / name)


def catalogue_of_guides() -> str:
    """A section a model: its own guides by name, and the classes that they are made from, each once."""
    from pyrometer.guides import CATALOGUE, WORDS
    from pyrometer.guides.auto import AUTO

    known: set[type] = set()
    sections = []
    by_title: dict[str, Any] = {f"Of `{model.__name__}`": guides for model, guides in CATALOGUE.items()}
    for title, guides in {**by_title, "Of any model": AUTO}.items():
        own = {name: guide for name, guide in guides.items() if guides is AUTO or name not in AUTO}
        made = [factory.func if isinstance(factory, partial) else factory for factory in own.values()]
        kinds = [kind for kind in dict.fromkeys(made) if isinstance(kind, type) and kind not in known]
        known |= {*kinds}
        table = [f"| `{name}` | {PIPE_OR_STAR.sub(ESCAPED, WORDS[name])} |" for name in own]
        classes = [f".. autoclass:: {kind.__module__}.{kind.__name__}" for kind in kinds]
        sections += [f"## {title}", "\n".join(["| name | what it is |", "|---|---|", *table])]
        sections += ["\n".join(["```{eval-rst}", *classes, "```"])] if classes else []
    return "\n\n".join(sections)


def fill_in(app: Any, name: str, source: list[str]) -> None:
    """The catalogue in the page that asks for it."""
    if name == "reference/guides":
        source[0] = source[0].replace("{{ catalogue }}", catalogue_of_guides())


def setup(app: Any) -> None:
    """Connect all three."""
    app.connect("source-read", fill_in)
    app.connect("config-inited", lambda app, config: take_in_notebooks(app))
    app.connect("autodoc-process-docstring", read_as_plain_text, priority=400)  # before napoleon's 500
