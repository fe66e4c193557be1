"""What the commands share: their options' types, the data they read, and errors of one line."""

import argparse
import inspect
import math
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame
from pandas.api.types import is_numeric_dtype

from ... import datasets
from ...errors import InputError
from ..data.strings import table_of_strings
from ..mapped.columns import default_columns
from ..mapped.opened import opened_rows
from ..mapped.tensor import Mapped
from .main import NEED_DATA, Help, Parser

STRINGS = "sequence-vae"  # the model whose data are strings
TABLES = ("table", "parameters", "invariant", "gaps", "starts", "marginal", "scores")
WRITTEN = (*(f"{name}.csv" for name in TABLES), "samples.txt", "notes.txt")  # into --out, of what can be read as data


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], Any], doc: str, what: str) -> Parser:
    """A command that runs this function. doc: its module's docstring, whose first line says what it does."""
    description, epilog = doc.split("\n\n", 1)
    usage = f"pyrometer {name} {'DATA ' if name in NEED_DATA else ''}[options]"
    texts = {"usage": usage, "help": what, "description": description, "epilog": epilog}
    parser = commands.add_parser(name, formatter_class=Help, **texts)
    parser.set_defaults(run=run)
    return parser


def add_data(parser: Parser, score: str = "lpd_test") -> None:
    """DATA, its columns, and what is held out. score: what the held-out rows are for."""
    known = ", ".join(datasets.DATASETS)
    group = parser.add_argument_group("data")
    group.add_argument(
        "data",
        metavar="DATA",
        help=f"a .csv, .parquet or .npy file, a folder of Parquet or a Zarr array, or one of {known}",
    )
    group.add_argument("--columns", type=names, metavar="A,B", help="these columns of it (default: all)")
    held_out = group.add_mutually_exclusive_group()
    share = f"keep this share of the rows for {score} (default: none)"
    held_out.add_argument("--holdout", type=fraction, metavar="FRACTION", help=share)
    held_out.add_argument("--test", metavar="FILE", help=f"rows for {score}, with the columns of DATA")


def add_numbers(group: Any, **numbers: tuple[float | str | None, str]) -> None:
    """Options that are whole numbers from 1: name -> default and what it is. One whose default is auto may be that."""
    for name, (default, what) in numbers.items():
        says = f"{what} (default: {default})" if default else what
        kind, shown = (auto_or_whole, "N|auto") if default == "auto" else (whole, "N")
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, metavar=shown, help=says)


def add_jobs(group: Any, what: str) -> None:
    """How much is done at once. what: of what."""
    says = f"{what} at once, each in a process of its own; -1 is one a core (default: 1)"
    group.add_argument("--jobs", type=jobs_of, default=None, metavar="N", help=says)


def add_output(parser: Parser, what: str) -> Any:
    """Where to write, and whether to show progress; what: what is written."""
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help=f"write {what} here")
    output.add_argument("--quiet", dest="progress", action="store_false", help="no progress, neither bars nor lines")
    return output


