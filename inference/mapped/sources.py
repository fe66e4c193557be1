"""What leads to rows: a NumPy memmap, an .npy file, Parquet files, a Zarr array; each read some rows at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, check_exists, check_path, first_line, listed
from .blocks import block_rows
from .columns import default_columns

KINDS = {np.dtype(kind) for kind in ("bool", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")}  # that torch reads
SINGLE_IN_ARROW = ("boolean", "int8", "uint8", "int16", "uint16", "float16", "float32")  # that float32 holds exactly


@dataclass(frozen=True)
class Source:
    """Rows somewhere: N by *row, read so many at a time. columns: their names where they have any.

    direct: the array over the pages of a file that torch can read as it lies; None where it must be copied. table:
    whether it is a single file, which `datasets.load` reads too.
    """

    name: str
    rows: int
    row: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterator[np.ndarray]]
    columns: tuple[str, ...] = ()
    direct: np.memmap | None = None
    table: bool = False

    @property
    def bytes(self) -> int:
        """What all of it takes in memory, as float64."""
        return 8 * self.rows * prod(self.row)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the entries of a row."""
        return self.columns or default_columns(prod(self.row))

    def refused(self, row: int, entry: int, what: str) -> InputError:
        """The error of a number that is not finite, which reads `what`."""
        said = "is missing (NaN)" if what == "nan" else "is infinite"
        return InputError(f"{self.name}: column {self.names[entry]!r}, row {row}: {said}; drop the row or fill it in")


def source_of(x: Any) -> Source | None:
    """What a path, a pyarrow data set or a Zarr array leads to; None of anything else."""
    kind = f"{type(x).__module__}.{type(x).__name__}"
    if kind.startswith("zarr."):
        return _of_zarr(x, str(getattr(x, "store_path", x)))
    if kind.startswith("pyarrow._dataset."):
        return _of_parquet(x, "the data set")
    if not isinstance(x, str | Path) or (isinstance(x, str) and "\n" in x):
        return None
    path = check_path(x)
    if path.suffix.lower() == ".npy":
        return _of_npy(path)
    if path.suffix.lower() == ".zarr" or (path.is_dir() and _is_zarr(path)):
        return _of_zarr(_opened_zarr(path), str(path))
    named = path.suffix.lower() == ".parquet" and path.exists() and (path.is_dir() or path.stat().st_size > 0)
    if named or (path.is_dir() and any(path.rglob("*.parquet"))):
        return _of_parquet(_opened_parquet(path), str(path))
    return None


def of_memmap(x: np.memmap, name: str) -> Source:
    """A NumPy memmap as a source, its own pages where they are of a file that torch reads.

    name: what messages call it where it is no file's path. Raises InputError for one that is copy-on-write, or ().
    """
    if x.mode == "c":
        raise InputError(f"{name} is mapped copy-on-write: open it with mode 'r', or give x.copy() where it is small")
    refuse_number(x.shape, name)
    at_file = isinstance(x.filename, str | os.PathLike) and Path(x.filename).exists()
    sound = x.dtype in KINDS and x.dtype.isnative and all(stride > 0 for stride in x.strides)
    called = str(x.filename) if at_file else name
    called = called if name == "x" else name
    direct = x if at_file and sound else None
    return Source(called, len(x), x.shape[1:], x.dtype, lambda: _slices(x), direct=direct)


def refuse_number(shape: Sequence[int], name: str) -> None:
    """Refuse what is a number and no rows."""
    if not len(shape):
        raise InputError(f"{name} has 0 dimensions, shape (), but needs 1 or more")


