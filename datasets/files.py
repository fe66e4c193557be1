"""A user's own table, read from a CSV or Parquet file."""

from pathlib import Path

import pandas as pd
from pandas import DataFrame

from ..errors import InputError

__all__ = ["SUFFIXES", "read_table"]

SUFFIXES = (".csv", ".parquet")


def read_table(path: Path) -> DataFrame:
    """The table in a ``.csv`` (UTF-8, commas, one line of column names) or ``.parquet`` file.

    A first column without a name, as R and pandas write their row labels, becomes the index.

    Raises
    ------
    InputError
        The file is missing, empty, of another kind, or not a table.
    """
    path = path.expanduser()
    _require_file(path)
    try:
        return _read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # pandas' and Arrow's parsing errors are ValueErrors
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{path} is not a table: {reason}; give a {' or '.join(SUFFIXES)} file") from error


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the path of a file in it")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} ends in {path.suffix or 'nothing'!r}: save the table as {' or '.join(SUFFIXES)}")
    if not path.exists():
        raise InputError(f"there is no file {path}: check the path, which starts from {Path.cwd()}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: give a table with a line of column names and some rows")


def _read_csv(path: Path) -> DataFrame:
    with path.open("rb") as file:
        if b"\0" in file.read(8192):
            raise InputError(f"{path} is not a table: it holds bytes that are not UTF-8 text; save it as UTF-8 CSV")
    _require_header(path)
    frame = pd.read_csv(path)
    if frame.shape[1] > 1 and frame.columns[0] == "Unnamed: 0":
        frame = frame.set_index("Unnamed: 0").rename_axis(index=None)
    return frame


def _require_header(path: Path) -> None:
    """Refuse a first line of numbers, which pandas would take for names; 0, 1, 2, ... are names it writes itself."""
    first = pd.to_numeric(pd.read_csv(path, header=None, nrows=1).iloc[0].dropna(), errors="coerce")
    if len(first) and first.notna().all() and first.tolist() != list(range(len(first))):
        raise InputError(f"the first line of {path} holds numbers: put a line of column names above it")
