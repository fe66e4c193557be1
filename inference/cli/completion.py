"""What makes a shell complete commands, options, choices, files, folders and data sets: shtab's script."""

import argparse
from collections.abc import Iterator
from typing import Any

from ... import datasets
from ...errors import InputError

DATA = "_pyrometer_data"  # the shell function that knows data sets and files
FUNCTIONS: Any = {
    "bash": f'{DATA}() {{ compgen -W \'{" ".join(datasets.DATASETS)}\' -- "$1"; compgen -f -- "$1"; }}',
    "zsh": f"{DATA}() {{ _alternative 'names:data set:({' '.join(datasets.DATASETS)})' 'files:file:_files' }}",
}


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for bash or zsh. Raises InputError where shtab is not installed."""
    try:
        import shtab
    except ImportError as error:
        raise InputError("--print-completion needs shtab: pip install shtab") from error
    kinds = {"DATA": dict.fromkeys(FUNCTIONS, DATA), "FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
    for action in _actions(parser):
        if action.metavar in kinds:
            action.complete = kinds[action.metavar]  # type: ignore[attr-defined]
    return shtab.complete(parser, shell, preamble=FUNCTIONS)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
