"""Which guides go with which model, as text."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from ...guides import CATALOGUE, DEFAULTS, USUAL, GuideFactory
from ...guides.auto import AUTO
from .compare import MODELS


def add(commands: Any, what: str) -> None:
    """Add the command. what: its line in the list of commands."""
    parser = commands.add_parser("guides", help=what, description=f"{what.capitalize()}.")
    parser.add_argument("--model", choices=MODELS, help="only those of this model")
    parser.set_defaults(run=lambda options: print(list_guides(MODELS, options.model)))


def list_guides(models: Mapping[str, type], only: str | None = None) -> str:
    """The matrix of models and guides, a line a pair; a star marks those that `compare` takes by itself.

    models: what the command line calls them, name -> class. only: the name of one of them, to list no other.
    """
    known = {name: (CATALOGUE[model], DEFAULTS.get(model, USUAL)) for name, model in models.items()}
    known |= {"any other": (AUTO, USUAL)}
    lines = [("MODEL", "GUIDE", "WHAT IT IS")]
    for name in known if only is None else [only]:
        guides, chosen = known[name]
        rows = [(f"{guide}{' *' if guide in chosen else ''}", describe(factory)) for guide, factory in guides.items()]
        lines += [("" if i else name, guide, what) for i, (guide, what) in enumerate(rows)]
    first, second = (max(len(line[i]) for line in lines) for i in (0, 1))
    text = [f"{model:<{first}}  {guide:<{second}}  {what}".rstrip() for model, guide, what in lines]
    return "\n".join([*text, "* compared where no --guides are given"])


def describe(factory: GuideFactory) -> str:
    """One line: the start of a guide's docstring, or of the family's where the guide is made for one."""
    if isinstance(factory, partial):
        factory = next(iter(factory.keywords.values()), factory.func)
    return (inspect.getdoc(factory) or "").partition("\n")[0].rstrip(".:")
