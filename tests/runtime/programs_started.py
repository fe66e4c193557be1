"""Programs that are started to be ended: what belongs to one, and whether it is still there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def descendants(pid: int) -> set[int]:
    """The processes that came from one, itself left out."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
        except (OSError, ProcessLookupError):
            continue
    found, left = set[int](), [pid]
    while left:
        left += (new := children.get(left.pop(), []))
        found.update(new)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs, or would."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, ProcessLookupError):
        return False


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether something becomes true in so many seconds."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()
