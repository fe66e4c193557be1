"""The data's door: what a user hands in, checked and made the arguments of a model."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Context, localcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from numpy.typing import ArrayLike
from pandas import DataFrame, Series
from torch import Tensor
from torch.utils.data import DataLoader

from ...errors import InputError, count, listed
from ...models.arguments import Parameters, parameters_of
from ...models.structure import Model, Structure, model_name
from ...models.trace import shapes_of_sites
from ..mapped.blocks import may_be_loaded
from ..mapped.sources import refuse_number
from ..mapped.tensor import Mapped
from ..runtime.isolation import SMALL
from .arrays import as_table, numbers_of
from .containers import ToPandas, opened, plain
from .data import Data, structure_on
from .parts import Arguments, arguments_in, several
from .strings import strings_of

DataLike: TypeAlias = (
    DataFrame
    | Series
    | ArrayLike
    | Tensor
    | ToPandas
    | DataLoader
    | str
    | Path
    | tuple[Any, ...]
    | Mapping[str, Any]
    | Data
)
FLOATS = (torch.float32, torch.float64)
RUNS = 6  # of a model, whose sites must be the same
MARGIN = 1e3  # below the largest number that has a square, and above the least


def as_data(x: DataLike, model: Model | None = None, *, dtype: torch.dtype | None = None, name: str = "x") -> Data:
    """Check `x` and make it the arguments of `model`; the caller's own data are neither changed nor shared.

    Parameters
    ----------
    x
        One table: a DataFrame, array or tensor of N rows, a list of N lists of numbers, a Series, vector or list of
        numbers, which stays a vector, the name or path of a table, for `pyrometer.datasets.load`, or a DataLoader,
        read once into memory, the first of each pair where it gives pairs (x, label). What has `to_pandas`, Arrow's
        stream or `__array__` (of polars, pyarrow, xarray ...) is what that gives. All its numbers become floats.
        Rows in a file, of which no more than some are ever in memory: a NumPy memmap; a path of an ``.npy`` file, of a
        Parquet file, of a folder of these, or of a Zarr array, where they take more than 256 MB as float64; a
        `pyarrow.dataset.Dataset` or `zarr.Array`. Parquet and Zarr are copied once into a temporary file.
        Several arguments: a tuple, by position; a mapping, by the parameters' names; or a DataFrame whose columns have
        the names of the parameters, where the model requires two or more of them, or where all that it requires and
        at least two of its parameters are columns; further columns are left aside. There whole numbers stay int64,
        for they may index, text and categoricals become int64 codes, and what is neither an array nor a list of
        numbers or of text is handed on untouched.
        For a model of strings, which has a `codes(strings, name)`: a list or Series of them, a DataFrame of one
        column, the name of a data set, or the path of a table or of a file with one string a line.
        Data that were made here come back as they are.
    model
        The program that they are for. One with a `prepare(values, columns)` is given a single table to check and
        convert.
    dtype
        Of the floating arrays; float64 where it is None, or what `prepare` gives. They lie on the device of the
        tensors that were given, else on the CPU.
    name
        What error messages call `x`. A path or name is called what it is.

    Raises
    ------
    InputError
        Infinite, text, complex or date values, a missing category, an empty table, two columns of one name, a
        parameter without data or data without a parameter, and whatever `prepare` refuses. Rows are counted from 0. A
        missing value is refused where the model has a `prepare`; otherwise it stays, as NaN, and `Data.missing` has the
        line that refuses it, for the model may mask it.

    Examples
    --------
    >>> as_data("faithful").columns
    ('eruptions', 'waiting')
    >>> as_data({"y": np.ones(3), "n": 3}).kwargs["n"]
    3
    """
    if not (dtype is None or (isinstance(dtype, torch.dtype) and dtype in FLOATS)):
        raise InputError(f"dtype={dtype} cannot be computed in: choose torch.float32 or torch.float64")
    if model is not None and not callable(model):
        raise InputError(
            f"model is a {type(model).__name__}, which cannot be called: give a Pyro program, then its data"
        )
    with localcontext(Context(traps=[])):  # a signalling NaN of Decimal is missing as any other
        return within_range(_as_data(x, model, dtype, name), name)


def _as_data(x: DataLike, model: Model | None, dtype: torch.dtype | None, name: str) -> Data:
    """As `as_data`, without a look at the numbers' size."""
    if isinstance(x, Data):
        return x if dtype is None else x.to(dtype)
    if model is not None and hasattr(model, "codes"):
        codes = model.codes(*strings_of(x, name))
        return Data((codes,), names=parameters_of(model).names[:1], floating=codes.dtype).to(dtype or codes.dtype)
    x, name = opened(x, name)
    parameters = parameters_of(model)
    if isinstance(x, tuple | Mapping) or (isinstance(x, DataFrame) and _is_by_name(x, parameters)):
        given = arguments_in(x, parameters.names, name)
        _refuse_unfit(x, given, parameters, model, name)
        if len(given) > 1 or not hasattr(model, "prepare"):
            own = getattr(model, "dtype", None)
            floating = dtype or (own if isinstance(own, torch.dtype) else torch.float64)
            return several(given, tuple(given) if isinstance(x, tuple) else ()).to(floating)
        x = plain(*next(iter(given.values())))
    if len(parameters.required) > 1:
        wanted = f"{model_name(model)} takes {listed(parameters.required)}"
        raise InputError(f"{name} is one array, but {wanted}: give a tuple or a mapping of them")
    values, columns, missing = _numbers_in(x, name)
    if hasattr(model, "prepare"):
        if missing:
            raise InputError(missing)
        values = checked_by(model, "prepare", name, values, columns)
    names = parameters.names[:1] or ("x",)
    data = Data((values,), columns=columns, names=names, missing=missing, floating=values.dtype)
    return data if dtype is None else data.to(dtype)


