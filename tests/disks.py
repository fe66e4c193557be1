"""Small disks of their own, which fill up or are read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 200_000  # bytes of a disk that is soon full


@contextmanager
def mounted(at: Path, size: int = SIZE) -> Iterator[Path]:
    """A disk of so many bytes; a test that may not mount one is skipped."""
    at.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def read_only(disk: Path) -> None:
    """Let nobody write to a disk any more, root included."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def fill(disk: Path, leaving: int = 0) -> None:
    """Write one file that leaves so many bytes free."""
    (disk / "fill").write_bytes(b"")
    free = os.statvfs(disk)
    (disk / "fill").write_bytes(b"x" * max(0, free.f_bavail * free.f_bsize - leaving))
