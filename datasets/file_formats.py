"""A user's own table, read from a CSV or Parquet file."""

import csv
import re
from itertools import islice
from pathlib import Path

import pandas as pd
from pandas import DataFrame
from pandas.api.types import is_numeric_dtype

from ..errors import InputError, check_exists, check_path, first_line

__all__ = ["SUFFIXES", "read_table"]

SUFFIXES = (".csv", ".parquet")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

DECIMAL_COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"
DECIMAL_POINT = r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?"
ONE_GROUP = r"[+-]?[1-9]\d{0,2},\d{3}"  # 1,234: a thousand, or little more than one
GROUPED = r"[+-]?\d{1,3}(?:(?:\.\d{3})+,\d+|(?:,\d{3})+\.\d+|(?:'\d{3})+(?:[.,]\d+)?|(?:\.\d{3}){2,}|(?:,\d{3}){2,})"


def read_table(path: Path) -> DataFrame:
    """The table in a ``.csv`` (UTF-8, one line of column names) or ``.parquet`` file.

    Columns of a CSV are separated by commas, semicolons, tabs or bars. Where it is not by commas, numbers may have
    decimal commas, 1,5, throughout. A first column without a name, as R and pandas write their row labels, becomes the
    index.

    What can be read in two ways is refused: thousands separators, decimal points and commas in one file, numbers such
    as 1,234 separated by tabs or bars, decimal commas where commas separate the columns, even in quotes, and rows with
    more fields than there are names, so also a single column of decimal commas.

    Raises
    ------
    InputError
        The file is missing, empty, of another kind, or not a table.
    """
    path = check_path(path)
    _require_file(path)
    try:
        return _read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:  # pandas' and Arrow's parsing errors are ValueErrors
        reason = first_line(error)
        raise InputError(f"{path} is not a table: {reason}; give a {' or '.join(SUFFIXES)} file") from error


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the path of a file in it")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} ends in {path.suffix or 'nothing'!r}: save the table as {' or '.join(SUFFIXES)}")
    check_exists(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: give a table with a line of column names and some rows")


def _read_csv(path: Path) -> DataFrame:
    with path.open("rb") as file:
        if b"\0" in file.read(8192):
            raise InputError(f"{path} is not a table: it holds bytes that are not UTF-8 text; save it as UTF-8 CSV")
    frame = _with_decimals(path, _separator(path))
    if frame.shape[1] > 1 and frame.columns[0] == "Unnamed: 0":
        frame = frame.set_index("Unnamed: 0").rename_axis(index=None)
    return frame


def _separator(path: Path) -> str:
    """What separates the columns: what gives each of the first rows as many fields as there are names."""
    counts = {}
    for delimiter in DELIMITERS:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = [row for row in islice(csv.reader(file, delimiter=delimiter), 200) if row]
        counts[delimiter] = [len(row) for row in rows] or [0]
    found = [delimiter for delimiter, (names, *rows) in counts.items() if names > 1 and set(rows) <= {names}]
    if len(found) > 1:
        ways = " or ".join(DELIMITERS[delimiter] for delimiter in found)
        raise InputError(f"the columns of {path} may be separated by {ways}: keep to one of them, others in quotes")
    separator = found[0] if found else max(counts, key=lambda delimiter: counts[delimiter][0])
    names, fields = counts[separator][0], counts[separator][1:2]
    if fields and fields[0] > names:
        more = f"the first line of {path} names {names} of the {fields[0]} fields of the next"
        raise InputError(f"{more}: name each column, and write decimal points if these are decimal commas")
    return separator


def _with_decimals(path: Path, separator: str) -> DataFrame:
    """The table with its numbers read by their decimal points, or by their decimal commas if it has those."""
    _require_header(path, separator)
    frame = pd.read_csv(path, sep=separator)
    _refuse(path, _texts(frame, GROUPED), "write numbers without thousands separators")
    commas = _texts(frame, DECIMAL_COMMA)
    if not commas:
        return frame
    if separator == ",":
        _refuse(path, commas, "write decimal points, or separate the columns by semicolons")
    if separator != ";" and all(re.fullmatch(ONE_GROUP, value) for _, value in commas):
        _refuse(path, commas, "write decimal points, and no thousands separators")
    found = pd.read_csv(path, sep=separator, decimal=",")
    _refuse(path, _texts(found, DECIMAL_POINT), f"others have a decimal comma, as {commas[0][1]!r}")
    return found


def _texts(frame: DataFrame, pattern: str) -> list[tuple[str, str]]:
    """Column and value of all text that looks like that."""
    found = []
    for name, column in frame.items():
        if not is_numeric_dtype(column):
            text = column.dropna().astype(str).str.strip()
            found += [(str(name), value) for value in text[text.str.fullmatch(pattern).astype(bool)]]
    return found


def _refuse(path: Path, texts: list[tuple[str, str]], mend: str) -> None:
    if texts:
        column, value = texts[0]
        raise InputError(f"column {column!r} of {path} has {value!r}, which can be read in two ways: {mend}")


def _require_header(path: Path, separator: str) -> None:
    """Refuse a first line of numbers, which pandas would take for names; 0, 1, 2, ... are names it writes itself."""
    decimal = "." if separator == "," else ","
    line = pd.read_csv(path, sep=separator, header=None, nrows=1, decimal=decimal).iloc[0].dropna()
    first = pd.to_numeric(line, errors="coerce")
    if len(first) and first.notna().all() and first.tolist() != list(range(len(first))):
        raise InputError(f"the first line of {path} holds numbers: put a line of column names above it")
