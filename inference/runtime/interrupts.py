"""Ctrl-C, SIGTERM and SIGHUP: who is asked to end does so at once, and keeps what is finished."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):  # of a terminal that closes; Windows has none
    WORDS[signal.SIGHUP] = "hung up"
ASKED = (signal.SIGINT, signal.SIGTERM)  # which are meant for this program, though a shell may have it ignore them
PATIENCE = 1.6  # seconds from a signal until a program ends by force, where it has nothing finished to keep

_asked: list[int] = []  # the signals by which a program of ours was asked to end
_hints: list[Callable[[], str]] = []  # how what was cut short goes on, where it does
_keeping = threading.Event()  # set while what is finished is brought home


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt at Ctrl-C, SIGTERM and SIGHUP alike, if not under nohup; for a program, which ends then.

    Where it does not, for the interrupt came in the middle of what cannot be interrupted, it is ended by force.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _keeping.clear()
    heard = [number for number in WORDS if number in ASKED or signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _end) for number in heard}
    try:
        yield
    finally:
        _keeping.set()
        _asked.clear()
        _hints.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_stop(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set an event, and the second interrupt as usual; others too where a program ends by it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in WORDS}
    before = {number: was for number, was in before.items() if was is _end or (number == signal.SIGINT and was)}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stopped(number: int, _: FrameType | None) -> None:
        if before[signal.Signals(number)] is _end:
            _asked.append(number)
            if any(hint() for hint in _hints):  # what is finished is at home already
                _end_in_time()
            else:
                _keeping.set()
        stop.set()
        put_back()

    for number in before:
        signal.signal(number, stopped)
    try:
        yield
    finally:
        put_back()


def asked_to_end() -> str:
    """How a program was asked to end, "interrupted" or "terminated"; empty where it was not."""
    return WORDS[signal.Signals(_asked[0])] if _asked else ""


def exit_status() -> int:
    """That of a program which was asked to end, as shells have it."""
    return 128 + (_asked[0] if _asked else signal.SIGINT)


def say_how_it_goes_on(hint: Callable[[], str]) -> None:
    """Say so in the line in which a program ends by a signal. hint: what is true then; empty where nothing is."""
    _hints.append(hint)


def last_line() -> str:
    """What a program says that ends by a signal."""
    hints = filter(None, (hint() for hint in _hints))
    return ": ".join([f"pyrometer: {asked_to_end() or WORDS[signal.SIGINT]}", *hints])


def keep_what_is_finished() -> None:
    """Take the time that it takes to bring home what is finished."""
    _keeping.set()


def _end(number: int, _: FrameType | None) -> None:
    _asked.append(number)
    _end_in_time()
    raise KeyboardInterrupt


def _end_in_time() -> None:
    timer = threading.Timer(PATIENCE, _end_by_force)
    timer.daemon = True
    timer.start()


def _end_by_force() -> None:
    if not _keeping.is_set():
        sys.stderr.write(f"{last_line()}\n")
        sys.stderr.flush()
        os._exit(exit_status())