def _slices(x: Any) -> Iterator[np.ndarray]:
    """The rows of anything that is cut as an array is."""
    step = block_rows(x.shape[1:])
    if (chunk := getattr(x, "chunks", None)) and chunk[0] > 0:
        step = max(chunk[0], step // chunk[0] * chunk[0])  # a chunk is decoded as a whole
    for start in range(0, x.shape[0], step):
        yield np.asarray(x[start : start + step])


def _of_npy(path: Path) -> Source:
    check_exists(path)
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        mend = "save it again by numpy.save, of float32 or float64"
        raise InputError(f"{path} cannot be mapped ({first_line(error).rstrip('.')}): {mend}") from error
    return of_memmap(found, str(path))


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup"))


def _opened_zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{path} is read by zarr, which is not installed: pip install 'pyrometer[zarr]'") from error
    check_exists(path)
    try:
        return zarr.open(str(path), mode="r")
    except Exception as error:  # of many classes
        raise InputError(f"{path} holds no Zarr array ({first_line(error)}): write it again") from error


def _of_zarr(found: Any, name: str) -> Source:
    if not hasattr(found, "shape"):
        arrays = listed(sorted(f"{name}/{key}" for key in found.array_keys())) or "which holds no array"
        raise InputError(f"{name} is a Zarr group: give the path of one of its arrays, {arrays}")
    refuse_number(found.shape, name)

    def blocks() -> Iterator[np.ndarray]:
        try:
            yield from _slices(found)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{name} cannot be read ({error}): write it again") from error

    return Source(name, found.shape[0], tuple(found.shape[1:]), np.dtype(found.dtype), blocks)


def _opened_parquet(path: Path) -> Any:
    from pyarrow import ArrowException
    from pyarrow.dataset import dataset

    try:
        return dataset(str(path), format="parquet")
    except UnicodeEncodeError as error:
        raise InputError(f"{path} has a name that is not UTF-8, which pyarrow does not open: rename it") from error
    except (OSError, ArrowException) as error:
        mend = "give a file or a folder of them alone"
        raise InputError(f"{path} is no Parquet data set ({first_line(error)}): {mend}") from error


def _of_parquet(found: Any, name: str, columns: Sequence[str] = ()) -> Source:
    """A Parquet data set, of all of its columns or of some."""
    from pyarrow import ArrowException, float64
    from pyarrow.dataset import ParquetFragmentScanOptions

    rows, kinds = _size_and_kinds(found, name)
    taken = list(columns) or list(kinds)

    def blocks() -> Iterator[np.ndarray]:
        for column in taken:
            if not _is_any(kinds[column], ("boolean", "integer", "floating", "decimal")):
                what = f"{name}: column {column!r} is of type {kinds[column]}"
                raise InputError(f"{what}: turn it into numbers, or leave it out")
        size = max(1, block_rows((len(taken),)) // 4)
        options = ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
        how = {"batch_readahead": 1, "fragment_readahead": 1, "use_threads": False, "fragment_scan_options": options}
        try:
            for batch in found.to_batches(columns=taken, batch_size=size, **how):
                each = [column.cast(float64()).to_numpy(zero_copy_only=False) for column in batch.columns]
                yield np.stack(each, 1) if each else np.empty((len(batch), 0))
        except (OSError, ArrowException) as error:
            said = f"{name} cannot be read as one table ({first_line(error)})"
            raise InputError(f"{said}: write its parts alike") from error

    table = len(getattr(found, "files", ())) == 1 and Path(name).is_file()
    single = all(_is_any(kinds[column], SINGLE_IN_ARROW) for column in taken)
    return Source(name, rows, (len(taken),), np.dtype("f4" if single else "f8"), blocks, tuple(taken), table=table)


def _size_and_kinds(found: Any, name: str) -> tuple[int, dict[str, Any]]:
    """How many rows a Parquet data set has, and the type of each column."""
    from pyarrow import ArrowException

    try:
        rows, kinds = found.count_rows(), {field.name: field.type for field in found.schema}
    except (OSError, ArrowException) as error:
        raise InputError(f"{name} cannot be read ({first_line(error)}): write it again") from error
    if len(kinds) < len(found.schema):
        twice = next(n for n in found.schema.names if found.schema.names.count(n) > 1)
        raise InputError(f"{name} has two columns called {twice!r}: give each a name of its own")
    return rows, kinds


def _is_any(kind: Any, of: Sequence[str]) -> bool:
    """Whether a type of Arrow's is one of these."""
    from pyarrow import types

    return any(getattr(types, f"is_{one}")(kind) for one in of)


def chosen(source: Source, columns: Sequence[str]) -> Source:
    """Some columns of a source of a table."""
    if not columns:
        return source
    if len(source.row) > 1:
        raise InputError(f"{source.name} has rows of shape {source.row}, and no columns to choose from")
    for column in columns:
        if column not in source.names:
            raise InputError(f"{source.name} has no column {column!r}: choose from {listed(source.names)}")
    if source.columns:
        return _of_parquet(_opened_parquet(Path(source.name)), source.name, columns)
    places = [source.names.index(column) for column in columns]
    cut = lambda: (block.reshape(len(block), -1)[:, places] for block in source.blocks())  # noqa: E731
    return Source(source.name, source.rows, (len(places),), source.dtype, cut, tuple(columns))