def taken(options: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """The options that a function takes by their names alone."""
    named = inspect.getfullargspec(function).kwonlyargs
    return {name: getattr(options, name) for name in named if hasattr(options, name)}


def rows_of(options: argparse.Namespace) -> tuple[Any, Any]:
    """The rows to fit, and those held out; pictures for a VAE with grey levels from 0 to 1.

    Tables, or a Mapped where they lie in a file that is too large for memory.
    """
    _refuse_written_over(options)
    if (large := _of_file(options)) is not None:
        return large
    x = read(options, options.data)
    if options.columns:
        _check_column(options.data, x, *options.columns)
        x = x[options.columns]
    if options.test is not None:
        return x, read(options, options.test)
    return (x, None) if options.holdout is None else split(x, options.holdout, options.seed)


def _refuse_written_over(options: argparse.Namespace) -> None:
    """Raise InputError where results are to take the place of the data that they are of, or of one another."""
    out, report = options.out, getattr(options, "report", None)
    files = [report, *(Path(out, name) for name in WRITTEN)] if out is not None else [report]
    for data, file in product((options.data, options.test), files):
        if data not in datasets.DATASETS and _same_file(data, file):
            raise InputError(f"{data} holds the data, and {file} is to be written: choose another place for it")
    if out is not None and report is not None:
        folder = Path(out).resolve()
        if Path(report).resolve() in (folder, *folder.parents):
            raise InputError(f"--report {report} is in the way of the folder --out {out}: name another file")


def _same_file(one: str | None, other: str | Path | None) -> bool:
    try:
        return one is not None and other is not None and os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there, or cannot be
        return False


def _of_file(options: argparse.Namespace) -> tuple[Mapped, Any] | None:
    """Rows in a file that are too many for memory, and those held out; None where they are not."""
    if options.model == STRINGS or options.data in datasets.DATASETS:
        return None
    parts = [None] if options.holdout is None else [(options.holdout, options.seed, out) for out in (False, True)]
    found = [opened_rows(options.data, options.columns or (), part) for part in parts]
    if not isinstance(found[0], Mapped):
        return None
    for option, mend in {"label": "choose the others with --columns", "white": "write the pixels as 0 to 1"}.items():
        if getattr(options, option, None) is not None:
            raise InputError(f"--{option} is of tables in memory, and {options.data} is too large for that: {mend}")
    if options.test is None:
        return found[0], found[1] if len(found) > 1 else None
    test = opened_rows(options.test, options.columns or ())
    return found[0], test if isinstance(test, Mapped) else read(options, options.test)


def read(options: argparse.Namespace, name: str) -> DataFrame:
    """A table by its name or path, all of its columns."""
    if options.model == STRINGS:
        return table_of_strings(name)
    if name not in datasets.DATASETS and (small := opened_rows(name)) is not None:
        rows = small.in_memory().numpy() if isinstance(small, Mapped) else np.asarray(small)
        flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))  # -1 is not known of no rows
        return DataFrame(flat, columns=list(getattr(small, "columns", default_columns(flat.shape[1]))))
    if options.model != "vae":
        return datasets.load(name)
    x = datasets.pixels(name) if name in datasets.WHITE else datasets.load(name)
    label = getattr(options, "label", None)
    if label is not None and name not in datasets.WHITE:
        _check_column(name, x, label, option=" for --label")
        x = x.drop(columns=label)
    white = getattr(options, "white", None)
    if white is None:
        return x
    return x.apply(lambda column: column / white if is_numeric_dtype(column) else column)  # text is refused later


def _check_column(name: str, x: DataFrame, *columns: str, option: str = "") -> None:
    for column in columns:
        if column not in x.columns:
            known = ", ".join(map(str, x.columns))
            raise InputError(f"{name} has no column {column!r}{option}: choose from {known}")


def split(x: DataFrame, share: float, seed: int) -> tuple[DataFrame, DataFrame]:
    """Rows to fit and rows held out, drawn with the seed, each in its old order; the index has their old numbers."""
    number = round(share * len(x))
    if not 0 < number < len(x):
        raise InputError(f"--holdout {share:g} of {len(x)} rows keeps {number} of them: choose another share")
    held = np.sort(np.random.default_rng(seed).permutation(len(x))[:number])
    x = x.reset_index(drop=True)
    return x.drop(index=held), x.loc[held]


def names(text: str) -> list[str]:
    """An option of several names."""
    found = [name.strip() for name in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} must be different names with commas between them")
    return found


def number(convert: Callable[[str], float], low: float, high: float, what: str) -> Callable[[str], Any]:
    """An option that is a number between low and high, both excluded."""

    def parsed(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"{text!r} must be {what}")
        return value

    return parsed


whole = number(int, 0, math.inf, "a whole number, 1 or more")
seed_of = number(int, -1, 2**32, f"a whole number from 0 to {2**32 - 1}")
fraction = number(float, 0, 1, "a number between 0 and 1")
positive = number(float, 0, math.inf, "a number above 0")


def jobs_of(text: str) -> int:
    """An option of how much is done at once."""
    try:
        return -1 if text.strip() == "-1" else whole(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or -1 for every core") from None


def auto_or_whole(text: str) -> Any:
    """An option that is auto, or a whole number from 1."""
    return text if text == "auto" else whole(text)


def sizes(text: str) -> tuple[int, ...]:
    """An option of several whole numbers."""
    return tuple(whole(part.strip()) for part in text.split(","))
