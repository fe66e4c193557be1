"""The command line: `pyrometer compare DATA ...` and `pyrometer guides`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, TextIO

import matplotlib
import numpy as np
from pandas import DataFrame

from .. import datasets
from ..errors import InputError
from ..models import GMM, VAE, BayesianGMM
from .compare import compare
from .compiled import Compile
from .listing import list_guides
from .save import check_folder, save

__all__ = ["main"]

MODELS: dict[str, Any] = {"gmm": GMM, "bayesian-gmm": BayesianGMM, "vae": VAE}
COMPILE: dict[str, Compile] = {"auto": "auto", "yes": True, "no": False}
POINTS = ("gmm",)  # models without a posterior, hence without a reference

EXAMPLES = """examples:
  pyrometer compare faithful --components 2 --out faithful
  pyrometer compare measurements.csv --columns width,length --components 3 --holdout 0.2
  pyrometer compare galaxies --components 3 --guides structured,auto_mvn,auto_iaf --draws 2000
  pyrometer compare iris --model gmm --components 3 --covariance tied --methods em,svi
"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors like any other: one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
    try:
        options = _parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.run(options)
    except InputError as error:
        print(f"pyrometer: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pyrometer: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="pyrometer",
        description="Variational inference and MCMC on the same model and the same data, in one table.",
        epilog="example: pyrometer compare faithful --components 2 --out faithful",
    )
    parser.add_argument("--version", action="version", version=f"pyrometer {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _add_compare(commands)
    _add_guides(commands)
    return parser


def _add_compare(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser(
        "compare",
        help="fit several guides and a reference to one data set, and print the table",
        description="Fit several guides and a reference to one data set, and print a table of how far each is off.",
        usage="pyrometer compare DATA [options]",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_compare)
    _add_data(parser)
    _add_model(parser)
    _add_work(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="write the table, the posteriors (NetCDF) and pictures here")
    output.add_argument("--quiet", action="store_true", help="no progress bars")


def _add_data(parser: Parser) -> None:
    names = ", ".join(datasets.DATASETS)
    group = parser.add_argument_group("data")
    group.add_argument("data", metavar="DATA", help=f"a .csv or .parquet file, or one of {names}")
    group.add_argument("--columns", type=_names, metavar="A,B", help="these columns of it (default: all)")
    held_out = group.add_mutually_exclusive_group()
    held_out.add_argument(
        "--holdout", type=_fraction, metavar="FRACTION", help="keep this share of the rows for lpd_test (default: none)"
    )
    held_out.add_argument("--test", metavar="FILE", help="rows for lpd_test, with the columns of DATA")


def _add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model and guides")
    add = group.add_argument
    add("--model", choices=MODELS, default="bayesian-gmm", help="default: %(default)s")
    add("--components", type=_whole, default=2, metavar="K", help="of the mixture (default: %(default)s)")
    add("--covariance", default="full", help="full, diagonal, tied or spherical (default: %(default)s)")
    add("--guides", type=_names, metavar="A,B", help="see `pyrometer guides` (default: those with a star there)")
    add(
        "--methods", type=_names, default=["svi"], metavar="A,B", help="svi (the guides), em, cavi, nuts (default: svi)"
    )
    add("--reference", help="nuts, em, cavi, one of the guides, or none (default: nuts, or none for gmm)")


def _add_work(parser: Parser) -> None:
    group = parser.add_argument_group("work")
    whole = {
        "--steps": (2000, "of each guide's training"),
        "--starts": (3, "of each guide; the best goes on"),
        "--draws": (1000, "from each guide and each chain"),
        "--warmup": (500, "steps of each chain before its draws"),
        "--chains": (4, "of NUTS"),
    }
    for name, (default, what) in whole.items():
        group.add_argument(name, type=_whole, default=default, metavar="N", help=f"{what} (default: %(default)s)")
    group.add_argument("--batch-size", type=_whole, metavar="N", help="rows a training step (default: all)")
    group.add_argument(
        "--jobs", type=_whole, default=1, metavar="N", help="guides fitted at once (default: %(default)s)"
    )
    group.add_argument(
        "--compile",
        choices=COMPILE,
        default="auto",
        help="the steps: auto weighs time to compile (default: %(default)s)",
    )
    group.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="same seed, same table (default: %(default)s)"
    )


def _add_guides(commands: argparse._SubParsersAction[Parser]) -> None:
    what = "list the guides that go with each model"
    parser = commands.add_parser("guides", help=what, description=f"{what.capitalize()}.")
    parser.add_argument("--model", choices=MODELS, help="only those of this model")
    parser.set_defaults(run=lambda options: print(list_guides(MODELS, options.model)))  # type: ignore[arg-type]


def _compare(options: argparse.Namespace) -> None:
    """Check what can be checked, fit, print, write."""
    matplotlib.use("Agg")  # a program without windows
    if options.out is not None:
        check_folder(options.out)
    model = MODELS[options.model](options.components, options.covariance)
    x, x_test = _data(options)
    passed = ("guides", "methods", "seed", "jobs", "steps", "starts", "warmup", "draws", "chains", "batch_size")
    comparison = compare(
        model,
        x,
        x_test=x_test,
        reference=_reference(options),
        progress=not options.quiet,
        compile=COMPILE[options.compile],
        **{name: getattr(options, name) for name in passed},
    )
    print(comparison)
    if options.out is not None:
        written = save(comparison, options.out)
        print(f"\nwritten to {options.out}{os.sep}: {', '.join(path.name for path in written)}")


def _reference(options: argparse.Namespace) -> str | None:
    chosen = options.reference or ("none" if options.model in POINTS else "nuts")
    return None if chosen == "none" else chosen


def _data(options: argparse.Namespace) -> tuple[DataFrame, DataFrame | None]:
    """The rows to fit, and those held out."""
    x = datasets.load(options.data)
    if options.columns:
        unknown = [name for name in options.columns if name not in x.columns]
        if unknown:
            raise InputError(
                f"{options.data} has no column {unknown[0]!r}: choose from {', '.join(map(str, x.columns))}"
            )
        x = x[options.columns]
    if options.test is not None:
        return x, datasets.load(options.test)
    return (x, None) if options.holdout is None else _split(x, options.holdout, options.seed)


def _split(x: DataFrame, share: float, seed: int) -> tuple[DataFrame, DataFrame]:
    """Rows to fit and rows held out, drawn with the seed, each in its old order."""
    number = round(share * len(x))
    if not 0 < number < len(x):
        raise InputError(f"--holdout {share:g} of {len(x)} rows keeps {number} of them: choose another share")
    held = np.zeros(len(x), bool)
    held[np.random.default_rng(seed).permutation(len(x))[:number]] = True
    return x[~held].reset_index(drop=True), x[held].reset_index(drop=True)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} must be different names with commas between them")
    return names


def _whole(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to {2**32 - 1}")
    return int(text)


def _fraction(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number between 0 and 1")
    return share


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line."""
    print(f"pyrometer: warning: {' '.join(str(message).split())}", file=file or sys.stderr)


def _version() -> str:
    try:
        return version("pyrometer")
    except PackageNotFoundError:  # run from a folder, not installed
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
