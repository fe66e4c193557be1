"""Several starts, of which the best is trained to its end: tried here, or in workers, from where it travels back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm import std

from ...errors import InputError
from ..runtime.isolation import one_thread_if_small
from ..runtime.progress import progress_bar
from ..steps.optimizer import DECAYED
from ..steps.pairing import AUTO
from ..steps.plan import Plan
from ..workers.many import WorkerLost, cores_for, in_workers
from .checkpoint import restore, state_of
from .training import Start
from .until_done import BLOCK, EXPECTED, judge_fixed, train_until_done

MIN_JUDGED = 200  # steps: fewer are too few to ask
TRIAL_SHARE = 10  # several starts run a tenth of the steps before the best goes on


@dataclass(frozen=True)
class Race:
    """Starts of one training, of which the best goes on.

    begin: makes one by its number. starts: how many. steps: of the best one, auto for as many as it takes. falls:
    whether its rate falls by itself. jobs: starts tried at once, as `svi` has them. progress: whether a bar is shown.
    """

    plan: Plan
    begin: Callable[[int], Start]
    starts: int
    steps: int | Literal["auto"]
    falls: bool
    jobs: int | None
    progress: bool

    @property
    def total(self) -> int:
        """Steps of the best one, those it is expected to take where that is up to it."""
        return EXPECTED if self.steps == AUTO else self.steps

    @property
    def trial(self) -> int:
        """Steps of each before the best goes on; 0 of a single one."""
        if self.starts == 1:
            return 0
        return BLOCK if self.steps == AUTO else max(1, self.steps // TRIAL_SHARE)


def winner(race: Race) -> Start:
    """The best of several starts after a few steps, trained to the end. Raises InputError where none takes a step."""
    numbers = race.plan.data.numel
    with progress_bar(race.trial * (race.starts - 1) + race.total, race.plan.name, race.progress) as bar:
        elsewhere = race.starts > 1 and cores_for(race.jobs) > 0
        with one_thread_if_small(numbers):
            here = [race.begin(number) for number in range(1 if elsewhere else race.starts)]
        if not (here[0].values or race.plan.structure.of_kind("param")):  # which a start has once it has run
            here[0].judged = True, "nothing is left to train"
            return here[0]
        best = _best_elsewhere(race, bar) if elsewhere else _best_here(here, race.trial, bar)
        with one_thread_if_small(numbers):
            _to_its_end(best, race, bar)
    if not best.losses:
        why = f"guide {race.plan.name}: {best.message}"
        raise InputError(f"{why}: check the model's priors and the guide's start on this data")
    return best


def _to_its_end(best: Start, race: Race, bar: std.tqdm) -> None:
    """Take the steps that are left, and say whether more of them would gain."""
    if best.message:
        return
    if race.steps == AUTO:
        train_until_done(best, bar)
        return
    best.advance(race.total - race.trial, bar)
    if race.total < MIN_JUDGED:
        best.judged = False, f"{race.total} steps are too few to tell"
    elif best.losses:
        judge_fixed(best, bar, 1 / DECAYED if race.falls else 1.0)


def _best_here(running: list[Start], steps: int, bar: std.tqdm) -> Start:
    """The best of these after so many steps."""
    with one_thread_if_small(running[0].data.numel):
        for one in running:
            one.advance(steps, bar)
    return min(running, key=lambda one: (bool(one.message), one.recent_loss()))


class Tried(NamedTuple):
    """A start after its first steps: why it stopped, if it did, its recent loss, its number, and all that changed."""

    message: str
    recent_loss: float
    number: int
    state: dict[str, Any]


def _best_elsewhere(race: Race, bar: std.tqdm) -> Start:
    """The best of several starts after their first steps in workers, ready to go on.

    Raises WorkerLost where no worker could try one of them.
    """
    tried: list[Tried] = []
    calls = ((race.begin, number, race.trial) for number in range(race.starts))
    for _, found in in_workers(_tried, calls, race.jobs):
        if isinstance(found, WorkerLost):
            raise found
        tried.append(found)
        bar.update(race.trial)
    best = min(tried, key=lambda one: (bool(one.message), one.recent_loss, one.number))
    here = race.begin(best.number)
    here.advance(0, bar)  # which makes its steps ready
    restore(here, {**best.state, "best": None}, Path())
    here.message = best.message
    return here


def _tried(begin: Callable[[int], Start], number: int, steps: int) -> Tried:
    one = begin(number)
    with progress_bar(steps, "", False) as bar:
        one.advance(steps, bar)
    return Tried(one.message, one.recent_loss(), number, state_of(one))
