"""Processes and ports, as the system tells of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

LISTENS = "0A"  # a socket's state in /proc/net/tcp


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether something becomes true in so many seconds."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return true()


def children(pid: int) -> set[int]:
    """The living processes that came from one, itself and who cleans up after processes left out."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z" and "resource_tracker" not in (path.parent / "cmdline").read_text():
                parents.setdefault(int(parent), []).append(int(path.parent.name))
        except (OSError, ProcessLookupError):
            continue
    found, left = set[int](), [pid]
    while left:
        left += (new := parents.get(left.pop(), []))
        found.update(new)
    return found


def listening(pid: int) -> set[str]:
    """The inodes of the sockets at which a process listens."""
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    inodes = {f"socket:[{line[9]}]" for line in lines if line[3] == LISTENS}
    return inodes & {target(path) for path in Path(f"/proc/{pid}/fd").iterdir()}


def target(link: Path) -> str:
    """Where a link leads, empty where it is gone."""
    try:
        return os.readlink(link)
    except OSError:
        return ""
