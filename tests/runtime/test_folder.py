"""A folder of results is whole at any moment, the old one or the new one, whatever the disk or a signal does."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from disks import SIZE, fill, mounted, read_only
from pyrometer import InputError
from pyrometer.inference.runtime import staging
from pyrometer.inference.runtime.file import replace_file
from pyrometer.inference.runtime.folder import check_folder, write_all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts, signals and /proc")
STALE = ("last",)


def text(content: str) -> Callable[[BinaryIO], Any]:
    return lambda file: file.write(content.encode())


def version(number: int) -> dict[str, Callable[[BinaryIO], Any]]:
    """Files of a version, an odd one of which has one more."""
    names = [f"{letter}.txt" for letter in "abcd"] + ([*STALE] if number % 2 else [])
    return {name: text(str(number)) for name in names}


def save(folder: Path, number: int) -> list[Path]:
    return write_all(folder, version(number), stale=STALE)


def shown(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def is_whole(folder: Path, *numbers: int, more: tuple[str, ...] = ()) -> bool:
    """Whether it holds one of these versions, all of it and nothing else but these files of others."""
    found = shown(folder)
    others = {name: found.pop(name, "missing") for name in more}
    whole = [{name: str(number) for name in version(number)} for number in numbers]
    return found in whole and all(content == name for name, content in others.items())


HOMES: dict[str, Callable[[Path], Any]] = {
    "a folder of its own": lambda folder: None,
    "a user's files": lambda folder: [(folder / name).write_text(name) for name in ("mine", "yours")],
    "a user's folder": lambda folder: (folder / "sub" / "deep").mkdir(parents=True),
    "without a swap": lambda folder: None,
    "where somebody works": os.chdir,
}


@pytest.fixture(params=HOMES)
def home(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, tuple[str, ...]]:
    """A folder with version 1 in it, and the names of the files of others."""
    folder = tmp_path / "above" / "results"
    save(folder, 1)
    monkeypatch.chdir(tmp_path)
    HOMES[request.param](folder)
    if request.param == "without a swap":
        monkeypatch.setattr(staging, "_exchanged", lambda one, other: False)
    return folder, ("mine", "yours") if request.param == "a user's files" else ()


def nothing_left(folder: Path) -> bool:
    """Whether nothing of ours lies beside or within."""
    return not [*folder.parent.glob(".pyrometer*"), *folder.glob(".pyrometer*")]


def test_a_folder_is_replaced_and_what_others_have_there_stays(home: tuple[Path, tuple[str, ...]]) -> None:
    folder, more = home
    inodes = {name: (folder / name).stat().st_ino for name in more}
    folder.chmod(0o750)
    subfolders = {path for path in folder.rglob("*") if path.is_dir()}
    for number in (2, 3, 4):
        written = save(folder, number)
        assert {path.name for path in written} == version(number).keys()
        assert is_whole(folder, number, more=more)
    assert nothing_left(folder)
    assert {name: (folder / name).stat().st_ino for name in more} == inodes  # the files themselves, not copies
    assert folder.stat().st_mode & 0o777 == 0o750
    assert {path for path in folder.rglob("*") if path.is_dir()} == subfolders


CALLS = ("rename", "link", "replace", "fsync", "listdir", "open", "mkdir")


class Torn:
    """Every call to the disk from a number on fails, or one alone does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: int, for_good: bool, act: Callable[[], Any]) -> None:
        self.first, self.for_good, self.act, self.calls = first, for_good, act, 0
        monkeypatch.setattr(os, "fsync", lambda number: None)  # which takes its time
        for name in CALLS:
            monkeypatch.setattr(os, name, partial(self._call, getattr(os, name)))
        monkeypatch.setattr(staging, "_exchanged", partial(self._call, staging._exchanged))

    def _call(self, do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.first or (self.for_good and self.calls > self.first):
            self.act()
        return do(*arguments, **options)


def line_of(call: Callable[[], Any]) -> str:
    """What a call is refused with; empty where it is not."""
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


def fails() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("for_good", [False, True])
def test_whatever_call_fails_the_folder_is_whole_and_the_next_call_goes_on(
    home: tuple[Path, tuple[str, ...]], for_good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses one call, or is torn away with it and comes back later."""
    folder, more = home
    said, last, met = 0, 1, set[int]()
    for first in range(1, 45):
        for number in (2 * first, 2 * first + 1):  # with a file less, and with one more
            with monkeypatch.context() as torn:
                disk = Torn(torn, first, for_good, fails)
                line = line_of(partial(save, folder, number))
                met |= {first} & {*range(1 + disk.calls)}
            assert re.fullmatch(r"(cannot write into .*: input/output error; choose another folder)?", line)
            allowed = {last, number} if line else {number}
            said += bool(line)
            if not for_good:
                assert is_whole(folder, *allowed, more=more), first
            check_folder(folder)  # the next call
            assert is_whole(folder, *allowed, more=more), first
            assert nothing_left(folder), first
            last = int((folder / "a.txt").read_text())
    assert said >= 10
    assert 20 < len(met) < 44


@pytest.mark.parametrize("for_good", [False, True])
def test_a_new_folder_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, for_good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in range(1, 40):
        folder = tmp_path / f"{first}" / "deep" / "down"
        with monkeypatch.context() as torn:
            Torn(torn, first, for_good, fails)
            with suppress(InputError):
                save(folder, first)
        assert not (tmp_path / f"{first}").exists() or is_whole(folder, first)
        check_folder(folder)
        assert not [*tmp_path.glob(".pyrometer*")]
    assert is_whole(folder, first)


def killed(act: Callable[[], Any]) -> int:
    """What a process of its own comes to that does this."""
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join()
    return int(process.exitcode or 0)


def test_killed_at_any_call_the_folder_is_whole(
    home: tuple[Path, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one or the other at once where a folder can be swapped; elsewhere, as soon as the next call begins."""
    folder, more = home
    swapped = staging._can_be_replaced(folder, {*version(1)})
    ended: list[int] = []
    for number in range(2, 80):
        before = int((folder / "a.txt").read_text())

        def act(number: int = number) -> None:
            with monkeypatch.context() as torn:
                Torn(torn, number // 2, True, lambda: os.kill(os.getpid(), signal.SIGKILL))
                save(folder, number)

        ended.append(killed(act))
        if swapped and folder.exists():  # not between two renames, of which this system does with one
            assert is_whole(folder, before, number, more=more), number
        check_folder(folder)
        assert is_whole(folder, *([number] if ended[-1] == 0 else [before, number]), more=more), number
        assert nothing_left(folder), number
        if ended[-2:] == [0, 0]:
            break
    assert set(ended) == {0, -signal.SIGKILL}
    assert len(ended) > 40


def _saving(folder: Path) -> None:
    number = int((folder / "a.txt").read_text())
    while True:
        number += 1
        save(folder, number)


def check_random_kills(folder: Path, kills: int) -> None:
    save(folder, 1)
    (folder / "mine").write_text("mine")
    rng, seen = np.random.default_rng(kills), set[str]()
    for _ in range(kills):
        process = multiprocessing.get_context("fork").Process(target=_saving, args=(folder,))
        process.start()
        time.sleep(rng.uniform(0.01, 0.2))
        process.kill()
        process.join()
        found = shown(folder)
        assert is_whole(folder, int(found["a.txt"]), more=("mine",)), found
        seen.add(found["a.txt"])
    save(folder, 1)
    assert nothing_left(folder)
    assert len(seen) > kills / 10  # of which it had written some


def test_killed_at_random_moments_the_folder_is_whole(tmp_path: Path) -> None:
    check_random_kills(tmp_path / "results", 40)


@pytest.mark.slow
def test_killed_a_thousand_times_the_folder_is_whole(tmp_path: Path) -> None:
    check_random_kills(tmp_path / "results", 1000)


def test_a_call_leaves_what_another_process_is_at_work_on(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    save(folder, 1)

    def another(file: BinaryIO) -> None:
        assert killed(lambda: check_folder(folder)) == 0
        file.write(b"2")

    write_all(folder, {**version(2), "a.txt": another}, stale=STALE)
    assert is_whole(folder, 2)


def test_many_processes_look_at_one_folder_at_once(tmp_path: Path) -> None:
    def look() -> None:
        for _ in range(300):
            check_folder(tmp_path / "new" / "results")

    others = [multiprocessing.get_context("fork").Process(target=look) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0, 0]
    assert nothing_left(tmp_path / "new" / "results")


def test_a_folder_in_the_place_of_a_file_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "b.txt").unlink()
    (tmp_path / "b.txt" / "of mine").mkdir(parents=True)
    with pytest.raises(InputError, match=r"b.txt is a folder there; move it away, or choose another folder"):
        save(tmp_path, 2)
    assert shown(tmp_path) == {name: "1" for name in version(1) if name != "b.txt"}
    assert (tmp_path / "b.txt" / "of mine").is_dir()


def test_a_stale_name_that_a_folder_of_others_bears_stays(tmp_path: Path) -> None:
    (tmp_path / "last" / "of mine").mkdir(parents=True)
    save(tmp_path, 2)
    assert (tmp_path / "last" / "of mine").is_dir()


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    save(tmp_path / "far" / "results", 1)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "results")
    (tmp_path / "dangling").symlink_to(tmp_path / "far" / "new")
    for name in ("link", "dangling"):
        assert [path.parent for path in save(tmp_path / name, 2)] == [tmp_path / name] * 4
        assert (tmp_path / name).is_symlink()
        assert is_whole(tmp_path / name, 2)


def test_a_folder_that_is_not_to_be_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the one above it may be written, in which another could take its place."""
    save(tmp_path / "results", 1)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "results")  # root may do all
    with pytest.raises(InputError, match="permission denied; choose another folder"):
        save(tmp_path / "results", 2)
    assert is_whole(tmp_path / "results", 1)
    assert nothing_left(tmp_path / "results")


@pytest.mark.parametrize("folder", ["/proc/results", "/sys/kernel/results", "/proc/self", "/dev/null/results"])
def test_where_no_disk_is_it_is_one_line(folder: str) -> None:
    for call in (check_folder, partial(write_all, files=version(1))):
        with pytest.raises(InputError, match=r"cannot write into|cannot be a path") as caught:
            call(folder)
        assert "\n" not in str(caught.value)


def test_a_disk_that_is_read_only_is_one_line(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        save(disk / "results", 1)
        read_only(disk)
        for folder in (disk, disk / "results", disk / "new" / "results"):
            for call in (check_folder, partial(save, number=2)):
                with pytest.raises(InputError, match="read-only file system; choose another folder"):
                    call(folder)
        assert is_whole(disk / "results", 1)


def large(file: BinaryIO) -> None:
    for _ in range(SIZE // 1000):
        file.write(b"x" * 1500)


def tensors(file: BinaryIO) -> None:
    torch.save({"values": torch.rand(SIZE)}, file)


@pytest.mark.parametrize("write", [large, tensors])
@pytest.mark.parametrize("below", ["", "results", "new/results"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, write: Any, below: str) -> None:
    with mounted(tmp_path / "disk") as disk:
        folder = disk / below
        if below != "new/results":
            save(folder, 1)
        before = sorted(disk.rglob("*"))
        for _ in range(3):
            with pytest.raises(InputError, match=r"cannot write into .*: no space left on device") as caught:
                write_all(folder, {**version(2), "z": write}, stale=STALE)
            assert "\n" not in str(caught.value)
            assert sorted(disk.rglob("*")) == before
        if below != "new/results":
            assert is_whole(folder, 1)
        save(folder, 2)  # there is room for this
        assert is_whole(folder, 2)


def test_a_mount_point_is_written_into(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        (disk / "mine").write_text("mine")
        for number in (1, 2, 3):
            save(disk, number)
            assert is_whole(disk, number, more=("mine",))
        assert nothing_left(disk)


def test_a_disk_that_fills_with_every_write_in_turn_is_never_half(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        save(disk / "results", 1)
        number = 1
        for room in range(0, 14 * 4096, 4096):  # from none to all that it takes
            fill(disk, room)
            with suppress(InputError):
                save(disk / "results", number + 1)
                number += 1
            assert is_whole(disk / "results", number)
        assert number > 1


def test_one_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        replace_file(disk / "page", b"old")
        with pytest.raises(OSError, match="No space left"):
            replace_file(disk / "page", b"x" * 2 * SIZE)
        assert shown(disk) == {"page": "old"}
    replace_file(tmp_path / "page", memoryview(b"new"))
    assert shown(tmp_path) == {"page": "new"}


def test_a_file_that_fails_is_noted_and_one_that_the_disk_refuses_is_not(tmp_path: Path) -> None:
    def no_ink(file: BinaryIO) -> None:
        raise OSError(errno.ENOENT, "no ink")  # somewhere else than on the disk that is written

    written = write_all(tmp_path / "results", {"a.png": no_ink, "b": text("b")}, ["beware"])
    assert [path.name for path in written] == ["b", "notes.txt"]
    notes = (tmp_path / "results" / "notes.txt").read_text()
    assert notes == "beware\na.png could not be drawn: FileNotFoundError: [Errno 2] no ink\n"


def test_a_file_takes_all_that_is_written(tmp_path: Path) -> None:
    values = np.arange(100_000, dtype=np.float64)
    kept = {"values": torch.as_tensor(values)}
    files: Any = {"tensors": partial(torch.save, kept), "array": lambda file: file.write(values.data)}
    write_all(tmp_path, files)
    assert torch.equal(torch.load(tmp_path / "tensors")["values"], kept["values"])
    assert (tmp_path / "array").read_bytes() == values.tobytes()
    memory = io.BytesIO()
    torch.save(kept, memory)
    assert (tmp_path / "tensors").stat().st_size == len(memory.getvalue())
