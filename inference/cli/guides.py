"""Which guides go with which model, as text."""

from collections.abc import Mapping
from functools import partial

from ...guides import CATALOGUE, DEFAULTS, USUAL, GuideFactory
from ...guides.auto import AUTO


def list_guides(models: Mapping[str, type], only: str | None = None) -> str:
    """The matrix of models and guides, a line a pair; a star marks those that `compare` takes by itself.

    models: what the command line calls them, name -> class. only: the name of one of them, to list no other.
    """
    lines = [("MODEL", "GUIDE", "WHAT IT IS")]
    for name, model in models.items():
        if only in (None, name):
            lines += _section(name, CATALOGUE[model], DEFAULTS.get(model, USUAL))
    if only is None:
        lines += _section("any other", AUTO, USUAL)
    first, second = (max(len(line[i]) for line in lines) for i in (0, 1))
    text = [f"{model:<{first}}  {guide:<{second}}  {what}".rstrip() for model, guide, what in lines]
    return "\n".join([*text, "* compared where no --guides are given"])


def describe(factory: GuideFactory) -> str:
    """One line: the start of a guide's docstring, or of the family's where the guide is made for one."""
    if isinstance(factory, partial):
        factory = next(iter(factory.keywords.values()), factory.func)
    lines = (getattr(factory, "__doc__", None) or "").strip().splitlines()
    return lines[0].rstrip(".:") if lines else ""


def _section(model: str, guides: Mapping[str, GuideFactory], chosen: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(model, guide, description) of each guide, the model named once."""
    rows = [(f"{name}{' *' if name in chosen else ''}", describe(factory)) for name, factory in guides.items()]
    return [(model if i == 0 else "", guide, what) for i, (guide, what) in enumerate(rows)]
