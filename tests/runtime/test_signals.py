"""Signals of every kind at random moments: one line, its status, nothing left over, nothing lost that was done."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from pyrometer.inference.runtime.file import unsealed
from runtime.programs_started import alive, descendants, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

MAIN = [sys.executable, "-m", "pyrometer.inference.cli.main"]
EACH = ["--steps", "100000", "--starts", "1", "--compile", "no"]
CHAINS = ["--warmup", "100000", "--draws", "100000", "--chains", "2", "--compile", "no"]
LONG = {  # none of which would end by itself
    "compare": ["compare", "faithful", "--reference", "none", "--jobs", "2", *EACH],
    "train": ["train", "digits", "--hidden", "16", "--epochs", "3000"],
    "nuts": ["compare", "faithful", "--methods", "nuts", *CHAINS],
    "draws": ["compare", "faithful", "--model", "correlated-gaussian", "--methods", "nuts", *CHAINS, "--warmup", "20"],
}
LESS = {  # added to these, of what does, and is to although nobody reads what it says
    "compare": ["--steps", "50", "--draws", "50", "--guides", "auto_normal,auto_delta"],
    "train": ["--epochs", "5"],
    "nuts": ["--warmup", "20", "--draws", "20"],
    "draws": ["--draws", "20"],
}
LAST = {
    "compare": "Verdict",
    "train": "ais",
    "nuts": "Verdict",
    "draws": "Verdict",
}  # of what is said where no folder is written
ASKED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGPIPE]
LATEST = 6.0  # seconds to the signal, from the start or from the first word that a program says
SOON = 10.0  # seconds from the signal to the end: 2 where nothing else is at work, and what was drawn is written first
WHOLE = 300.0  # seconds, of a program that ends by itself


@dataclass(frozen=True)
class Ended:
    """How a program ended. seconds: from the signal on. left: processes of its. files: in its two folders, by name.

    read: what it printed, to who closed the pipe until then; whole: that was all.
    """

    status: int
    said: str
    seconds: float
    left: list[int]
    files: list[str]
    temporary: list[str]
    read: str = ""
    whole: bool = False


def ended(
    program: str, number: signal.Signals, moment: float, folder: Path, *, at_work: bool = False, writes: bool = True
) -> Ended:
    """Start a program, and send a signal after so many seconds; of SIGPIPE close what reads from it.

    at_work: whether the seconds count from where it says something, else from its start. writes: whether into a folder.
    """
    out, temporary = folder / "out", folder / "temporary"
    temporary.mkdir(parents=True)
    closes = number == signal.SIGPIPE
    said = (folder / "said").open("wb+")
    options = [*(LESS[program] if closes else ()), *(["--out", str(out)] if writes else [])]
    process, reader = begun([*MAIN, *LONG[program], *options], temporary, None if closes else said)
    if at_work:
        until(lambda: bool(select.select([reader], [], [], 0)[0] or os.fstat(said.fileno()).st_size), WHOLE)
    time.sleep(moment)
    family, began = descendants(process.pid), time.monotonic()
    read = ""
    if closes:
        read = unread(reader)
        os.close(reader)
    else:
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # as a terminal does, and as kill
    try:
        process.wait(WHOLE if closes else 60)
        seconds = time.monotonic() - began
        until(lambda: not any(map(alive, family)), SOON)
        left = [pid for pid in family if alive(pid)]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not closes:
            read = unread(reader)
            os.close(reader)
    said.seek(0)
    names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    with said:
        return Ended(
            process.returncode,
            said.read().decode(),
            seconds,
            left,
            names,
            sorted(path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor")),  # a cache
            read,
            ("written to" if writes else LAST[program]) in read,
        )


def begun(command: list[str], temporary: Path, errors: IO[bytes] | None) -> tuple[subprocess.Popen[bytes], int]:
    """A program under way in a session of its own, and what reads from it; its errors too, where they have no file."""
    reader, writer = os.pipe()
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    heard = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # though these tests be run under nohup
    how: Any = {"start_new_session": True, "preexec_fn": heard, "env": environment, "stdout": writer}
    process = subprocess.Popen(command, stderr=errors or writer, **how)
    os.close(writer)
    return process, reader


def unread(reader: int) -> str:
    """What waits in a pipe."""
    content = b""
    while select.select([reader], [], [], 0)[0] and (more := os.read(reader, 2**16)):
        content += more
    return content.decode()


def check(found: Ended, number: signal.Signals, folder: Path, writes: bool = True) -> None:
    """No traceback, its own status, nothing left over, results where it writes them, a checkpoint that is whole."""
    assert "Traceback" not in found.said, found.said
    assert found.left == []
    if number == signal.SIGPIPE:
        assert found.status == (0 if found.whole else 141), found
        assert {"table.csv", "encoder.pt"} & set(found.files) or not writes
    elif number in ASKED:
        assert found.status == 128 + number, found
        assert found.said.splitlines()[-1].startswith(f"pyrometer: {ASKED[number]}"), found.said
        assert found.seconds < SOON
    else:
        assert found.status in (-number, 128 + number), found
    if number != signal.SIGKILL:  # of which nobody can clean up
        assert found.temporary == []
        assert not [name for name in found.files if name.startswith(".pyrometer") or name.endswith(".new")]
    kept = folder / "out" / "checkpoint.pt"
    if kept.exists():
        assert unsealed(kept.read_bytes())


@pytest.mark.parametrize(
    ("program", "number"), [("nuts", signal.SIGKILL), ("train", signal.SIGPIPE), ("train", signal.SIGHUP)]
)
def test_a_program_that_is_killed_read_no_more_or_left_alone_leaves_nothing_undone(
    program: str, number: signal.Signals, tmp_path: Path
) -> None:
    check(ended(program, number, 0.5, tmp_path, at_work=True), number, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_chains_without_a_compiler_end_within_two_seconds_and_show_their_draws(
    number: signal.Signals, tmp_path: Path
) -> None:
    found = ended("draws", number, 1.0, tmp_path, at_work=True, writes=False)
    check(found, number, tmp_path, writes=False)
    assert found.seconds < 2.0
    assert re.search(r"nuts: interrupted: [0-9]+ of 100000 draws a chain are kept", found.read)
    assert found.read.count(f"nuts: {ASKED[number]} before it was scored") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_twenty_of_each_signal_at_random_moments(number: signal.Signals, tmp_path: Path) -> None:
    for trial, moment in enumerate(np.random.default_rng(number).uniform(0.3, LATEST, 20)):
        folder = tmp_path / str(trial)
        program, writes = (
            list(LONG)[trial % len(LONG)],
            number != signal.SIGPIPE or trial % 5 == 0,
        )  # pictures take long
        found = ended(program, number, float(moment), folder, at_work=trial % 2 == 1, writes=writes)
        check(found, number, folder, writes)
