"""Whatever is typed ends in a result, or in one line and status 2: no traceback, no file left, no hour waited."""

from __future__ import annotations

import io
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fuzz import odd_files
from fuzz.command_lines import CommandLine, command_lines
from hypothesis import assume, given, note
from hypothesis import strategies as st
from pyrometer.inference.cli import train as cli_train
from pyrometer.inference.cli.main import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="alarms and pipes of Unix")

SECONDS = 300  # of an example, which takes less than one where nothing else is at work
MEMORY = 6 * 2**30  # bytes beyond those at the start
OWN_PROCESS = 75  # examples, one of which runs in a process of its own
LONGEST_LINE = 700  # characters of a message
NO_NUMBER, INFINITE = (re.compile(rf"(?<![\w.'\"(])[+-]?{word}(?![\w.'\")])", re.I) for word in ("nan", "inf"))


TRIED, PASSED = set[str](), set[str]()  # passed: at the first trial


class TooLongError(BaseException):
    """Nobody catches it, where an Exception may be caught and passed over."""


@dataclass(frozen=True)
class Ended:
    """How a call ended, and what it said."""

    status: Any
    out: str
    err: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an earlier training."""
    folder = tmp_path_factory.mktemp("trained")
    work = ["train", "iris", "--epochs", "1", "--hidden", "3", "--latent", "1", "--quiet", "--out", str(folder)]
    with redirect_stdout(io.StringIO()):
        assert main(work) == 0
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".png"}


@given(line=command_lines(), number=st.sampled_from(range(OWN_PROCESS)))
def test_a_command_line_ends_in_a_result_or_in_one_line(
    line: CommandLine, number: int, trained: dict[str, bytes]
) -> None:
    known = repr(line)
    assume(known not in PASSED)  # Hypothesis comes back to what it had
    again = known in TRIED
    TRIED.add(known)
    with a_folder(line, trained) as (here, temporary):
        note(f"pyrometer {shlex.join(line.argv)}")
        before = tree(here)
        ended = in_own_process(line.argv) if number == OWN_PROCESS - 1 else in_this_process(line.argv)
        note(f"status {ended.status}\n{ended.out}\n{ended.err}")
        assert list(temporary.iterdir()) == [], "something is left among the temporary files"
        check(line, ended, changed=before != tree(here))
    if not again:
        PASSED.add(known)


def check(line: CommandLine, ended: Ended, changed: bool) -> None:
    """The property itself. changed: whether the folder has other files than before."""
    assert ended.status in (0, 2)
    if ended.status == 0:
        assert ended.out.strip(), "no result"
        assert not NO_NUMBER.search(ended.out), "what is no number is no dash"
        assert "k-hat above" in ended.out or not INFINITE.search(ended.out), "what is infinite has no note"
        return
    lines = ended.err.splitlines()
    assert lines[-1].startswith("pyrometer: error: ")
    assert len(lines) == 1 or "--quiet" not in line.argv
    assert len(lines[-1]) < LONGEST_LINE
    assert lines[-1].isprintable(), "a name with control characters does as it likes with the terminal"
    assert ended.out == ""
    assert not changed, "a call that failed has left something"


@contextmanager
def a_folder(line: CommandLine, trained: dict[str, bytes]) -> Iterator[tuple[Path, Path]]:
    """A folder to work in, with the files of the command line and others that its paths name; one for temporaries."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        here, temporary = Path(root) / "here", Path(root) / "temporary"
        for folder in (here / "full", temporary):
            folder.mkdir(parents=True)
        (here / "file").write_text("kept")
        (here / "loop").symlink_to("loop")
        for name, content in trained.items():
            (here / "full" / name).write_bytes(content)
        for file in line.files:
            file.put(here)
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        os.chdir(here)
        try:
            yield here, temporary
        finally:
            os.chdir(before)
            while odd_files.OPEN:
                os.close(odd_files.OPEN.pop())


def tree(folder: Path) -> dict[bytes, bytes | int]:
    """Every path in there, with its content where it is a file."""
    paths = [path for path in folder.rglob("*") if not path.is_fifo()]
    return {os.fsencode(path): path.read_bytes() if path.is_file() else 0 for path in paths if not path.is_symlink()}


def in_this_process(argv: list[str]) -> Ended:
    """The call as a function."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err), limited(), devices_kept(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_train, "USUAL", ("naive", "elbo", "iwae_50"))  # annealing takes a second
        status = main(argv)
    return Ended(status, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def in_own_process(argv: list[str]) -> Ended:
    """The call as a program; arguments that no program can get are left out, and so are the devices of this machine."""
    argv = [word for word in argv if "\0" not in word and "/dev" not in word]
    command = [sys.executable, "-m", "pyrometer.inference.cli.main", *argv]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def limited() -> Iterator[None]:
    """Bounds of time and memory."""

    def too_long(*_: object) -> None:
        raise TooLongError(f"no end after {SECONDS} s")

    now = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    before = signal.signal(signal.SIGALRM, too_long)
    try:
        signal.alarm(SECONDS)
        if pages is not None:
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, now[1]))
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, now)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def devices_kept() -> Iterator[None]:
    """Have nothing put in the place of a device, which who is root could."""
    replace = os.replace

    def kept(source: Any, target: Any, **options: Any) -> None:
        if os.fspath(target).startswith(("/dev", "/proc")):
            raise TooLongError(f"{target} was to be replaced")
        replace(source, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", kept)
        yield
