"""Models and guides as HTML: their name, the equation of their docstring, their parameters."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from .html import render

__all__ = ["Described", "described", "description"]

LONGEST = 200  # characters of a parameter's value


class Described(NamedTuple):
    """name; summary: the first line of the docstring; details: the rest of it, up to its sections.

    parameters: name -> its value as text, and what it is.
    """

    name: str
    summary: str
    details: str
    parameters: dict[str, tuple[str, str]]


def described(thing: Any) -> str:
    """`_repr_html_` of a model or guide."""
    return str(render("object.html", thing=description(thing), style=True))


def description(thing: Any) -> Described:
    """What a model or guide, an object or a function, says of itself."""
    doc = inspect.getdoc(thing) or ""
    home = str(getattr(thing, "__module__", "") if inspect.isroutine(thing) else type(thing).__module__)
    if home.startswith("torch") or doc == inspect.getdoc(object):
        doc = ""
    head, _, rest = doc.partition("\n\n")
    if home.startswith("pyro."):  # in Sphinx's markup, and long
        head, rest = re.sub(r":\w+:`~?(.+?)`", r"\1", head).replace("``", ""), ""
    details, _, section = rest.partition("Parameters\n----")
    says = dict(_said(section))
    values = {name: _shortened(_text(value)) for name, value in _parameters(thing).items()}
    name = getattr(thing, "__name__", None) or type(thing).__name__
    parameters = {each: (value, says.get(each, "")) for each, value in values.items()}
    return Described(name, " ".join(head.split()), details.strip(), parameters)


def _parameters(thing: Any) -> dict[str, Any]:
    """What it was made with: the shown fields of a dataclass, or what the signature of its class names."""
    if inspect.isroutine(thing):
        return {}
    if is_dataclass(thing):
        return {field.name: getattr(thing, field.name) for field in fields(thing) if field.repr}
    try:
        named = inspect.signature(type(thing)).parameters
    except (TypeError, ValueError):  # made in C
        return {}
    return {name: vars(thing)[name] for name in named if name in getattr(thing, "__dict__", {})}


def _said(section: str) -> list[tuple[str, str]]:
    """The parameters of a NumPy docstring, `a, b : what they are` with what is indented below: name and text each."""
    found: list[tuple[list[str], str]] = []
    text = section.partition("\n")[2].partition("\n\n")[0]
    for entry in re.split(r"\n(?=\S)|(?<=\.)\s+(?=\w+(?:, \w+)* : )", text):
        names, _, text = entry.partition(" :")
        found.append((re.split(r",\s*", names.strip()), " ".join(text.split())))
    return [(name, text) for names, text in found for name in names]


def _text(value: Any) -> str:
    return value.__qualname__ if inspect.isroutine(value) or inspect.isclass(value) else repr(value)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
