"""Many calls in processes of this machine: same numbers, none lost, nothing said out of turn."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import pyro
import pyrometer
import pytest
import torch
from joblib.parallel import ParallelBackendBase, register_parallel_backend
from many_fits import WORK, Y, alone, frail, model_and_guides, runs, some_slow, table
from pandas.testing import assert_frame_equal
from pyrometer.inference.cli import main as command_line
from pyrometer.inference.runtime.progress import watched
from pyrometer.inference.workers.engines import engine_for
from pyrometer.inference.workers.many import WorkerLost, cores_for, in_workers
from pyrometer.inference.workers.task import packed, unpacked, work
from threadpoolctl import threadpool_info

CALLS = [(number,) for number in range(8)]
SQUARES = {number: number * number for number in range(8)}


@pytest.mark.parametrize("name", some_slow("calibrate"))
def test_two_processes_give_what_one_gives_and_the_bar_moves_as_they_are_done(name: str) -> None:
    seen: list[int] = []
    with watched(lambda what, number, total: seen.append(number)):
        assert_frame_equal(WORK[name](2, progress=True), alone(name), check_exact=True)
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3


def test_threads_give_what_one_gives() -> None:
    with joblib.parallel_config("threading", n_jobs=2):
        assert_frame_equal(WORK["svi"](None), alone("svi"), check_exact=True)


def test_jobs_are_what_was_asked_for_then_the_context_then_one() -> None:
    cores = joblib.cpu_count()
    assert [cores_for(jobs) for jobs in (None, 1, 2, 3)] == [0, 0, 2, 3]
    assert cores_for(-1) == (cores if cores > 1 else 0)
    with joblib.parallel_config("loky"):
        assert [cores_for(jobs) for jobs in (None, 1, 2)] == [cores if cores > 1 else 0, 0, 2]
    with joblib.parallel_config("loky", n_jobs=3):
        assert [cores_for(jobs) for jobs in (None, 1, 2)] == [3, 0, 2]
    with joblib.parallel_config(n_jobs=2):
        assert cores_for(None) == 2
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        assert cores_for(None) == 2
    with joblib.parallel_config("threading", n_jobs=2):
        assert cores_for(None) == 0


@pytest.mark.parametrize("jobs", [0, -2, 1.5, True, "2"])
def test_what_is_no_number_of_jobs_is_refused(jobs: Any) -> None:
    for name in WORK:
        with pytest.raises(pyrometer.InputError, match=r"^jobs=.* must be a whole number, 1 or more, or -1 for every"):
            WORK[name](jobs)


@pytest.mark.parametrize("command", ["compare", "components"])
def test_the_command_line_takes_jobs(command: str) -> None:
    for words, jobs in (([], None), (["--jobs", "2"], 2), (["--jobs", "-1"], -1)):
        options = [command, "faithful", *words]
        assert command_line._parser(options).parse_args(options).jobs == jobs
    for wrong in ("0", "-2", "1.5", "two"):
        options = [command, "faithful", "--jobs", wrong]
        with pytest.raises(pyrometer.InputError, match=r"--jobs: .* must be a whole number, 1 or more, or -1"):
            command_line._parser(options).parse_args(options)


def test_a_backend_that_takes_no_work_is_refused() -> None:
    class Other(ParallelBackendBase):
        def effective_n_jobs(self, n_jobs: int) -> int:
            return 2

    register_parallel_backend("other", Other)
    with (
        joblib.parallel_config("other"),
        pytest.raises(pyrometer.InputError, match="backend Other is not one"),
    ):
        table(None)


class Slots:
    """Threads in place of workers, which count how many calls are under way."""

    limit, tries = 3, 1

    def __init__(self) -> None:
        self.threads, self.counts, self.now = ThreadPoolExecutor(10), list[int](), 0

    def cores(self) -> int:
        return self.limit

    def submit(self, packet: bytes) -> Future[bytes]:
        self.now += 1
        self.counts.append(self.now)
        future = self.threads.submit(work, packet)
        future.add_done_callback(lambda _: self.ended())
        return future

    def ended(self) -> None:
        self.now -= 1

    def why_lost(self, error: BaseException) -> str:
        return ""

    def stop(self, running: Iterable[Future[bytes]]) -> None:
        self.threads.shutdown()


def test_no_more_are_under_way_than_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots()
    monkeypatch.setattr("pyrometer.inference.workers.many.engine_for", lambda jobs: slots)
    assert dict(in_workers(lambda number: number * number, CALLS, 3)) == SQUARES
    assert max(slots.counts) == 3


def test_a_worker_that_is_killed_costs_no_finished_work(tmp_path: Path) -> None:
    """The call that it had is done once more; the others that were under way may be."""
    square = frail(tmp_path, lambda number, run: number == 5 and run == 1)
    assert dict(in_workers(square, CALLS, 2)) == SQUARES
    assert runs(tmp_path)[5] == 2
    assert sum(runs(tmp_path).values()) <= len(CALLS) + 2
    assert [runs(tmp_path)[number] for number in range(4)] == [1] * 4


def test_a_call_that_kills_every_worker_costs_itself_alone(tmp_path: Path) -> None:
    found = dict(in_workers(frail(tmp_path, lambda number, run: number == 3), CALLS, 2))
    lost = found.pop(3)
    assert isinstance(lost, WorkerLost)
    assert str(lost) == "its process was ended 3 times: memory is the usual cause: fewer jobs, or smaller ones"
    assert found == {number: square for number, square in SQUARES.items() if number != 3}
    assert runs(tmp_path)[3] == 3


@pytest.mark.slow
def test_a_guide_that_kills_every_worker_is_skipped_in_one_line() -> None:
    model, guides = model_and_guides()

    def fatal(model: Any) -> Any:
        os._exit(9)

    comparison = pyrometer.compare(
        model, Y, {"fatal": fatal, "good": guides["function"]}, reference=None, steps=5, jobs=2, progress=False
    )
    assert list(comparison) == ["good"]
    assert "memory is the usual cause" in comparison.skipped["fatal"]


def test_what_cannot_travel_says_so_in_one_line() -> None:
    lock = threading.Lock()
    ((place, found),) = in_workers(lambda held: held, [(lock,)], 2)
    assert (place, type(found)) == (0, WorkerLost)
    assert str(found).startswith("it cannot travel to a worker (TypeError: cannot pickle")
    results = dict(in_workers(lambda locks: threading.Lock() if locks else 3, [(True,), (False,)], 2))
    assert results[1] == 3
    assert isinstance(results[0], WorkerLost)
    assert str(results[0]).startswith("its result cannot travel back from a worker (TypeError: cannot pickle")
    assert "\n" not in str(results[0])


def test_a_module_that_workers_have_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ModuleType("known_here_alone")
    exec("def square(number): return number * number", vars(mine))
    monkeypatch.setitem(sys.modules, mine.__name__, mine)
    packet = packed(mine.square, (3,))
    assert unpacked(work(packet)) == 9
    monkeypatch.delitem(sys.modules, mine.__name__)
    with pytest.raises(WorkerLost, match=r"cannot import what was sent \(ModuleNotFoundError: No module named 'known_"):
        unpacked(work(packet))


def test_what_a_call_raises_is_raised_here_as_it_was() -> None:
    class Odd(Exception):  # which pickle makes anew from one argument, and it takes two
        def __init__(self, what: str, why: str) -> None:
            super().__init__(f"{what} {why}")

    def fails(kind: str) -> None:
        raise {"odd": Odd("out of", "paper"), "ours": pyrometer.InputError("x has no rows"), "key": KeyError("z")}[kind]

    with pytest.raises(RuntimeError, match="Odd: out of paper"):
        list(in_workers(fails, [("odd",)], 2))
    with pytest.raises(pyrometer.InputError, match=r"^x has no rows$"):
        list(in_workers(fails, [("ours",)], 2))
    with pytest.raises(KeyError) as caught:
        list(in_workers(fails, [("key",)], 2))
    assert "in fails" in caught.value.__notes__[0]


def test_what_a_call_says_is_said_here_in_one_piece(capfd: pytest.CaptureFixture[str]) -> None:
    model, _ = model_and_guides()

    def talks(number: int) -> int:
        print(f"call {number}")
        sys.stderr.write(f"error {number}\n")
        warnings.warn(f"warning {number}", RuntimeWarning, stacklevel=1)
        pyrometer.svi(model, "auto_normal", Y, steps=30, draws=2, compile=False, progress=True)
        return number

    with pytest.warns(RuntimeWarning, match="warning") as warned:
        assert sorted(in_workers(talks, [(1,), (2,)], 2)) == [(0, 1), (1, 2)]
    out, err = capfd.readouterr()
    assert sorted(out.split("\n")) == ["", "call 1", "call 2"]
    assert sorted(err.split("\n")) == ["", "error 1", "error 2"]  # and no bar
    assert sorted(str(each.message) for each in warned if "warning" in str(each.message)) == ["warning 1", "warning 2"]


def test_results_come_as_they_are_done(tmp_path: Path) -> None:
    heard = tmp_path / "heard"

    def waits(number: int) -> None:
        end = time.monotonic() + 300
        while number == 0 and not heard.exists() and time.monotonic() < end:
            time.sleep(0.05)

    results = in_workers(waits, [(0,), (1,), (2,)], 2)
    assert [next(results)[0], next(results)[0]] == [1, 2]
    heard.touch()
    assert [place for place, _ in results] == [0]


def test_a_worker_has_one_thread_and_the_settings_of_who_sent_it() -> None:
    def seen() -> Any:
        pools = [pool["num_threads"] for pool in threadpool_info()]
        return torch.get_num_threads(), max(pools), torch.get_default_dtype(), pyro.settings.get()

    torch.set_default_dtype(torch.float64)
    try:
        with pyro.settings.context(cholesky_relative_jitter=7.0):
            (_, (threads, largest, dtype, settings)), _ = in_workers(seen, [()] * 2, 2)
            assert (threads, largest, dtype, settings) == (1, 1, torch.float64, pyro.settings.get())
    finally:
        torch.set_default_dtype(torch.float32)


def test_work_within_work_runs_where_it_is() -> None:
    def within(jobs: int | None) -> tuple[int, bool]:
        return cores_for(jobs), engine_for(jobs) is None

    for jobs in (1, 2):
        assert dict(in_workers(within, [(None,), (2,)], jobs)) == {0: (0, True), 1: (0, True)}
    assert cores_for(2) == 2


def test_a_packet_that_is_worked_at_here_leaves_everything_as_it_was() -> None:
    def restless() -> int:
        torch.manual_seed(1)
        torch.set_default_dtype(torch.float64)
        pyro.param("mine", torch.ones(2))
        return 3

    before = torch.get_rng_state(), torch.get_default_dtype(), dict(pyro.get_param_store()), torch.get_num_threads()
    assert unpacked(work(packed(restless, ()))) == 3
    after = torch.get_rng_state(), torch.get_default_dtype(), dict(pyro.get_param_store()), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_who_stops_listening_ends_what_is_under_way(tmp_path: Path) -> None:
    def sleeps(seconds: float) -> int:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(seconds)
        return os.getpid()

    results = in_workers(sleeps, [(0.0,), (600.0,), (600.0,)], 2)
    next(results)
    began = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 20
    assert not any(Path(f"/proc/{path.name}").exists() for path in tmp_path.iterdir())
