"""Files written into a folder, all of them or none: aside first, then moved into place."""

import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from ...errors import InputError, check_path
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
    folder, remarks = check_path(folder), [*remarks]
    with _aside(folder) as (ground, aside):
        ready = aside / folder.absolute().relative_to(ground)  # with what is missing above it, to be moved as one
        ready.mkdir(parents=True, exist_ok=True)
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
            (ready / NOTES).write_text("\n".join(remarks) + "\n", "utf-8", "backslashreplace")
        written = sorted(path.name for path in ready.iterdir())
        for path in sorted(aside.iterdir()):
            os.replace(path, ground / path.name)
        for name in set(stale).difference(written):
            (folder / name).unlink(missing_ok=True)
    return [folder / name for name in written]


def check_folder(folder: str | Path) -> None:
    """Raise InputError where `save` could not write into this folder; nothing is left there."""
    with _aside(check_path(folder)):
        pass


@contextmanager
def _aside(folder: Path) -> Iterator[tuple[Path, Path]]:
    """That folder, or the nearest above it that exists, and an empty one in there, gone afterwards.

    Raises InputError where it cannot be made, and for whatever the disk refuses meanwhile.
    """
    try:
        ground = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not ground.is_dir():
            raise InputError(f"cannot write into {folder}: {ground} is a file; choose another folder")
        with tempfile.TemporaryDirectory(prefix=".pyrometer-", dir=ground) as aside:
            yield ground, Path(aside)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(f"cannot write into {folder}: {why}; choose another folder") from error


def stems_of(names: Iterable[str]) -> dict[str, str]:
    """What the files of each fit are called, name -> stem; unlike ones, on file systems that ignore case too."""
    chosen: dict[str, str] = {}
    for name in names:
        unique = re.sub(r"[^\w.+-]+", "_", name).lstrip(".") or "fit"
        while unique.lower() in {other.lower() for other in chosen.values()}:
            unique = f"{unique}_{len(chosen)}"
        chosen[name] = unique
    return chosen
