"""Progress: a bar in a terminal or notebook, a line every ten seconds where there is neither."""

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

EVERY = 10.0  # seconds before the first line, and between lines
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}{postfix}"

Watcher = Callable[[str, int, int], None]  # of what is under way, the units done, and all of them
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


class Lines(std.tqdm):
    """A bar that writes a line now and then, where nothing can be drawn over: a pipe, a file, the log of a CI run."""

    disable: bool
    said: float  # when the last line was written; of the first, when the work began
    wrote = False

    def refresh(self, *args: Any, **kwargs: Any) -> bool:
        """Write a line where the last is old enough."""
        now = time.monotonic()
        self.said = vars(self).get("said", now)
        if now - self.said < EVERY:
            return False
        self.said, self.wrote = now, True
        return bool(super().refresh(*args, **kwargs))

    def close(self) -> None:
        """Write a last line where there was one before; work of less than ten seconds says nothing."""
        if not self.disable:
            if self.wrote:
                self.said -= EVERY
                self.refresh()
            self.disable = True
            self._decr_instances(self)

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """Write what is said, each on a line of its own."""

        def say(text: str) -> None:
            if text:
                file.write(text.replace(" of ? ", " ") + "\n")
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


def progress_bar(total: int, what: str, show: bool, unit: str = "step") -> std.tqdm:
    """A bar over `total` units, to be used as a context manager. show: False is silent."""
    if show and total and (watcher := _watcher.get()) is not None:
        return Watched(watcher, total=total, desc=what, unit=unit)
    if show and total and sys.stderr is not None and not _can_be_drawn_over():
        return Lines(total=total, desc=what, unit=unit, bar_format=LINE, mininterval=1.0, maxinterval=EVERY)
    return tqdm(total=total, desc=what, unit=unit, leave=False, disable=not show or sys.stderr is None)


def _can_be_drawn_over() -> bool:
    """Whether standard error is a terminal, or goes to a notebook, be it without widgets."""
    if any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__) or sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"
