"""Try several numbers of components of a mixture, and print what every criterion says of each.

examples:
  pyrometer components faithful --components 1-6 --out faithful
  pyrometer components galaxies --model gmm --components 1-8
  pyrometer components measurements.csv --columns width,length --components 2,3,5 --covariance tied --holdout 0.2
"""

import argparse
import math
from dataclasses import fields
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from ... import choose_components
from .main import Parser
from .models import MODELS
from .options import add_command, add_data, add_jobs, add_numbers, add_output, number, rows_of, seed_of, taken, whole

MIXTURES = {name: model for name, model in MODELS.items() if "components" in signature(model).parameters}
MOST = 10_000  # more components are a slip of the hand


def add(commands: Any, what: str) -> None:
    """Add the command. what: its line in the list of commands."""
    parser = add_command(commands, "components", _choose, __doc__, what)
    add_data(parser)
    _add_work(parser)
    add_output(parser, "the table, the posteriors (NetCDF) and the picture")


def _add_work(parser: Parser) -> None:
    group = parser.add_argument_group("models")
    add = group.add_argument
    add("--model", choices=MIXTURES, default="bayesian-gmm", help="default: %(default)s")
    what = "the numbers to try: 1-8, or 2,3,5 (default: 1-8)"
    add("--components", type=several, default=list(range(1, 9)), metavar="A-B", help=what)
    add("--covariance", default="full", help="full, diagonal, tied or spherical (default: %(default)s)")
    what = "without held-out rows, hold out every row once in N parts; 0 leaves that out (default: %(default)s)"
    add("--folds", type=none_or_more, default=5, metavar="N", help=what)
    add_numbers(group, starts=(5, "of each fit; the best counts"), draws=(1000, "from each posterior"))
    add_jobs(group, "numbers of components tried")
    add("--seed", type=seed_of, default=0, metavar="N", help="same seed, same table (default: %(default)s)")


none_or_more = number(int, -1, math.inf, "a whole number, 0 or more")


def several(text: str) -> list[int]:
    """An option of several whole numbers: A-B, or A,B,C."""
    low, dash, high = text.partition("-")
    if not dash:
        return [whole(part.strip()) for part in text.split(",")]
    first, last = whole(low.strip()), whole(high.strip())
    if not first <= last < first + MOST:
        raise argparse.ArgumentTypeError(f"{text!r} must go up, from 1-8 for example")
    return list(range(first, last + 1))


def _choose(options: argparse.Namespace) -> list[Path]:
    """Check what can be checked, fit, print, write; what was written."""
    x, x_test = rows_of(options)
    model = MIXTURES[options.model]
    if "covariance" in {field.name for field in fields(model)}:
        model = partial(model, covariance=options.covariance)
    selection = choose_components(x, options.components, model, x_test=x_test, **taken(options, choose_components))
    print(selection)
    return [] if options.out is None else selection.save(options.out, command=options.command)
