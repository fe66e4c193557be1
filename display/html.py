"""HTML from the Jinja2 templates beside this file, which escape whatever they are given."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["render"]


def render(template: str, **values: Any) -> Markup:
    """A template filled in: markup, which another template takes as it is. Other values are text, and escaped."""
    from markupsafe import Markup

    return Markup(_templates().get_template(template).render(**values))


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # by whoever shows something, and not at once

    loader = PackageLoader(__package__ or "")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
