"""One call on its way to a worker and its result on the way back, as bytes."""

from __future__ import annotations

import io
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import uuid4

import cloudpickle
import pyro
import torch
from threadpoolctl import threadpool_limits
from tqdm import std

from ...errors import InputError
from ..runtime.isolation import one_thread, untouched
from ..runtime.progress import watched

ME = uuid4().hex  # this process, and no other on any machine
_warned: dict[Any, Any] = {}  # what was said before, which Python's filters say once
_within: ContextVar[str] = ContextVar("within", default="")  # "here" or "worker", where a call is under way


class WorkerLost(InputError):
    """The result of a call that no worker could bring home, and why."""


class Said(NamedTuple):
    """What a call came to: its value, or what it raised; what was written to standard output and error; warnings."""

    value: Any
    error: BaseException | None = None
    output: str = ""
    errors: str = ""
    warned: tuple[tuple[str, type[Warning], str, int], ...] = ()


@contextmanager
def under_way(where: str) -> Iterator[None]:
    """A call is under way: work within this work runs where it is. where: "here" or "worker"."""
    token = _within.set(where)
    try:
        yield
    finally:
        _within.reset(token)


def is_under_way() -> bool:
    """Whether this is within a call of many."""
    return bool(_within.get())


def in_a_worker() -> bool:
    """Whether this is within a call that has one core to itself, beside others."""
    return _within.get() == "worker"


def packed(fn: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """The call as it travels, with the settings it is to have there: functions of a script or a notebook by value.

    Raises WorkerLost where it cannot.
    """
    try:
        return bytes(cloudpickle.dumps((ME, pyro.settings.get(), torch.get_default_dtype(), fn, arguments)))
    except Exception as error:  # whatever an object of the user's raises as it is taken apart
        raise WorkerLost(f"it cannot travel to a worker ({_line(error)}): jobs=1 runs it in this process") from error


def work(packet: bytes) -> bytes:
    """In a worker: do the call of a packet, on one thread and without a trace; a packet of what it came to."""
    try:
        sender, settings, dtype, fn, arguments = pickle.loads(packet)
    except Exception as error:  # of another module, or another version of it
        mend = "install it there, or define what it has in the script itself"
        return pickle.dumps(Said(None, WorkerLost(f"a worker cannot import what was sent ({_line(error)}): {mend}")))
    output, errors, warned = io.StringIO(), io.StringIO(), list[warnings.WarningMessage]()
    value, failure = None, None
    with ExitStack() as stack:
        for context in (untouched(), one_thread(), threadpool_limits(1), pyro.settings.context(**settings)):
            stack.enter_context(context)
        if sender != ME:  # else all of it is the caller's own, and in use
            stack.enter_context(redirect_stdout(output))
            stack.enter_context(redirect_stderr(errors))
            warned = stack.enter_context(_recorded_warnings())
        stack.enter_context(watched(lambda *_: None))
        stack.enter_context(under_way("worker"))
        torch.set_default_dtype(dtype)
        try:
            value = fn(*arguments)
        except BaseException as error:
            failure = error
    heard = tuple((str(each.message), each.category, each.filename, each.lineno) for each in warned)
    said = Said(_portable(value), _portable(failure), output.getvalue(), errors.getvalue(), heard)
    try:
        return bytes(cloudpickle.dumps(said))
    except Exception as error:
        reason = f"its result cannot travel back from a worker ({_line(error)}): jobs=1 runs it in this process"
        return pickle.dumps(Said(None, WorkerLost(reason)))


def unpacked(packet: bytes) -> Any:
    """The value of a packet; what it said is said here, and what it raised is raised."""
    said: Said = pickle.loads(packet)
    for text, stream in ((said.output, sys.stdout), (said.errors, sys.stderr)):
        if text and stream is not None:
            std.tqdm.write(text, file=stream, end="")
    for message, category, filename, lineno in said.warned:
        warnings.warn_explicit(message, category, filename, lineno, registry=_warned)
    if said.error is not None:
        raise said.error
    return said.value


@contextmanager
def _recorded_warnings() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as found:
        assert found is not None  # as record=True has it
        yield found


def _portable(value: Any) -> Any:
    """The value; of an exception that would not come through, one that says the same; its traceback as a note."""
    if not isinstance(value, BaseException):
        return value
    if not isinstance(value, InputError):
        value.add_note("in a worker:\n" + "".join(traceback.format_exception(value)))
    try:
        return value if type(pickle.loads(pickle.dumps(value))) is type(value) else RuntimeError(_line(value))
    except Exception:
        return RuntimeError(_line(value))


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
