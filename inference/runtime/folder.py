"""Files written into a folder, all of them or none: a new folder beside it, which takes its place in one step.

Where a folder cannot be replaced, as a mount point, or one in which somebody works, its files are moved in one by one,
and back where one of them cannot be. Whatever a call that was killed has left, the next one puts in order.
"""

import ctypes
import errno
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias
from zlib import crc32

from ...errors import InputError, check_path
from ...models.structure import one_line

NOTES = "notes.txt"
UNFINISHED = ".unfinished"  # the folder within, of what is not yet all there is to be
OLD, NAMES = "old", "names.json"  # beside the new files: what they replace, and what is moved in
AT_CWD, EXCHANGE = -100, 2  # of Linux's renameat2
Files: TypeAlias = dict[str, Callable[[BinaryIO], Any]]  # name -> what writes it


def write_all(
    folder: str | Path, files: Files, remarks: Collection[str] = (), stale: Collection[str] = ()
) -> list[Path]:
    """Write files by their names into a folder, all of them or none; what was written.

    Files of these names are replaced, others left alone, but for stale ones. A file that fails for any reason but the
    disk leaves the others, and is named in notes.txt, below the remarks. Raises InputError where nothing can be
    written: what was there before stays whole.
    """
    folder, remarks = check_path(folder), [*remarks]
    with _staged(folder) as stage:
        _refuse_folders(folder, [*files, NOTES])
        stage.new.mkdir(parents=True, exist_ok=True)
        for name, write in files.items():
            if why := _written(stage.new / name, write):
                done = "drawn" if name.endswith(".png") else "written"
                remarks.append(f"{name} could not be {done}: {why}")
        if remarks:
            text = "\n".join(remarks) + "\n"
            _written(stage.new / NOTES, lambda stream: stream.write(text.encode("utf-8", "backslashreplace")))
        written = {path.name for path in stage.new.iterdir()}
        _sync(stage.new)
        _put(stage, written, {name for name in stale if name not in written and _is_ours(folder / name)})
    return [folder / name for name in sorted(written)]


def check_folder(folder: str | Path) -> None:
    """Raise InputError where `write_all` could not write into this folder; nothing is left there."""
    with _staged(check_path(folder)):
        pass


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Put a file in its place at once, and whole. Raises OSError, and leaves what was there before."""
    aside = path.with_name(f".{path.name}.part")
    try:
        _written(aside, lambda stream: stream.write(content))
        os.replace(aside, path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def stems_of(names: Iterable[str]) -> dict[str, str]:
    """What the files of each fit are called, name -> stem; unlike ones, on file systems that ignore case too."""
    chosen: dict[str, str] = {}
    for name in names:
        unique = re.sub(r"[^\w.+-]+", "_", name).lstrip(".") or "fit"
        while unique.lower() in {other.lower() for other in chosen.values()}:
            unique = f"{unique}_{len(chosen)}"
        chosen[name] = unique
    return chosen


class _Stage(NamedTuple):
    """A folder that is to be written, where links lead to, and one beside or within for its new files, and for old."""

    target: Path
    aside: Path

    @property
    def new(self) -> Path:
        """The new folder; with what is missing above the target, to be moved as one."""
        return self.aside / self.target.relative_to(_ground(self.target.parent))


class _File(io.FileIO):
    """A file that remembers what the disk refused: who writes to it may tell of that in words of their own."""

    refused: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all of it."""
        left = memoryview(content).cast("B")
        number = len(left)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.refused = error
            raise
        return number


def _written(path: Path, write: Callable[[BinaryIO], Any]) -> str:
    """Write a file to the disk itself; why it could not be made, and then it is gone. Raises OSError for the disk."""
    why = ""
    with _File(path, "wb") as file:
        try:
            write(file)
        except Exception as error:
            if file.refused is not None:
                raise file.refused from error
            why = one_line(error)
        else:
            os.fsync(file.fileno())
    if why:
        path.unlink()
    return why


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk too, where the system knows of that."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems know of files alone
                os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def _staged(folder: Path) -> Iterator[_Stage]:
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
def _own_stage(target: Path) -> Iterator[_Stage]:
    """A new folder aside, held against others, and cleared afterwards.

    Until it is held another process may take it for one that a killed call has left, and remove it: then a next one.
    """
    with ExitStack() as held:
        stage = _Stage(target, _folder_aside(target))
        while not _held(stage.aside, held):
            stage = _Stage(target, _folder_aside(target))
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


def _is_ours(path: Path) -> bool:
    """Whether it may be removed as stale: a file, or what is unfinished."""
    return path.name == UNFINISHED or path.is_symlink() or not path.is_dir()


def _refuse_folders(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            mend = "move it away, or choose another folder"
            raise InputError(f"cannot write into {folder}: {name} is a folder there; {mend}")


def _put(stage: _Stage, written: set[str], gone: set[str]) -> None:
    """Bring the new files into their folder, all or none. gone: what is to be removed there."""
    target, new = stage.target, stage.new
    if not target.exists():
        missing = new.relative_to(stage.aside).parts[0]
        ground = _ground(target)
        os.rename(stage.aside / missing, ground / missing)
        _sync(ground)
        return
    before = _replaced(stage, written | gone) if _can_be_replaced(target, written | gone) else None
    if before is None:
        _move_in(stage, written, gone)
        return
    with suppress(OSError):  # the new folder is there
        _sync(target.parent)
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


def _replaced(stage: _Stage, ours: set[str]) -> Path | None:
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


def _move_in(stage: _Stage, written: set[str], gone: set[str]) -> None:
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
    _sync(target)


def _move_back(stage: _Stage) -> None:
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
                _tidy_one(_Stage(target, home / name))


def _tidy_one(stage: _Stage) -> None:
    with suppress(OSError), _locked(stage.aside):
        if (stage.aside / NAMES).exists():
            _move_back(stage)
        elif (stage.aside / OLD).exists() and not stage.target.exists():
            os.rename(stage.aside / OLD, stage.target)
        _clear(stage)


def _clear(stage: _Stage) -> None:
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
