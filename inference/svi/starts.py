"""Several starts tried in workers: what they have come to travels back, and the best goes on here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import std

from ..runtime.progress import progress_bar
from ..workers.many import WorkerLost, in_workers
from .checkpoint import restore, state_of
from .training import Start


class Tried(NamedTuple):
    """A start after its first steps: why it stopped, if it did, its recent loss, its number, and all that changed."""

    message: str
    recent_loss: float
    number: int
    state: dict[str, Any]


def best_elsewhere(start: Callable[[int], Start], starts: int, steps: int, jobs: int | None, bar: std.tqdm) -> Start:
    """The best of several starts after so many steps in workers, ready to go on. start: makes one by its number.

    Raises WorkerLost where no worker could try one of them.
    """
    tried: list[Tried] = []
    for _, found in in_workers(_tried, ((start, number, steps) for number in range(starts)), jobs):
        if isinstance(found, WorkerLost):
            raise found
        tried.append(found)
        bar.update(steps)
    best = min(tried, key=lambda one: (bool(one.message), one.recent_loss, one.number))
    here = start(best.number)
    here.advance(0, bar)  # which makes its steps ready
    restore(here, {**best.state, "best": None}, Path())
    here.message = best.message
    return here


def _tried(start: Callable[[int], Start], number: int, steps: int) -> Tried:
    one = start(number)
    with progress_bar(steps, "", False) as bar:
        one.advance(steps, bar)
    return Tried(one.message, one.recent_loss(), number, state_of(one))
