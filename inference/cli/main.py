"""The command line: `pyrometer compare DATA ...`, `components DATA ...`, `train DATA ...` and `guides`."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn, TextIO

from ...errors import InputError
from ..runtime.interrupts import asked_to_end, ending_on_signals, exit_status

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
    """Run the command line; the exit status: 0, 2 for what the user can mend, 130 and 143 when asked to end."""
    for stream in (sys.stdout, sys.stderr):  # a path may hold what is no text
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    with ending_on_signals(), warnings.catch_warnings():
        try:
            _run(argv)
        except InputError as error:
            print(f"pyrometer: error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as interrupt:
            how = asked_to_end() or "interrupted"
            print(": ".join([f"pyrometer: {how}", *map(str, interrupt.args)]), file=sys.stderr)
            if argv is None:  # a program, which need not take its libraries down one by one
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(exit_status())
            return exit_status()
    return 0


def _run(argv: list[str] | None) -> None:
    options = _parser(sys.argv[1:] if argv is None else argv).parse_args(argv)
    warnings.showwarning = _show_warning
    os.environ["MPLBACKEND"] = "Agg"  # a program without windows
    if getattr(options, "out", None) is not None:
        from ..runtime.folder import check_folder

        check_folder(options.out)
    from ..runtime.progress import lines_without_terminal

    with lines_without_terminal():
        written = options.run(options)
    if written:
        print(f"\nwritten to {options.out}{os.sep}: {', '.join(path.name for path in written)}")
    if asked_to_end():
        raise KeyboardInterrupt


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
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pyrometer")
    except PackageNotFoundError:  # run from a folder, not installed
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
