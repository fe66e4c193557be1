"""Files written into a folder, all of them or none: what was there before stays whole until all are there."""

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from ...errors import InputError, check_path
from .file import sync, write_file
from .staging import put, staged

NOTES = "notes.txt"
UNFINISHED = ".unfinished"  # the folder within, of what is not yet all there is to be
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
    with staged(folder) as stage:
        _refuse_folders(folder, [*files, NOTES])
        stage.new.mkdir(parents=True, exist_ok=True)
        for name, write in files.items():
            if why := write_file(stage.new / name, write):
                done = "drawn" if name.endswith(".png") else "written"
                remarks.append(f"{name} could not be {done}: {why}")
        if remarks:
            text = "\n".join(remarks) + "\n"
            write_file(stage.new / NOTES, lambda stream: stream.write(text.encode("utf-8", "backslashreplace")))
        written = {path.name for path in stage.new.iterdir()}
        sync(stage.new)
        put(stage, written, {name for name in stale if name not in written and _is_ours(folder / name)})
    return [folder / name for name in sorted(written)]


def check_folder(folder: str | Path) -> None:
    """Raise InputError where `write_all` could not write into this folder; nothing is left there."""
    with staged(check_path(folder)):
        pass


def stems_of(names: Iterable[str]) -> dict[str, str]:
    """What the files of each fit are called, name -> stem; unlike ones, on file systems that ignore case too."""
    chosen: dict[str, str] = {}
    for name in names:
        unique = re.sub(r"[^\w.+-]+", "_", name).lstrip(".") or "fit"
        while unique.lower() in {other.lower() for other in chosen.values()}:
            unique = f"{unique}_{len(chosen)}"
        chosen[name] = unique
    return chosen


def _is_ours(path: Path) -> bool:
    """Whether it may be removed as stale: a file, or what is unfinished."""
    return path.name == UNFINISHED or path.is_symlink() or not path.is_dir()


def _refuse_folders(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            mend = "move it away, or choose another folder"
            raise InputError(f"cannot write into {folder}: {name} is a folder there; {mend}")
