"""The command line: `pyrometer compare DATA ...`, `components DATA ...`, `train DATA ...` and `guides`."""

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, TextIO

from ...errors import InputError

COMMANDS = {  # in files of their names, imported by who asks for them: help is there at once
    "compare": "fit several guides and a reference to one data set, and print the table",
    "components": "try several numbers of components of a mixture, and print what speaks for each",
    "train": "train a VAE by epochs, and write what it does in pictures",
    "guides": "list the guides that go with each model",
}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors like any other: one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
    try:
        given = sys.argv[1:] if argv is None else argv
        options = _parser(given).parse_args(argv)
        options.command = shlex.join(["pyrometer", *given])
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            os.environ["MPLBACKEND"] = "Agg"  # a program without windows
            if getattr(options, "out", None) is not None:
                from ..runtime.folder import check_folder

                check_folder(options.out)
            written = options.run(options)
            if written:
                print(f"\nwritten to {options.out}{os.sep}: {', '.join(path.name for path in written)}")
    except InputError as error:
        print(f"pyrometer: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(": ".join(["pyrometer: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return 130
    return 0


def _parser(argv: Sequence[str]) -> Parser:
    parser = Parser(
        prog="pyrometer",
        description="Variational inference and MCMC on the same model and the same data, in one table.",
        epilog="example: pyrometer compare faithful --components 2 --out faithful",
    )
    parser.add_argument("--version", action="version", version=f"pyrometer {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name, what in COMMANDS.items():
        if name in argv:
            import_module(f".{name}", __package__).add(commands, what)
        else:
            commands.add_parser(name, help=what)
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