def _numbers_in(x: Any, name: str) -> tuple[Tensor, tuple[str, ...], str]:
    """The floats of a single table, the names of its columns, and the line that refuses the first missing value."""
    if isinstance(x, Mapped):
        return x, x.names, ""
    table = as_table(x, name)
    refuse_number(table.shape, name)
    values, missing = numbers_of(table)
    return values, table.columns, missing


def data_for(
    model: Model, x: DataLike, dtype: torch.dtype | None = None, by_rows: bool = False
) -> tuple[Data, Structure]:
    """What a user handed in as the model takes it, its rows known, and the structure of the model on all of them.

    by_rows: whether who asks can do with some of the rows at a time; for anybody else rows in a file are read whole
    where they take no more than 256 MB, and refused where they take more.
    """
    data = as_data(x, model, dtype=dtype)
    if not by_rows:
        data = held_in_memory(data)
    structure = structure_on(model, data)
    if not structure.of_kind("latent", "discrete", "param"):
        raise InputError(f"model {model_name(model)} has no latent site and no param: there is nothing to fit")
    if data.mapped is not None and (structure.rows is None or structure.rows.full_size != len(data.mapped)):
        what = (
            f"model {model_name(model)} has no plate of the {len(data.mapped)} rows of {data.mapped.pages.place.name}"
        )
        raise InputError(f"{what}: write it with pyro.plate('data', len(x)) as rows, and x[rows]")
    if not isinstance(x, Data) and data.numel < SMALL and data.mapped is None:
        _refuse_other_sites(model, data, structure)
    if structure.subsampled:
        mend = "write it as def model(x, batch_size=None), so that it can be scored on all of them"
        raise InputError(f"model {model_name(model)} always looks at some rows only: {mend}")
    rows = structure.rows.full_size if structure.rows else None
    return replace(data, rows=rows, mixed=structure.mixed), structure


def held_in_memory(data: Data) -> Data:
    """The data with all of their rows in memory. Raises InputError where these are too many for that."""
    if data.mapped is None:
        return data
    if not may_be_loaded(data.mapped.bytes):
        what = (
            f"{data.mapped.pages.place.name} has {data.rows or len(data.mapped)} rows, {data.mapped.bytes / 1e6:.0f} MB"
        )
        mend = "give it a sample of them, x[::1000] say, or take svi, em or cavi, which read them in blocks"
        raise InputError(f"{what}, and this method holds all of them in memory: {mend}")
    return data.in_memory()


def within_range(data: Data, name: str) -> Data:
    """The data, refused where a square is beyond the numbers that are computed with, or a model wants too few digits.

    That is of a number that is too large, or of the differences within a column whose numbers are too alike.
    """
    if data.dtype not in FLOATS:
        raise InputError(f"{name} is to be in {data.dtype}, which cannot be computed in: take float32 or float64")
    for key, value in data.named.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            _check_squares(value, name if len(data.named) == 1 else key, data.columns)
    return data


