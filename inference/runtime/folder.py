"""Files written into a folder, all of them or none: aside first, then moved into place."""

import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from ...errors import InputError
from ...models.structure import one_line

NOTES = "notes.txt"
Files: TypeAlias = dict[str, Callable[[Path], Any]]


def write_all(
    folder: str | Path, files: Files, remarks: Collection[str] = (), stale: Collection[str] = ()
) -> list[Path]:
    """Write files by their names into a folder, all of them or none; what was written.

    Files of these names are replaced, others left alone, but for stale ones. All is written aside first and moved in at
    the end. A file that fails for any reason but the disk leaves the others, and is named in notes.txt, below the
    remarks. Raises InputError where nothing can be written.
    """
    folder, remarks = Path(folder).expanduser(), [*remarks]
    check_folder(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".pyrometer-", dir=_ground(folder)) as aside:
            ready = Path(aside) / "ready"
            ready.mkdir()
            for name, write in files.items():
                try:
                    write(ready / name)
                except OSError:
                    raise
                except Exception as error:
                    (ready / name).unlink(missing_ok=True)
                    done = "drawn" if name.endswith(".png") else "written"
                    remarks.append(f"{name} could not be {done}: {one_line(error)}")
            if remarks:
                (ready / NOTES).write_text("\n".join(remarks) + "\n", encoding="utf-8")
            return _move(ready, folder, stale)
    except OSError as error:
        raise InputError(_refusal(folder, error)) from error


def check_folder(folder: str | Path) -> None:
    """Raise InputError where `save` could not write into this folder; nothing is left there."""
    folder = Path(folder).expanduser()
    try:
        ground = _ground(folder)
        if not ground.is_dir():
            raise InputError(f"cannot write into {folder}: {ground} is a file; choose another folder")
        with tempfile.TemporaryDirectory(prefix=".pyrometer-", dir=ground):
            pass
    except OSError as error:
        raise InputError(_refusal(folder, error)) from error


def stems_of(names: Iterable[str]) -> dict[str, str]:
    """What the files of each fit are called, name -> stem; unlike ones, on file systems that ignore case too."""
    chosen: dict[str, str] = {}
    for name in names:
        stem = unique = re.sub(r"[^\w.+-]+", "_", name).lstrip(".") or "fit"
        while unique.lower() in {other.lower() for other in chosen.values()}:
            unique = f"{stem}_{len(chosen)}"
        chosen[name] = unique
    return chosen


def _ground(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _refusal(folder: Path, error: OSError) -> str:
    return f"cannot write into {folder}: {(error.strerror or str(error)).lower()}; choose another folder"


def _move(ready: Path, folder: Path, stale: Collection[str]) -> list[Path]:
    """Everything in `ready` into place: at once where the folder is new, else file by file."""
    written = [folder / path.name for path in sorted(ready.iterdir())]
    if folder.exists():
        for path in written:
            os.replace(ready / path.name, path)
        for name in stale:
            if folder / name not in written:
                (folder / name).unlink(missing_ok=True)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(ready, folder)
    return written
