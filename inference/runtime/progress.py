"""Progress bars: in a terminal, or a notebook that has ipywidgets; lines for a command without one; else silent."""

import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import TqdmWarning, std

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without widgets is no fault of the user's
    from tqdm.auto import tqdm

FIRST, EVERY = 1.0, 5.0  # seconds before the first line, and between lines
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}{postfix}"

_lines = False
Watcher = Callable[[str, int, int], None]  # of what is under way, the units done, and all of them
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


class Lines(std.tqdm):
    """A bar that writes a line now and then, where nothing can be drawn over."""

    disable: bool
    said = 0.0  # when the last line was written

    def refresh(self, *args: Any, **kwargs: Any) -> bool:
        """Write a line where the last is old enough."""
        now = time.monotonic()
        if now - self.said < EVERY:
            return False
        self.said = now
        return bool(super().refresh(*args, **kwargs))

    def close(self) -> None:
        """Write the last line, of work that took a while."""
        if not self.disable:
            if time.time() - self.start_t >= FIRST:
                self.said = 0.0
                self.refresh()
            self.disable = True
            self._decr_instances(self)

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """Write what is said, each on a line of its own."""

        def say(text: str) -> None:
            if text:
                file.write(f"{text}\n")
                file.flush()

        return say


class Watched(std.tqdm):
    """A bar that draws nothing, and tells its watcher."""

    disable: bool

    def __init__(self, watcher: Watcher, **options: Any) -> None:
        self.watcher = watcher
        super().__init__(file=io.StringIO(), **options)

    def display(self, *_: Any, **__: Any) -> bool:
        """Tell how far it is."""
        self.watcher(self.desc.removesuffix(": "), int(self.n), int(self.total or 0))
        return True

    def close(self) -> None:
        """End, and tell it."""
        if not self.disable:
            self.display()
            self.disable = True
            self._decr_instances(self)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Let bars that begin in here, in this thread, tell a watcher in place of drawing."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def lines_without_terminal() -> Iterator[None]:
    """Let bars write lines to standard error where that is no terminal."""
    global _lines
    before, _lines = _lines, True
    try:
        yield
    finally:
        _lines = before


def progress_bar(total: int, what: str, show: bool, unit: str = "step") -> std.tqdm:
    """A bar over `total` units, to be used as a context manager. show: False is silent."""
    if show and total and (watcher := _watcher.get()) is not None:
        return Watched(watcher, total=total, desc=what, unit=unit)
    notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    if show and total and _lines and not sys.stderr.isatty():
        return Lines(
            total=total, desc=what, unit=unit, bar_format=LINE, delay=FIRST, mininterval=EVERY, maxinterval=1e9
        )
    return tqdm(total=total, desc=what, unit=unit, leave=False, disable=not show or (False if notebook else None))
