"""List the guides that go with each model, and say what each is.

examples:
  pyrometer guides
  pyrometer guides --model bayesian-gmm
  pyrometer compare galaxies --components 3 --guides structured,auto_iaf
"""

from itertools import pairwise
from typing import Any

from ...guides import CATALOGUE, DEFAULTS, USUAL, WORDS
from ...guides.auto import AUTO
from .models import MODELS
from .options import add_command


def add(commands: Any, what: str) -> None:
    """Add the command. what: its line in the list of commands."""
    parser = add_command(commands, "guides", lambda options: print(list_guides(options.model)), __doc__, what)
    parser.add_argument("--model", choices=MODELS, help="all that go with this model (default: of each model its own)")


def list_guides(only: str | None = None) -> str:
    """Models and guides, a line a pair; a star marks those that `compare` takes by itself.

    only: the name of a model, to list all that go with it. Else those that go with any model are listed once, and with
    a model where they have a star there.
    """
    lines = [("MODEL", "GUIDE", "WHAT IT IS")]
    for name in MODELS if only is None else [only]:
        chosen = DEFAULTS.get(MODELS[name], USUAL)
        shown = [guide for guide in CATALOGUE[MODELS[name]] if only or guide not in AUTO or guide in chosen]
        lines += [(name, f"{guide}{' *' if guide in chosen else ''}", WORDS[guide]) for guide in shown]
    if only is None:
        lines += [("any model", f"{guide}{' *' if guide in USUAL else ''}", WORDS[guide]) for guide in AUTO]
    return "\n".join([*_aligned(lines), "* compared where no --guides are given"])


def _aligned(lines: list[tuple[str, str, str]]) -> list[str]:
    """In columns; a model is named once."""
    first, second = (max(len(line[i]) for line in lines) for i in (0, 1))
    again = [False, *(one[0] == other[0] for one, other in pairwise(lines))]
    return [
        f"{'' if named else model:<{first}}  {guide:<{second}}  {what}"
        for named, (model, guide, what) in zip(again, lines, strict=True)
    ]
