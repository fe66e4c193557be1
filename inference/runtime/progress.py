"""Progress: a bar in a terminal or notebook, a line every ten seconds where there is neither."""

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from tqdm import TqdmWarning, std

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without widgets is no fault of the user's
    from tqdm.auto import tqdm

EVERY = 10.0  # seconds before the first line, and between lines
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}{postfix}"


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


def progress_bar(total: int, what: str, show: bool, unit: str = "step") -> std.tqdm:
    """A bar over `total` units, to be used as a context manager. show: False is silent."""
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
