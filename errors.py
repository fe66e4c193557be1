"""The one error that a user can mend, words for its line, and what many check: sizes, numbers, seeds and paths."""

import math
import operator
import os
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

__all__ = [
    "InputError",
    "check_between",
    "check_exists",
    "check_jobs",
    "check_memory",
    "check_path",
    "check_positive",
    "check_seed",
    "count",
    "first_line",
    "given",
    "is_one_of",
    "listed",
]

LARGEST_SIZE = 10**9  # a slip of the hand beyond it
MAX_BITS = 1000  # of a whole number that is shown as a float
LARGEST_SEED = 2**32 - 1  # of NumPy's and scikit-learn's generators
LONGEST_SHOWN = 80  # characters of a path in a message
MAX_LISTED = 6  # names in a message
LONGEST_LINE, LONGEST_END = 320, 120  # characters of a message, and of its end where it is longer


class InputError(ValueError):
    """One line: what is wrong, where (site, column, row, option), and what would mend it.

    Raised wherever the mistake is in what was handed in. The command line prints the line and exits with status 2. Of a
    longer text, which quotes a value at length, the middle is left out.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import GMM
    >>> GMM(components=0)
    Traceback (most recent call last):
        ...
    pyrometer.errors.InputError: components=0 must be a whole number, 1 or more
    """

    def __init__(self, text: str) -> None:
        line = " ".join(text.split("\n"))
        if len(line) > LONGEST_LINE:
            line = f"{line[: LONGEST_LINE - LONGEST_END - 5]} ... {line[-LONGEST_END:]}"
        super().__init__(line)


def listed(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")


def count(number: int, what: str) -> str:
    """So many of something, in words."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that may follow; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_positive(**sizes: int | None) -> None:
    """Raise InputError where a size is not a whole number, from 1 to a billion; for what may be None, see `given`."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
        if value > LARGEST_SIZE:
            shown = f"{value:.3g}" if value.bit_length() < MAX_BITS else f"2**{value.bit_length()}"
            raise InputError(f"{name}={shown} is too large: give at most {LARGEST_SIZE:,}")


def given(**options: Any) -> dict[str, Any]:
    """Those that were given, which None and "auto" are not."""
    return {name: value for name, value in options.items() if not (value is None or is_one_of(value, "auto"))}


def is_one_of(value: object, *words: str) -> bool:
    """Whether an option is one of these words; arrays and NA, which cannot be compared, are none."""
    return isinstance(value, str) and value in words


def check_jobs(jobs: int | None) -> None:
    """Raise InputError where it is no number of things to do at once.

    None is what `joblib.parallel_config` around the call says, and 1 without it; -1 is one for each core, of this
    machine or of the cluster.
    """
    if isinstance(jobs, bool) or not (jobs is None or (isinstance(jobs, int) and (jobs == -1 or jobs > 0))):
        raise InputError(f"jobs={jobs!r} must be a whole number, 1 or more, or -1 for every core")
    if jobs not in (None, -1):
        check_positive(jobs=jobs)


def check_between(low: float, high: float, **numbers: Any) -> None:
    """Raise InputError where a number does not lie between these two, both excluded; None is one that was not given."""
    for name, value in numbers.items():
        if value is not None and not (isinstance(value, Real) and low < _as_float(value) < high):
            span = f"a number above {low:g}" if high == math.inf else f"a number between {low:g} and {high:g}"
            raise InputError(f"{name}={value!r} must be {span}")


def _as_float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # of a whole number beyond all floats
        return math.inf


def check_seed(seed: object, largest: int = LARGEST_SEED) -> int:
    """The seed as Python's own int. Raises InputError where it is not a whole number from 0 to the largest."""
    try:
        found = operator.index(seed)  # type: ignore[arg-type] # what has none is refused
    except TypeError:
        found = -1
    if not 0 <= found <= largest:
        raise InputError(f"seed={seed!r} must be a whole number from 0 to {largest}")
    return found


def check_name(name: object) -> str:
    """What a Fit is to be called. Raises InputError where it is no text, or none."""
    if not isinstance(name, str) or not name:
        raise InputError(f"name={name!r} must be text: what the fit is called")
    return name


def check_memory(numbers: int, **draws: int) -> None:
    """Raise InputError where so many draws, each of so many float64 numbers, are more than this machine holds."""
    for name, value in draws.items():
        size, memory = 8 * numbers * value, _memory()
        if size > memory:
            has = f"of {numbers} numbers take {size / 2**30:.3g} GiB, and there are {memory / 2**30:.3g}"
            raise InputError(f"{name}={value:,} {has}: ask for fewer")


def check_path(path: str | Path) -> Path:
    """The path, a leading ~ expanded. Raises InputError where no file or folder can be called so."""
    if path == "":  # of a shell's variable that is not set
        raise InputError("an empty path names no file and no folder: give one, . for the folder you are in")
    try:
        found = Path(path).expanduser()
        found.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        shown = repr(str(path))
        shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}... ({len(str(path))} characters)"
        raise InputError(f"{shown} cannot be a path ({why.lower().rstrip('.')}): choose another") from error
    return found


def check_exists(path: Path) -> None:
    """Raise InputError where there is neither a file nor a folder."""
    if not path.exists():
        raise InputError(f"there is no file {path}: check the path, which starts from {Path.cwd()}")


def _memory() -> int:
    """Bytes of this machine's memory; where it does not tell, more than any has."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return 2**50
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