def _check_squares(value: Tensor, name: str, columns: tuple[str, ...]) -> None:
    """Raises InputError for the first entry of a row of which a number, or what tells rows apart, has no square."""
    kept = value if isinstance(value, Mapped) else value.nan_to_num()
    low, high = (kept.amin(0), kept.amax(0)) if kept.dim() else (kept, kept)
    farthest, apart, limits = torch.where(high > -low, high, low), high - low, torch.finfo(value.dtype)
    largest, least = limits.max**0.5 / MARGIN, limits.tiny**0.5 * MARGIN
    if (beyond := farthest.abs() > largest).any():
        entry, row, number = tuple(beyond.nonzero()[0].tolist()), "", farthest
        if kept.dim() and not isinstance(kept, Mapped):
            at = int((kept[:, *entry].abs() > largest).nonzero()[0])
            row, number = f", row {at}", kept[at]
        has = f"{number[entry].item():.3g} is too large to compute with in {value.dtype}"
        raise InputError(f"{_entry(name, entry, columns)}{row}: {has}; rescale the column or mend the value")
    if (alike := (apart > 0) & (apart < least)).any():
        entry = tuple(alike.nonzero()[0].tolist())
        has = f"numbers that lie {apart[entry].item():.3g} apart are too alike to compute with in {value.dtype}"
        raise InputError(f"{_entry(name, entry, columns)}: {has}; rescale the column")


def _entry(name: str, entry: tuple[int, ...], columns: tuple[str, ...]) -> str:
    return f"{name}: column {columns[entry[0]]!r}" if len(entry) == 1 and len(columns) > 1 else name


def _refuse_other_sites(model: Model, data: Data, structure: Structure) -> None:
    """Refuse a model that has other sites from run to run, by a branch that a draw decides."""
    shapes = {site.name: site.shape for site in structure.sites}
    for others in _shapes_in_more_runs(model, data):
        if odd := [name for name in {**shapes, **others} if shapes.get(name) != others.get(name)]:
            what = f"site {odd[0]!r} of model {model_name(model)} is there, or of its shape, in some runs only"
            raise InputError(f"{what}: write the branch that a draw decides as a mixture, or with a mask")


def _shapes_in_more_runs(model: Model, data: Data) -> list[dict[str, torch.Size]]:
    """The shapes of its sites in so many runs more, each with draws of its own."""
    found = list[dict[str, torch.Size]]()
    with data.isolated(1):
        for _ in range(1, RUNS):
            with suppress(InputError):  # a draw at which it cannot be run is no branch
                found.append(data.run(partial(shapes_of_sites, model)))
    return found


def checked_by(model: Model | None, check: str, name: str, *values: Any) -> Any:
    """What a check of the model gives for the values, its `x` called by that name in what it refuses them with."""
    try:
        return getattr(model, check)(*values)
    except InputError as error:
        raise InputError(re.sub(r"(?<!')\bx\b(?!')", lambda _: name, str(error))) from error


def _is_by_name(frame: DataFrame, parameters: Parameters) -> bool:
    """Whether the columns of a table go to the parameters of their names, rather than as one matrix to one of them."""
    columns = {str(column) for column in frame.columns}
    found = columns.intersection(parameters.names)
    return len(parameters.required) > 1 or (len(found) > 1 and found.issuperset(parameters.required))


def _refuse_unfit(x: Any, given: Arguments, parameters: Parameters, model: Model | None, name: str) -> None:
    """Refuse data without a parameter, and a parameter without data."""
    takes = listed(parameters.names)
    unknown = [key for key in given if key not in parameters.names and not parameters.open]
    if unknown and isinstance(x, tuple):
        raise InputError(f"{name} has {count(len(x), 'part')}, but {model_name(model)} takes {takes}")
    if unknown:
        raise InputError(f"{name} has {unknown[0]!r}, which is no parameter of {model_name(model)}: it takes {takes}")
    for key in parameters.required:
        if key not in given:
            has = listed([str(column) for column in x.columns] if isinstance(x, DataFrame) else list(given))
            raise InputError(f"{name} lacks {key!r}, a parameter of {model_name(model)}: it has {has or 'nothing'}")
