"""Data files as people have them, good and odd: tables in several formats, text, and what is no file at all."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

LONG = "n" * 300
COLUMNS = ["a", "b", "width", "width", "x", "z", "y", "data", "chain", "draw", "locs", "0", "1", "größe", "数", "a b"]
ODD_COLUMNS = ["$x_{$", "$\\frac{$", '=HYPERLINK("http://a.b")', "<script>alert(1)</script>", "", " ", "%s{}", LONG]
ODD_COLUMNS += ["a,b", 'a"b', "a\nb", "\x1b[31m", "\u202e", "Unnamed: 0", "__class__", "a/b", "-1", "1e3", "a b[0]"]
CELLS = ["", "NA", "nan", "inf", "-inf", "1e200", "-1e200", "1e400", "1e-300", "text", "2024-02-30", "2024-02-03"]
CELLS += ["1,5", "True", "0", "-0.0", "9" * 40, "1e20", "0x10", "1_000", " 3 ", "'4", "=1+1", "{}", "é", "1.234.567"]
CELLS += ["None", "1e308", "5e-324", "255", "16", "-1"]
STEMS = ["mine", "mine", "mine", "a b", "größe", "-dash", "$x_{$", "=1+1", "faithful", "raw\udcff", ".hidden", "a;b"]
SUFFIXES = [".csv"] * 20 + [".parquet"] * 5 + [".CSV", ".tsv", ".txt", ".smi", ".npy", ".json", ""]
STRINGS = ["CCO", "CCN", "c1ccccc1", "ab", "ba", "", " ", "a\tb", "数", "\U0001f600", "\x00", "nan", "C" * 60, "a\x1bb"]
RAW = [b"", b"\n", b"\n\n\n", b"\xef\xbb\xbf", b"\xff\xfe1\x00", b"\x00", b",", b'"', b'a,b\n"1', b"a\n", b"a,b\n"]
RAW += [b"1,2\n3,4\n", b"a;b\n1,5;2\n1;2,5\n", b"a,b\n1,2,3\n4,5\n", b"a,b\n1\n2,3\n", b"a\r1\r2\r3\r", b"PAR1", b"{}"]
RAW += [b"a\tb\n1\t2\n3\t4\n5\t7\n", "größe,b\n1,2\n3,4\n".encode("latin-1"), "a,b\n1,2\n3,4\n2,2\n".encode("utf-16")]
RAW += [b"PAR1abcdPAR1", b"\x93NUMPY", b"\xef\xbb\xbfa,b\n1,2\n3,4\n2,9\n0,1\n", b"a\n" + b"1" * 5000 + b"\n"]
RAW += [b"[" * 5000]
RAW += [b"a,a\n1,2\n3,4\n2,2\n"]


@dataclass(frozen=True)
class OddFile:
    """What lies at a name: bytes, or for kinds other than "file" what the kind says."""

    name: str
    content: bytes = b""
    kind: str = "file"

    def put(self, folder: Path) -> None:
        """Lay it into a folder, where the file system takes such a name."""
        with suppress(OSError, ValueError):
            KINDS[self.kind](folder / self.name, self.content)


def _pipe(path: Path, content: bytes) -> None:
    """A named pipe that somebody writes into once; who opens it again waits for nobody."""
    os.mkfifo(path)

    def write() -> None:
        with suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # which needs no reader
            os.write(file, content[:60_000])
            OPEN.append(file)

    threading.Thread(target=write).run()


OPEN: list[int] = []  # pipes, to be closed once the call is over
KINDS: dict[str, Callable[[Path, bytes], Any]] = {
    "file": lambda path, content: path.write_bytes(content),
    "folder": lambda path, content: path.mkdir(),
    "pipe": _pipe,
    "link to nowhere": lambda path, content: path.symlink_to("nowhere"),
    "link to itself": lambda path, content: path.symlink_to(path.name),
    "link to null": lambda path, content: path.symlink_to("/dev/null"),
    "link to zeros": lambda path, content: path.symlink_to("/dev/zero"),
    "link to memory": lambda path, content: path.symlink_to("/proc/self/mem"),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A few rows of numbers, usually of good sense, with odd names or cells now and then."""
    rows = draw(st.sampled_from([8, 12, 8, 12, 8, 12, 8, 12, 30, 3, 2, 1, 0]))
    width = draw(st.sampled_from([2, 1, 3, 2, 1, 5]))
    odd = draw(st.sampled_from([False, False, False, True]))
    known = [*COLUMNS, *ODD_COLUMNS] if odd else COLUMNS[:3]
    names = draw(st.lists(st.sampled_from(known), min_size=width, max_size=width))
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(rows, width)).round(3)
    values *= draw(st.sampled_from([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1e-12, 1e8]))
    frame = pd.DataFrame(values.astype(object), columns=names)
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2])) if rows else 0):
        row, column = draw(st.integers(0, rows - 1)), draw(st.integers(0, width - 1))
        frame.iat[row, column] = draw(st.sampled_from(CELLS))
    if draw(st.sampled_from([False] * 19 + [True])):
        frame.iloc[:, 0] = draw(st.sampled_from(CELLS))
    return frame


def as_bytes(frame: pd.DataFrame, suffix: str) -> bytes:
    """A table as a file of that kind."""
    if suffix == ".json":
        return json.dumps(frame.astype(str).to_numpy().tolist()).encode("utf-8", "surrogatepass")
    written = io.BytesIO()
    if suffix == ".npy":
        np.save(written, frame.to_numpy(), allow_pickle=True)
    elif suffix == ".parquet":
        frame.set_axis(_different(frame.columns), axis=1).infer_objects().astype(_storable(frame)).to_parquet(written)
    else:
        return frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",").encode("utf-8", "surrogatepass")
    return written.getvalue()


def _different(names: Any) -> list[str]:
    """Parquet takes no name twice."""
    return [name if list(names).index(name) == i else f"{name}{i}" for i, name in enumerate(names)]


def _storable(frame: pd.DataFrame) -> dict[str, type]:
    """Columns of one type each."""
    columns = (frame.iloc[:, i] for i in range(frame.shape[1]))
    plain = [all(isinstance(value, float) for value in column) for column in columns]
    return {name: float if is_plain else str for name, is_plain in zip(_different(frame.columns), plain, strict=True)}


@st.composite
def odd_files(draw: st.DrawFn) -> OddFile:
    """A file under some name: mostly a table in the format that its name says."""
    name = draw(st.sampled_from(STEMS)) + (suffix := draw(st.sampled_from(SUFFIXES)))
    what = draw(st.sampled_from(["table"] * 24 + ["raw", "raw", "strings", "cut", "another format", "kind"]))
    if what == "raw":
        return OddFile(name, draw(st.sampled_from(RAW) | st.binary(max_size=40)))
    if what == "strings" or suffix in (".txt", ".smi"):
        lines = draw(st.lists(st.sampled_from(STRINGS[:5] * 6 + STRINGS), max_size=12))
        return OddFile(name, "\n".join(lines).encode("utf-8", "surrogatepass"))
    content = as_bytes(draw(tables()), ".parquet" if what == "another format" else suffix)
    if what == "cut":
        return OddFile(name, content[: draw(st.integers(0, len(content)))])
    return OddFile(name, content, draw(st.sampled_from(list(KINDS))) if what == "kind" else "file")
