"""Processes of this machine, none of which outlives who asked for them."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..runtime.interrupts import WORDS

LOOK_EVERY = 0.2  # seconds between two looks at the parent
HELD = tuple(WORDS)  # which come to a whole group of processes, and are the parent's to answer


def end_with(parent: int) -> None:
    """End this process as soon as its parent is gone, whatever it is doing."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def start_trackers() -> None:
    """Have who cleans up what processes leave at work before they begin: to start them lets signals through again.

    What it cleans up after those who ended in haste is no matter for a warning.
    """
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as of_loky

    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        of_loky.ensure_running()
        resource_tracker.ensure_running()
    finally:
        os.environ.pop("PYTHONWARNINGS")
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


@contextmanager
def held() -> Iterator[None]:
    """Hold back signals: processes that begin in here never see them, and this one does afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
