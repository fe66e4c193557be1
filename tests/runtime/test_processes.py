"""Who is asked to end does so at once and in one line, and no process outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyrometer
import pytest
from programs import X, Y, regression
from pyrometer.inference.runtime.interrupts import asked_to_end
from pyrometer.inference.workers.many import in_workers
from pyrometer.models import BayesianGMM
from runtime.programs_started import alive, descendants, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
SOON = 2.0  # seconds
COMPARE = ["-m", "pyrometer.inference.cli.main", "compare", "faithful", "--quiet", "--starts", "1", "--steps", "20000"]
SLEEPERS = """
import time
from pyrometer.inference.workers.many import in_workers
list(in_workers(time.sleep, [(600,)] * 4, 2))
"""
SLEEPING_PROGRAM = """
import time
from types import SimpleNamespace
from pyrometer.inference.cli import main
from pyrometer.inference.workers.many import in_workers
main._parser = lambda argv: SimpleNamespace(parse_args=lambda argv: SimpleNamespace())
main._work = lambda options: list(in_workers(time.sleep, [(600,)] * 4, 2))
main.main()
"""


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python process in a group of its own; whatever is left of the group is killed at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([sys.executable, *arguments], start_new_session=True, **both))  # type: ignore[call-overload]
        return running[-1]

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def with_workers(process: subprocess.Popen[str]) -> set[int]:
    """Its two workers at work, and what else belongs to them."""
    assert until(lambda: len(descendants(process.pid)) >= 3, 60)  # with who cleans up after them
    return descendants(process.pid)


@pytest.mark.parametrize("wait", [0.0, 0.3, 3.0])
def test_no_worker_outlives_a_parent_that_is_killed(wait: float, started: Callable[..., subprocess.Popen[str]]) -> None:
    """While the workers begin, and while they work."""
    process = started("-c", SLEEPERS)
    workers = with_workers(process)
    time.sleep(wait)
    workers |= descendants(process.pid)
    process.kill()
    process.wait()
    assert until(lambda: not any(map(alive, workers)), 10 if wait < 1 else SOON)


@pytest.mark.parametrize("whom", ["the parent", "the group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_with_workers_ends_in_one_line(
    number: signal.Signals, whom: str, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started("-c", SLEEPING_PROGRAM)
    workers = with_workers(process)
    time.sleep(1.0)
    began = time.monotonic()
    (os.kill if whom == "the parent" else os.killpg)(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < SOON
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert (process.returncode, out, err) == (128 + number, "", f"pyrometer: {word}\n")
    assert until(lambda: not any(map(alive, workers)), SOON)


def check_compare(process: subprocess.Popen[str], number: signal.Signals, moment: float) -> None:
    """A comparison that is asked to end does so in one line, soon."""
    time.sleep(moment)
    workers, began = descendants(process.pid), time.monotonic()
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < SOON, err
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert (process.returncode, err) == (128 + number, f"pyrometer: {word}\n"), moment
    assert until(lambda: not any(map(alive, workers)), SOON)


@pytest.mark.parametrize("moment", [0.4, 6.0])
def test_ctrl_c_ends_a_comparison(moment: float, started: Callable[..., subprocess.Popen[str]]) -> None:
    check_compare(started(*COMPARE, "--reference", "none", "--jobs", "2"), signal.SIGINT, moment)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ten_signals_at_random_moments(
    number: signal.Signals, jobs: str, started: Callable[..., subprocess.Popen[str]]
) -> None:
    for moment in np.random.default_rng(number).uniform(0.4, 12, 10):
        check_compare(started(*COMPARE, "--reference", "none", "--jobs", jobs), number, float(moment))


def test_what_was_finished_before_a_signal_is_kept_and_older_results_stay(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """cavi is over in a moment, the guide takes its time, and says so."""
    arguments = [argument for argument in COMPARE if argument != "--quiet"]
    kept = tmp_path / "out"
    kept.mkdir()
    (kept / "table.csv").write_text("of before")
    process = started(*arguments, "--guides", "auto_normal", "--reference", "cavi", "--out", str(kept))
    assert process.stderr
    while "auto_normal" not in process.stderr.readline():
        assert process.poll() is None
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < SOON
    assert process.returncode == 143
    how = f"what is finished is kept, without scores and pictures; --resume goes on from {kept}"
    assert err.splitlines()[-1] == f"pyrometer: terminated: {how}"
    assert "Traceback" not in err
    assert "auto_normal was skipped: interrupted; resume goes on" in out or not out  # where there was time for a table
    assert [path.name for path in kept.iterdir() if not path.name.startswith(".")] == ["table.csv"]
    assert (kept / "table.csv").read_text() == "of before"
    (file,) = (kept / ".unfinished").iterdir()
    before = file.stat().st_mtime_ns
    found = pyrometer.compare(
        BayesianGMM(2), "faithful", [], methods=["cavi"], reference="cavi", folder=kept, resume=True, progress=False
    )
    assert list(found) == ["cavi"]
    assert file.stat().st_mtime_ns == before  # taken, and not made anew


def test_a_training_that_is_terminated_says_how_it_goes_on(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    work = ["train", "digits", "--hidden", "16", "--epochs", "100000", "--quiet", "--out", str(out)]
    process = started("-m", "pyrometer.inference.cli.main", *work)
    assert until((out / "checkpoint.pt").exists, 60)
    began = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < SOON
    assert err == f"pyrometer: terminated: --resume goes on from the checkpoint in {out}\n"
    assert process.returncode == 143


def test_a_call_in_processes_gives_what_it_gives_alone_in_order() -> None:
    calls = [(base, 2) for base in range(7)]
    squares = list(enumerate(n * n for n in range(7)))
    assert list(in_workers(pow, calls, 1)) == sorted(in_workers(pow, calls, 2)) == squares


def test_a_worker_does_its_work_though_nobody_reads_what_it_says() -> None:
    """As of `pyrometer compare --jobs 2 2>&1 | head -1`, whose fits were all lost."""
    code = "import functools, sys; from pyrometer.inference.workers.many import in_workers\n"
    code += "from pyrometer.inference.runtime.pipes import quiet_pipes\n"
    code += "with quiet_pipes(): done = list(in_workers(functools.partial(print, flush=True), [('word',)] * 4, 2))\n"
    code += "sys.exit(len(done))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=writing, timeout=300)
    os.close(writing)
    assert done.returncode == 4


def test_in_a_notebook_ctrl_c_keeps_chains_and_scores_as_ever() -> None:
    """Who calls the library, and has set up nothing, is asked nothing."""
    assert not asked_to_end()
    before = signal.getsignal(signal.SIGTERM)
    fit = pyrometer.nuts(regression, (X, Y), warmup=20, draws=20, chains=1, compile=False, progress=False)
    assert fit.message == ""
    assert signal.getsignal(signal.SIGTERM) is before
