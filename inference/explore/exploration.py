"""A Comparison that grows in the background, a trial at a time."""

from __future__ import annotations

from collections.abc import Mapping
from queue import Queue
from threading import Thread
from typing import Any, Protocol

from ...errors import InputError
from ...models.structure import Model, one_line
from ..compare.compare import compare
from ..compare.comparison import Comparison
from ..data.as_data import DataLike
from ..runtime.progress import watched
from .trial import Trial, code_of

REFERENCE = "the reference"


class Listener(Protocol):
    """Who is told what becomes of trials, from the thread that works on them."""

    def began(self, what: str) -> None:
        """The work on this has begun."""

    def progressed(self, what: str, done: int, total: int) -> None:
        """So much of a part of the work is done."""

    def ended(self, what: str) -> None:
        """The comparison has grown by this."""

    def failed(self, what: str, why: str) -> None:
        """It has not, and all is as it was."""


class Exploration:
    """Trials on one model and its data, in the order in which they are asked for.

    Attributes
    ----------
    comparison : what there is so far; None before the first fit.
    trials : the trials in it.
    options : of `compare`. A reference that cannot be had is taken out of them.
    """

    def __init__(self, model: Model, x: DataLike, options: Mapping[str, Any], listener: Listener) -> None:
        self.comparison: Comparison | None = None
        self.trials: tuple[Trial, ...] = ()
        self.options = dict(options)
        self._model, self._x, self._listener = model, x, listener
        self._asked: Queue[Trial | None] = Queue()
        self._known: set[str] = set()
        Thread(target=self._work, name="pyrometer.explore", daemon=True).start()

    @property
    def code(self) -> str:
        """The lines that give the same comparison."""
        return code_of(self.trials, self.options)

    @property
    def waiting(self) -> int:
        """How many trials are not done, the one under way among them."""
        return self._asked.unfinished_tasks

    def wait(self) -> None:
        """Until all is done that was asked for."""
        self._asked.join()

    def sample_reference(self) -> None:
        """Ask for the reference, before any trial."""
        self._asked.put(None)

    def ask(self, trial: Trial) -> None:
        """Ask for a trial. Raises InputError where it is done already, or waits to be."""
        if trial.name in self._known:
            raise InputError(
                f"{trial.name} is in the table already, or on its way: choose another guide or other options"
            )
        self._known.add(trial.name)
        self._asked.put(trial)

    def _work(self) -> None:
        while True:
            trial = self._asked.get()
            what = REFERENCE if trial is None else trial.name
            try:
                self._listener.began(what)
                with watched(self._listener.progressed):
                    self._do(trial)
                self._listener.ended(what)
            except Exception as error:  # whatever it is, the notebook goes on
                self._known.discard(what)
                why = str(error) if isinstance(error, InputError) else one_line(error)
                self._listener.failed(what, " ".join(why.split()))
            finally:
                self._asked.task_done()

    def _do(self, trial: Trial | None) -> None:
        entries = {} if trial is None else {trial.name: trial.entry()}
        try:
            if self.comparison is None:
                found = compare(self._model, self._x, entries, **self.options)
            else:
                found = self.comparison.add(entries)
        except Exception:
            if trial is None:
                self.options["reference"] = None
            raise
        if trial is not None and trial.name in found.skipped:
            raise InputError(found.skipped[trial.name])
        self.comparison = found
        self.trials += () if trial is None else (trial,)
