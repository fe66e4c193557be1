"""How to come to the same numbers again: the lines of code, with their seed, and the versions that ran them."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ...guides import catalogue
from ...models.structure import Model, model_name
from ..data.data import Data

if TYPE_CHECKING:
    from ..compare.comparison import Comparison

PACKAGES = ("pyrometer", "torch", "pyro-ppl", "arviz", "nutpie", "numpy", "scipy", "pandas")


def versions() -> dict[str, str]:
    """Python, what it ran on, and the packages that numbers depend on."""
    found = {"python": f"{platform.python_version()}, {platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a folder, not installed
            found[name] = "not installed"
    return found


def lines_of_model(model: Model) -> list[str]:
    """How a model of the package is made; of a user's own a comment."""
    home, name = type(model).__module__, type(model).__name__
    if is_dataclass(model) and home.startswith("pyrometer."):
        given = [f"{field.name}={getattr(model, field.name)!r}" for field in fields(model) if _was_given(model, field)]
        return [f"from pyrometer.models import {name}", "", f"model = {name}({', '.join(given)})"]
    return ["", f"model = {model_name(model)}  # its source is on this page"]


def _was_given(model: Any, field: Any) -> bool:
    value = getattr(model, field.name)
    return bool(field.repr and field.init and (value is not field.default and repr(value) != repr(field.default)))


def line_of_data(data: Data, test: Data | None = None) -> list[str]:
    """What stands for the data, which a page does not hold."""
    shapes = [f"{name} {tuple(value.shape)}" for name, value in data.named.items() if hasattr(value, "shape")]
    held = [f"x_test = ...  # the {test.rows} rows held out"] if test is not None else []
    return [f"data = ...  # {', '.join(shapes) or 'as on this page'}", *held]


def lines_of(comparison: Comparison, methods: Collection[str]) -> str:
    """The lines that make a comparison again. methods: names that stand for a method, and not for a guide."""
    problem = comparison.problem
    known = catalogue(problem.model)
    guides = [name for name in comparison.fits if name not in methods]
    named = ", ".join(f"{name!r}: {name!r}" if name in known else f"{name!r}: ..." for name in guides)
    plain = all(name in known for name in guides)
    entries = repr(guides) if plain else f"{{{named}}}"
    ran = [name for name in comparison.fits if name in methods and name != comparison.reference]
    options: dict[str, Any] = {"methods": ["svi", *ran]} if ran else {}
    if not problem.structure.only_local:
        options["reference"] = comparison.reference
    options |= {"seed": problem.seed, **problem.nuts, **problem.svi}
    options |= {"rows": problem.rows} if problem.structure.only_local else {}
    options |= {"var_names": list(problem.var_names)} if problem.var_names else {}
    given = [f"{name}={value!r}," for name, value in options.items() if value is not None or name == "reference"]
    test = ["x_test=x_test,"] if problem.test is not None else []
    call = ["comparison = pyrometer.compare(", "    model,", "    data,", f"    {entries},"]
    call += [f"    {line}" for line in (*test, *given)] + [")"]
    lines = ["import pyrometer", *lines_of_model(problem.model), *line_of_data(problem.data, problem.test), *call]
    if not plain:
        lines.append("# ... stands for a guide, or for a method with its options, of the name it was given")
    return "\n".join(lines)
