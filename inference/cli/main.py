"""How far is a variational approximation from the posterior?

Fit guides and a reference to one Pyro model and one data set, and read off one table which of them can be trusted.
"""

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from textwrap import dedent, indent
from typing import Any, NoReturn, TextIO

from ...errors import InputError
from ..runtime.interrupts import asked_to_end, ending_on_signals, exit_status, last_line
from ..runtime.pipes import quiet_pipes

COMMANDS = {  # in files of their names, imported by who asks for them: help is there at once
    "compare": "fit several guides and a reference to one data set, and print the table",
    "components": "try several numbers of components of a mixture, and print what speaks for each",
    "train": "train a VAE by epochs, and write what it does in pictures",
    "guides": "list the guides that go with each model, and say what each is",
}
NEED_DATA = ("compare", "components", "train")  # alone they have nothing to do but to say what they do
SHELLS = ("bash", "zsh")
CLOSED_EARLY = 141  # 128 + SIGPIPE, what a shell says of a program that a closed pipe has ended
EXAMPLES = """examples:
  pyrometer compare faithful                             four guides and NUTS on data that come along
  pyrometer compare mine.csv --holdout 0.2 --out mine    on a table of yours; pictures and posteriors in mine/
  pyrometer components faithful --components 1-6         how many components?
  pyrometer train digits --latent 2 --out digits         a variational auto-encoder
  pyrometer guides --model vae                           what can be compared

`pyrometer COMMAND --help` has the options of a command, and its examples.
`eval "$(pyrometer --print-completion bash)"` completes them with the tabulator key; zsh likewise."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors like any other: one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


class Help(argparse.RawDescriptionHelpFormatter):
    """Commands and what they do on one line each, texts as they were written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _format_action(self, action: argparse.Action) -> str:
        """The commands as options are, without a line that says that they are commands."""
        lines = super()._format_action(action)
        if not isinstance(action, argparse._SubParsersAction):
            return lines
        return indent(dedent(lines.partition("\n")[2]), "  ")


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit status: 0; 2 for what the user can mend, a disk that is full among it; 130 when interrupted, 143 when
        terminated; 141 when nobody reads on, all files having been written.
    """
    with ending_on_signals(), quiet_pipes() as streams:
        for stream in streams:  # a path may hold what is no text
            getattr(stream.stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
        status = _run(sys.argv[1:] if argv is None else argv)
        ended = bool(asked_to_end())
        streams[0].flush()
        if streams[0].refused:
            print(f"pyrometer: error: cannot write to standard output: {streams[0].refused}", file=sys.stderr)
            status = status or 2
    if argv is None and ended:
        os._exit(status)  # a program need not take its libraries down one by one
    return status or (CLOSED_EARLY if any(stream.closed_early for stream in streams) else 0)


def _run(argv: Sequence[str]) -> int:
    try:
        if not argv or (len(argv) == 1 and argv[0] in NEED_DATA):
            argv = [*argv, "--help"]
        options = _parser(argv).parse_args(argv)
        options.command = shlex.join(["pyrometer", *argv])
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _work(options)
    except InputError as error:
        print(f"pyrometer: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except SystemExit as end:  # of argparse, once help is printed
        return int(end.code or 0)
    except KeyboardInterrupt:
        print(last_line(), file=sys.stderr)
        return exit_status()
    return 0


def _work(options: argparse.Namespace) -> None:
    """Run a command and say what it wrote. Raises KeyboardInterrupt at the end, too, of what was cut short."""
    from ..runtime.folder import check_folder  # whose imports take a while, in which Ctrl-C is one line already

    os.environ["MPLBACKEND"] = "Agg"  # a program without windows
    if getattr(options, "out", None) is not None:
        check_folder(options.out)
    written = options.run(options)
    if written:
        print(f"\nwritten to {options.out}{os.sep}: {', '.join(path.name for path in written)}")
    if asked_to_end():
        raise KeyboardInterrupt


def _parser(argv: Sequence[str]) -> Parser:
    """The parser with those commands in full that the arguments name, or all for a shell's completion."""
    texts: Any = {"usage": "pyrometer COMMAND [options]", "description": __doc__, "epilog": EXAMPLES}
    parser = Parser(prog="pyrometer", formatter_class=Help, **texts)
    parser.add_argument("--version", action="version", version=f"pyrometer {_version()}")
    what = "print what makes a shell complete commands and options"
    parser.add_argument("--print-completion", choices=SHELLS, action=_PrintCompletion, help=what)
    commands = parser.add_subparsers(prog="pyrometer", metavar="COMMAND", required=True, title="commands")
    for name, what in COMMANDS.items():
        if name in argv or any(argument.startswith("--print-c") for argument in argv):
            import_module(f".{name}", __package__).add(commands, what)
        else:
            commands.add_parser(name, help=what)
    return parser


class _PrintCompletion(argparse.Action):
    """Print a shell's completion script and end."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        from .completion import completion

        print(completion(parser, values))
        parser.exit()


def _show_warning(message: Warning | str, *_: Any, file: TextIO | None = None, **__: Any) -> None:
    """A warning as one line."""
    print(f"pyrometer: warning: {_one_line(message)}", file=file or sys.stderr)


def _one_line(message: object) -> str:
    """A message without line breaks, and with no character in it that a terminal would obey."""
    line = " ".join(str(message).split())
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pyrometer")
    except PackageNotFoundError:  # run from a folder, not installed
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
