"""Output that ends before a command does, as `| head -1` closes it or a full disk refuses it: the work goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO


class Stream:
    """A text stream that takes everything, also once it can be written to no more.

    closed_early: whether nobody reads it any longer. refused: why it cannot be written to, where it cannot.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.closed_early, self.refused = stream, False, ""

    def write(self, text: str) -> int:
        """Write, where somebody reads."""
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush, where somebody reads."""
        self._try(self.stream.flush)

    def _try(self, do: Callable[..., Any], *arguments: str) -> None:
        try:
            do(*arguments)
        except OSError as error:
            self.closed_early = isinstance(error, BrokenPipeError)
            self.refused = "" if self.closed_early else (error.strerror or str(error)).lower()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # what is still held back, and what is to come
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def quiet_pipes() -> Iterator[tuple[Stream, Stream]]:
    """Standard output and standard error that may close; flushed at the end."""
    with open(os.devnull, "w") as nowhere:  # for those that were closed before we began
        streams = Stream(sys.stdout or nowhere), Stream(sys.stderr or nowhere)
        with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
            try:
                yield streams
            finally:
                for stream in streams:
                    stream.flush()
