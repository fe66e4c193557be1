"""A new folder, made ready beside an old one, whose place it takes in one step.

Where a folder cannot be replaced, as a mount point, or one in which somebody works, its files are moved in one by one,
and back where one of them cannot be. Whatever a call that was killed has left, the next one puts in order.
"""

import ctypes
import errno
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from ...errors import InputError
from .file import replace_file, sync

OLD, NAMES = "old", "names.json"  # beside the new files: what they replace, and what is moved in
AT_CWD, EXCHANGE = -100, 2  # of Linux's renameat2


class Stage(NamedTuple):
    """A folder that is to be written, where links lead to, and one beside or within for its new files, and for old."""

    target: Path
    aside: Path

    @property
    def new(self) -> Path:
        """The new folder; with what is missing above the target, to be moved as one."""
        return self.aside / self.target.relative_to(_ground(self.target.parent))


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Where new files can be made ready; gone afterwards. Raises InputError for whatever the disk refuses."""
    try:
        target = folder.resolve()
        ground = _ground(target)
        if not ground.is_dir():
            raise InputError(f"cannot write into {folder}: {ground} is a file; choose another folder")
        tidy(target)
        with _own_stage(target) as stage:
            if not os.access(ground, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            yield stage
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(f"cannot write into {folder}: {why}; choose another folder") from error


@contextmanager
def _own_stage(target: Path) -> Iterator[Stage]:
    """A new folder aside, held against others, and cleared afterwards.

    Until it is held another process may take it for one that a killed call has left, and remove it: then a next one.
    """
    with ExitStack() as held:
        stage = Stage(target, _folder_aside(target))
        while not _held(stage.aside, held):
            stage = Stage(target, _folder_aside(target))
        try:
            yield stage
        finally:
            _clear(stage)


def _held(folder: Path, held: ExitStack) -> bool:
    """Whether a folder is there and now ours."""
    try:
        held.enter_context(_locked(folder))
    except (FileNotFoundError, BlockingIOError):  # who tidies up holds it, or has removed it
        return False
    return folder.exists()


def _ground(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _folder_aside(target: Path) -> Path:
    """An empty folder on the target's disk: beside it, or within it where it cannot be beside."""
    prefix = _prefix(target)
    if not target.is_mount():
        with suppress(OSError):
            return Path(tempfile.mkdtemp(prefix=prefix, dir=_ground(target.parent)))
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_ground(target)))


def _prefix(target: Path) -> str:
    return f".pyrometer-{target.name[:40]}-{crc32(os.fsencode(target.name)):08x}-"


def put(stage: Stage, written: set[str], gone: set[str]) -> None:
    """Bring the new files into their folder, all or none. gone: what is to be removed there."""
    target, new = stage.target, stage.new
    if not target.exists():
        missing = new.relative_to(stage.aside).parts[0]
        ground = _ground(target)
        os.rename(stage.aside / missing, ground / missing)
        sync(ground)
        return
    before = _replaced(stage, written | gone) if _can_be_replaced(target, written | gone) else None
    if before is None:
        _move_in(stage, written, gone)
        return
    with suppress(OSError):  # the new folder is there
        sync(target.parent)
        for late in set(os.listdir(before)).difference(written, gone, os.listdir(target)):
            os.rename(before / late, target / late)  # come while we were at work


def _can_be_replaced(folder: Path, ours: set[str]) -> bool:
    """Whether another folder may take the place of this one: nobody works in it, and it holds no folder of others."""
    with suppress(FileNotFoundError):  # of a folder that is gone
        here = Path.cwd()
        if folder == here or folder in here.parents:
            return False
    if folder.is_mount():
        return False
    with os.scandir(folder) as entries:
        return not any(entry.is_dir(follow_symlinks=False) for entry in entries if entry.name not in ours)


def _replaced(stage: Stage, ours: set[str]) -> Path | None:
    """Let the new folder take the place of the target, whose other files it is given as links; where the old one is.

    None where it cannot: that disk has no links, or the folder is not ours to rename.
    """
    target, new, old = stage.target, stage.new, stage.aside / OLD
    try:
        for name in os.listdir(target):
            if name not in ours:
                os.link(target / name, new / name, follow_symlinks=False)
        shutil.copystat(target, new)
        owner = target.stat()
        if (owner.st_uid, owner.st_gid) != (new.stat().st_uid, new.stat().st_gid):
            os.chown(new, owner.st_uid, owner.st_gid)
        if _exchanged(new, target):
            return new
        os.rename(target, old)
    except OSError:
        return None
    try:
        os.rename(new, target)
    except BaseException:
        os.rename(old, target)
        raise
    return old


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return bool(renameat2 and renameat2(AT_CWD, os.fsencode(one), AT_CWD, os.fsencode(other), EXCHANGE) == 0)


def _move_in(stage: Stage, written: set[str], gone: set[str]) -> None:
    """Move new files into a folder one by one, and old ones out; as it was where one of them cannot be moved."""
    target, old = stage.target, stage.aside / OLD
    old.mkdir(exist_ok=True)
    replace_file(stage.aside / NAMES, json.dumps(sorted(written)).encode())
    try:
        for name in sorted(written | gone):
            if os.path.lexists(target / name):
                os.rename(target / name, old / name)
            if name in written:
                os.rename(stage.new / name, target / name)
    except BaseException:
        _move_back(stage)
        raise
    (stage.aside / NAMES).unlink()
    sync(target)


def _move_back(stage: Stage) -> None:
    """Undo what `_move_in` did, however far it came; once more does nothing more."""
    target, old = stage.target, stage.aside / OLD
    for name in json.loads((stage.aside / NAMES).read_bytes()):
        if not os.path.lexists(stage.new / name):
            os.rename(target / name, stage.new / name)
    for name in os.listdir(old):
        os.rename(old / name, target / name)
    (stage.aside / NAMES).unlink()


def tidy(folder: Path) -> None:
    """Put in order what calls that were killed have left within a folder, beside it, or above what was missing."""
    target = folder.resolve()
    names = re.compile(re.escape(_prefix(target)) + "[a-z0-9_]{8}")
    for home in (target, *target.parents):
        with suppress(OSError):  # what may not be read holds nothing of ours
            for name in filter(names.fullmatch, os.listdir(home)):
                _tidy_one(Stage(target, home / name))


def _tidy_one(stage: Stage) -> None:
    with suppress(OSError), _locked(stage.aside):
        if (stage.aside / NAMES).exists():
            _move_back(stage)
        elif (stage.aside / OLD).exists() and not stage.target.exists():
            os.rename(stage.aside / OLD, stage.target)
        _clear(stage)


def _clear(stage: Stage) -> None:
    """Remove what is aside, unless it holds what is nowhere else: the disk may have been torn away in the middle."""
    moving, retired = (stage.aside / NAMES).exists(), (stage.aside / OLD).exists() and not stage.target.exists()
    if not (moving or retired):
        shutil.rmtree(stage.aside, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes, until this one ends. Raises OSError where another holds it."""
    try:
        import fcntl
    except ImportError:  # Windows, where nobody removes what another has open
        yield
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)
