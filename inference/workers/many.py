"""Many calls at once: each result as it is ready, whatever takes them and whichever worker is lost on the way."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeAlias

from ..runtime.isolation import is_alone, let_others
from .engines import Engine, engine_for
from .task import WorkerLost, packed, under_way, unpacked

LOOK_EVERY = 0.005  # seconds between two looks at what is under way
Call: TypeAlias = tuple[int, tuple[Any, ...]]  # its place, and its arguments


def cores_for(jobs: int | None) -> int:
    """How many calls are under way at once elsewhere; 0 where they run in this process, one after another."""
    engine = engine_for(jobs)
    return 0 if engine is None else max(engine.cores(), 1)


def in_workers(fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]], jobs: int | None) -> Iterator[tuple[int, Any]]:
    """The place of each call, from 0, and what a function gives for its arguments, as they are done.

    jobs: see `engine_for`. Where a worker is lost, out of memory for example, its call is tried again; one that no
    worker survives, or that cannot travel there or back, has a WorkerLost for its result. What the function raises is
    raised.
    """
    engine = engine_for(jobs)
    if engine is not None:
        yield from _elsewhere(engine, fn, calls)
        return
    for place, arguments in enumerate(calls):
        with under_way("here"):
            result = fn(*arguments)
        yield place, result


def _elsewhere(engine: Engine, fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
    waiting, running = _Waiting(calls, engine.tries), dict[Future[bytes], Call]()
    try:
        while True:
            while len(running) < engine.limit and (call := waiting.next(not running)):
                try:
                    running[engine.submit(packed(fn, call[1]))] = call
                except WorkerLost as lost:
                    yield call[0], lost
            if not running:
                return
            for future in _ended(running):
                call = running.pop(future)
                try:
                    packet = future.result()
                except BaseException as error:
                    why = engine.why_lost(error)
                    if not why:
                        raise
                    if waiting.failed(call):
                        yield call[0], WorkerLost(why)
                else:
                    yield call[0], _opened(packet)
    finally:
        if running:
            engine.stop(running)


def _opened(packet: bytes) -> Any:
    try:
        return unpacked(packet)
    except WorkerLost as lost:
        return lost


def _ended(running: Iterable[Future[bytes]]) -> set[Future[bytes]]:
    """Those that have ended, one at least. Workers may be threads of this process, and need the lock that it holds."""
    while is_alone() and not any(future.done() for future in running):
        let_others(LOOK_EVERY)
    return wait(running, return_when=FIRST_COMPLETED).done


class _Waiting:
    """Calls not under way: those whose worker was lost once come first, and later ones last of all, each alone."""

    def __init__(self, calls: Iterable[tuple[Any, ...]], tries: int) -> None:
        self.fresh, self.tries = enumerate(calls), tries
        self.again, self.alone = deque[Call](), deque[Call]()
        self.lost = Counter[int]()

    def next(self, idle: bool) -> Call | None:
        """The next call, None where there is none as yet. idle: whether nothing is under way."""
        if self.again:
            return self.again.popleft()
        call = next(self.fresh, None)
        if call is None and self.alone and idle:
            return self.alone.popleft()
        return call

    def failed(self, call: Call) -> bool:
        """Whether a call whose worker was lost is given up; it waits again where it is not."""
        self.lost[call[0]] += 1
        number = self.lost[call[0]]
        if number < self.tries:
            (self.again if number == 1 else self.alone).append(call)
        return number >= self.tries
