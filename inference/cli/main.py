"""The command line: `pyrometer compare DATA ...`, `pyrometer train DATA ...` and `pyrometer guides`."""

import os
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

import matplotlib

from ...errors import InputError
from ..runtime.folder import check_folder
from .compare import MODELS, add_compare
from .guides import list_guides
from .options import Parser
from .train import add_train


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
    try:
        options = _parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            matplotlib.use("Agg")  # a program without windows
            if getattr(options, "out", None) is not None:
                check_folder(options.out)
            if written := options.run(options):
                print(f"\nwritten to {options.out}{os.sep}: {', '.join(path.name for path in written)}")
    except InputError as error:
        print(f"pyrometer: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(": ".join(["pyrometer: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
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
    add_compare(commands)
    add_train(commands)
    what = "list the guides that go with each model"
    guides = commands.add_parser("guides", help=what, description=f"{what.capitalize()}.")
    guides.add_argument("--model", choices=MODELS, help="only those of this model")
    guides.set_defaults(run=lambda options: print(list_guides(MODELS, options.model)))
    return parser


def _show_warning(message: Warning | str, *_: Any, file: TextIO | None = None, **__: Any) -> None:
    """A warning as one line."""
    print(f"pyrometer: warning: {' '.join(str(message).split())}", file=file or sys.stderr)


def _version() -> str:
    try:
        return version("pyrometer")
    except PackageNotFoundError:  # run from a folder, not installed
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
