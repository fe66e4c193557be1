"""What the commands share: their options' types, the data they read, and errors of one line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pandas import DataFrame

from ... import datasets
from ...errors import InputError

__all__ = [
    "Parser",
    "add_command",
    "add_data",
    "fraction",
    "names",
    "positive",
    "read",
    "rows_of",
    "say_written",
    "seed_of",
    "sizes",
    "split",
    "whole",
]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors like any other: one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def add_command(
    commands: argparse._SubParsersAction[Parser], name: str, run: Callable[[argparse.Namespace], None], **texts: Any
) -> Parser:
    """A command on DATA that runs this function. texts: help, description and epilog."""
    usage = f"pyrometer {name} DATA [options]"
    formatter = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, usage=usage, formatter_class=formatter, **texts)
    parser.set_defaults(run=run)
    return parser


def add_data(parser: Parser, score: str = "lpd_test") -> None:
    """DATA, its columns, and what is held out. score: what the held-out rows are for."""
    known = ", ".join(datasets.DATASETS)
    group = parser.add_argument_group("data")
    group.add_argument("data", metavar="DATA", help=f"a .csv or .parquet file, or one of {known}")
    group.add_argument("--columns", type=names, metavar="A,B", help="these columns of it (default: all)")
    held_out = group.add_mutually_exclusive_group()
    held_out.add_argument(
        "--holdout", type=fraction, metavar="FRACTION", help=f"keep this share of the rows for {score} (default: none)"
    )
    held_out.add_argument("--test", metavar="FILE", help=f"rows for {score}, with the columns of DATA")


def rows_of(options: argparse.Namespace) -> tuple[DataFrame, DataFrame | None]:
    """The rows to fit, and those held out; pictures for a VAE with grey levels from 0 to 1."""
    x = read(options, options.data)
    if options.columns:
        unknown = [name for name in options.columns if name not in x.columns]
        if unknown:
            raise InputError(
                f"{options.data} has no column {unknown[0]!r}: choose from {', '.join(map(str, x.columns))}"
            )
        x = x[options.columns]
    if options.test is not None:
        return x, read(options, options.test)
    return (x, None) if options.holdout is None else split(x, options.holdout, options.seed)


def read(options: argparse.Namespace, name: str) -> DataFrame:
    """A table by its name or path, all of its columns."""
    if options.model != "vae":
        return datasets.load(name)
    x = datasets.pixels(name) if name in datasets.WHITE else datasets.load(name)
    label = getattr(options, "label", None)
    if label is not None and name not in datasets.WHITE:
        if label not in x.columns:
            raise InputError(
                f"{name} has no column {label!r} for --label: choose from {', '.join(map(str, x.columns))}"
            )
        x = x.drop(columns=label)
    return x if options.white is None else x / options.white


def split(x: DataFrame, share: float, seed: int) -> tuple[DataFrame, DataFrame]:
    """Rows to fit and rows held out, drawn with the seed, each in its old order."""
    number = round(share * len(x))
    if not 0 < number < len(x):
        raise InputError(f"--holdout {share:g} of {len(x)} rows keeps {number} of them: choose another share")
    held = np.zeros(len(x), bool)
    held[np.random.default_rng(seed).permutation(len(x))[:number]] = True
    return x[~held].reset_index(drop=True), x[held].reset_index(drop=True)


def names(text: str) -> list[str]:
    """An option of several names."""
    found = [name.strip() for name in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} must be different names with commas between them")
    return found


def whole(text: str) -> int:
    """An option of 1, 2, 3 ..."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def seed_of(text: str) -> int:
    """An option of a seed that every generator takes."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to {2**32 - 1}")
    return int(text)


def fraction(text: str) -> float:
    """An option between 0 and 1, both excluded."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number between 0 and 1")
    return share


def positive(text: str) -> float:
    """An option above 0, finite."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return number


def sizes(text: str) -> tuple[int, ...]:
    """An option of several whole numbers."""
    return tuple(whole(part.strip()) for part in text.split(","))


def say_written(written: list[Path], folder: str) -> None:
    """The line that ends a command."""
    print(f"\nwritten to {folder}{os.sep}: {', '.join(path.name for path in written)}")
