"""A file on the disk, whole or not at all; the checksum by which it is known to be whole."""

import hashlib
import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ...models.structure import one_line

DIGEST_BYTES = 32  # of the SHA-256 of all that is before it


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Put a file in its place at once, and whole. Raises OSError, and leaves what was there before."""
    aside = path.with_name(f".{path.name}.part")
    try:
        write_file(aside, lambda stream: stream.write(content))
        os.replace(aside, path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_file(path: Path, write: Callable[[BinaryIO], Any]) -> str:
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


def sync(folder: Path) -> None:
    """Have the names in a folder on the disk too, where the system knows of that."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems know of files alone
                os.fsync(number)
        finally:
            os.close(number)


def sealed(content: bytes) -> bytes:
    """The content with its checksum behind it."""
    return content + hashlib.sha256(content).digest()


def unsealed(content: bytes) -> bytes:
    """The content without the checksum behind it. Raises ValueError where that is another."""
    inner = content[:-DIGEST_BYTES]
    if sealed(inner) != content:
        raise ValueError("its checksum is another")
    return inner


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
