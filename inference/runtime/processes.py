"""Calls in processes of their own, none of which outlives who asked for them."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

LOOK_EVERY = 0.2  # seconds between two looks at the parent
HELD = (signal.SIGINT, signal.SIGTERM)  # which come to a whole group of processes, and are the parent's to answer


def in_processes(fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    """What a function gives for each call's arguments, in their order, `jobs` at once; in this process where it is one.

    Who has set up another backend by `joblib.parallel_config`, threads or a cluster, has them there.
    """
    from joblib import Parallel, delayed, parallel_config  # a worker does not need it
    from joblib.parallel import LokyBackend, get_active_backend

    work = (delayed(fn)(*arguments) for arguments in calls)
    if jobs == 1 or not isinstance(get_active_backend()[0], LokyBackend):
        yield from Parallel(n_jobs=jobs, return_as="generator")(work)
        return
    results: Any = ()
    _start_trackers()
    try:
        with parallel_config("loky", initializer=end_with, initargs=(os.getpid(),)), _held():
            results = Parallel(n_jobs=jobs, return_as="generator")(work)
        yield from results
    finally:
        if results:
            results.close()  # which ends the processes that are still at work


def end_with(parent: int) -> None:
    """End this process as soon as its parent is gone, whatever it is doing."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def _start_trackers() -> None:
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
def _held() -> Iterator[None]:
    """Hold back signals: processes that begin in here never see them, and this one does afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
