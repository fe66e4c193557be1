"""What is tried: a guide and how it is to be trained; as an entry of `compare`, and as the code that says the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

from ...errors import InputError
from ..compare.entries import Entry
from ..svi.svi import svi

AUTO: Literal["auto"] = "auto"
PLAIN = (bool, int, float, str, type(None))  # what code can say outright; else it takes a name of the notebook's


@dataclass(frozen=True)
class Trial:
    """A guide of the catalogue, by its name, and its training.

    steps: auto, or a number. lr: of the first step; None is the guide's own. seed: None is that of the comparison.
    """

    guide: str
    steps: int | Literal["auto"] = AUTO
    lr: float | None = None
    seed: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What is not as it usually is."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "guide"}
        usual = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in chosen.items() if value != usual[name]}

    @property
    def name(self) -> str:
        """What its row in the table is called."""
        return ", ".join([self.guide, *(f"{name} {value}" for name, value in self.options.items())])

    def entry(self) -> Entry:
        """What `compare` takes for it."""
        return partial(svi, guide=self.guide, **self.options) if self.options else self.guide

    def code(self) -> str:
        """The Python expression of `entry`."""
        if not self.options:
            return json.dumps(self.guide)
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"partial(pyrometer.svi, guide={json.dumps(self.guide)}{options})"


def steps_of(text: str) -> int | Literal["auto"]:
    """The steps that were typed. Raises InputError."""
    if text.strip() == AUTO:
        return AUTO
    if not text.strip().isdecimal() or int(text) < 1:
        raise InputError(f"steps {text!r} must be auto, or a whole number, 1 or more")
    return int(text)


def lr_of(text: str) -> float | None:
    """The learning rate that was typed. Raises InputError."""
    if text.strip() == AUTO:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise InputError(f"learning rate {text!r} must be auto, or a number above 0")
    return rate


def code_of(trials: Sequence[Trial], options: Mapping[str, Any]) -> str:
    """The lines that give the same comparison of `model` on `x`, as these names were given to `explore`.

    options: of `compare`. One that is no plain value stands there by its own name.
    """
    entries = [f"        {json.dumps(trial.name)}: {trial.code()},\n" for trial in trials]
    told = [f"    {name}={_said(name, value)},\n" for name, value in options.items()]
    partials = any(trial.options for trial in trials)
    return "".join(
        [
            "from functools import partial\n\n" if partials else "",
            "import pyrometer\n\ncomparison = pyrometer.compare(\n    model,\n    x,\n",
            f"    {{\n{''.join(entries)}    }},\n" if entries else "    [],\n",
            *told,
            ")",
        ]
    )


def _said(name: str, value: Any) -> str:
    """A value as code has it."""
    if isinstance(value, str):
        return json.dumps(value)
    flat = value if isinstance(value, list | tuple) else [value]
    return repr(value) if all(type(each) in PLAIN for each in flat) else name
