"""Whatever library holds the same numbers, they come in the same, names and categories with them."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
import xarray as xr
from pyrometer.errors import InputError
from pyrometer.inference.data.as_data import as_data
from pyrometer.inference.data.data import Data
from pyrometer.inference.data.new_data import as_new_data
from pyrometer.inference.data.outliers import outliers
from pyrometer.models import SequenceVAE, UnivariateMixture
from torch import Tensor

NUMBERS = np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 9.0]])
FRAME = pd.DataFrame(NUMBERS, columns=["a", "b"])
ARROW = pa.table({"a": [1.0, 2.0, 3.0], "b": [5, 4, 9]})
POLARS = pl.DataFrame({"a": [1.0, 2.0, 3.0], "b": [5, 4, 9]})
FIELDS = np.array([(1, 5.0), (2, 4.0), (3, 9.0)], dtype=[("a", int), ("b", float)])


class ArrowStream:
    """A table that offers Arrow's stream and nothing else."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return ARROW.__arrow_c_stream__(requested_schema)


class Broken:
    """An array that cannot be read."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise OSError("out of paper\nand ink")


def read_only() -> np.ndarray:
    numbers = NUMBERS.copy()
    numbers.setflags(write=False)
    return numbers


NAMED: dict[str, Any] = {  # tables whose columns are called a and b
    "pandas": FRAME,
    "a table of Arrow in pandas": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "decimals of Arrow": FRAME.map(Decimal).astype(pd.ArrowDtype(pa.decimal128(10, 2))),
    "nullable": FRAME.astype({"a": "Int64", "b": "Float64"}),
    "labels that repeat": FRAME.set_index(pd.Index(["r", "r", "s"])),
    "pyarrow": ARROW,
    "a batch of pyarrow": ARROW.to_batches()[0],
    "a stream of Arrow": ArrowStream(),
    "a reader of pyarrow": lambda: ARROW.to_reader(),
    "polars": POLARS,
    "polars, lazy": POLARS.lazy(),
    "xarray": xr.DataArray(NUMBERS, dims=["row", "column"], coords={"column": ["a", "b"]}),
    "a Dataset": xr.Dataset({"a": ("row", NUMBERS[:, 0]), "b": ("row", NUMBERS[:, 1])}),
    "a structured array": FIELDS,
    "a record array": FIELDS.view(np.recarray),
}
UNNAMED: dict[str, Any] = {
    "lists": NUMBERS.tolist(),
    "tuples in a list": [tuple(row) for row in NUMBERS],
    "a list of arrays": list(NUMBERS),
    "a list of tensors": list(torch.tensor(NUMBERS)),
    "fractions": [[Fraction(number) for number in row] for row in NUMBERS],
    "decimals": [[Decimal(number) for number in row] for row in NUMBERS],
    "a buffer": memoryview(array("d", [1, 5, 2, 4, 3, 9])).cast("B").cast("d", (3, 2)),
    "objects": NUMBERS.astype(object),
    "half": NUMBERS.astype(np.float16),
    "a quarter": torch.tensor(NUMBERS).to(torch.float8_e4m3fn),
    "long": NUMBERS.astype(np.longdouble),
    "the other end first": NUMBERS.astype(">f8"),
    "backwards": NUMBERS[::-1, ::-1].copy()[::-1, ::-1],
    "read only": read_only(),
    "xarray": xr.DataArray(NUMBERS),
    "arrays of polars": pl.Series("a", NUMBERS.tolist(), dtype=pl.Array(pl.Float64, 2)),
}
VECTORS: dict[str, Any] = {  # 1, 2 and 3, and their name
    "a list": ([1, 2, 3], "x0"),
    "a range": (range(1, 4), "x0"),
    "an array of Python's": (array("d", [1, 2, 3]), "x0"),
    "an Index": (pd.Index([1.0, 2.0, 3.0]), "x0"),
    "an array of pandas": (pd.array([1, 2, 3], dtype="Int64"), "x0"),
    "pyarrow": (pa.array([1, 2, 3]), "x0"),
    "chunks of pyarrow": (ARROW["a"], "a"),
    "polars": (POLARS["a"], "a"),
    "polars, without a name": (pl.Series([1, 2, 3]), "x0"),
    "xarray": (xr.DataArray([1, 2, 3], dims="row", name="a"), "a"),
}
TEXTS: dict[str, Any] = {
    "a list": ["v", "u", "v"],
    "pyarrow": pa.array(["v", "u", "v"]),
    "a dictionary of pyarrow": pa.array(["v", "u", "v"]).dictionary_encode(),
    "a dictionary of Arrow in pandas": pd.Series(
        ["v", "u", "v"], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))
    ),
    "text of Arrow in pandas": pd.Series(["v", "u", "v"], dtype=pd.ArrowDtype(pa.string())),
    "polars": pl.Series(["v", "u", "v"]),
    "categories of polars": pl.Series(["v", "u", "v"], dtype=pl.Categorical),
    "an enumeration of polars": pl.Series(["v", "u", "v"], dtype=pl.Enum(["w", "u", "v"])),
    "xarray": xr.DataArray(np.array(["v", "u", "v"]), dims="row"),
}
MISSING: dict[str, Any] = {  # 1, nothing, 3
    "a list": [1.0, None, 3],
    "a list with NA": [1, pd.NA, 3],
    "objects": np.array([1, None, 3.0], dtype=object),
    "masked": np.ma.masked_array([1, 2, 3], mask=[False, True, False]),
    "nullable": pd.Series([1, None, 3], dtype="Int64"),
    "Arrow in pandas": pd.Series([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
    "a decimal": pa.array([Decimal(1), None, Decimal(3)]),
    "polars": pl.Series([1, None, 3]),
    "xarray": xr.DataArray([1, np.nan, 3]),
}


def made(x: Any) -> Any:
    """A container that can be read once only, anew."""
    return x() if callable(x) and getattr(x, "__name__", "") == "<lambda>" else x


def one(x: Tensor) -> None:
    """A program of one argument."""


def two(x: Tensor, y: Tensor) -> None:
    """A program of two arguments."""


def refusal(call: Callable[[], Any]) -> str:
    """The one line that a call ends in."""
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("kind", NAMED)
def test_a_table_of_any_library_keeps_its_names_as_a_whole_as_a_part_and_as_new_rows(kind: str) -> None:
    fitted, part, new = (made(NAMED[kind]) for _ in range(3))
    data = as_data(fitted, one)
    assert torch.equal(data.values, torch.tensor(NUMBERS))
    assert data.columns == ("a", "b")
    both = as_data({"x": part, "y": [0.5, 1.5, 2.5]}, two)
    assert both.kwargs["x"].tolist() == NUMBERS.tolist()
    assert both.tables == {"x": ("a", "b")}
    swapped = as_data(FRAME[["b", "a"]], one)  # so that columns must go by their names
    assert as_new_data(new, swapped, one).values.tolist() == NUMBERS[:, ::-1].tolist()


@pytest.mark.parametrize("kind", UNNAMED)
def test_an_array_of_any_kind_is_the_same_table(kind: str) -> None:
    x = UNNAMED[kind]
    assert torch.equal(as_data(x, one).values, torch.tensor(NUMBERS))
    assert as_data((x, x), two).args[1].tolist() == NUMBERS.tolist()
    like = replace(as_data((NUMBERS, NUMBERS), two), rows=3)
    assert torch.equal(as_new_data((x, x), like, two).args[0], torch.tensor(NUMBERS))
    assert torch.equal(as_new_data(x, as_data(FRAME, one)).values, torch.tensor(NUMBERS))


@pytest.mark.parametrize("kind", VECTORS)
def test_a_vector_of_any_kind_stays_one_and_keeps_its_name(kind: str) -> None:
    x, name = VECTORS[kind]
    data = as_data(x, one)
    assert torch.equal(data.values, torch.tensor([1.0, 2.0, 3.0]).double())
    assert data.columns == (name,)
    assert as_data({"x": x, "y": (1, 2)}, two).kwargs["x"].tolist() == [1, 2, 3]
    assert as_new_data(x, data).values.tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", TEXTS)
def test_text_of_any_kind_becomes_codes_and_keeps_its_categories(kind: str) -> None:
    declared = ("w", "u", "v") if "enumeration" in kind else ("u", "v")
    if kind == "categories of polars" or "dictionary" in kind:
        declared = ("v", "u")  # in the order in which they came
    data = as_data({"x": [1.0, 2.0, 3.0], "y": TEXTS[kind]}, two)
    assert data.coords == {"y": declared}
    assert [declared[code] for code in data.kwargs["y"]] == ["v", "u", "v"]
    like = replace(data, rows=3)
    assert as_new_data({"x": [1.0, 2.0, 3.0], "y": TEXTS[kind]}, like).kwargs["y"].equal(data.kwargs["y"])
    assert (
        "is of type category" in (line := refusal(lambda: as_data(TEXTS[kind], one))) or "'v' is not a number" in line
    )


@pytest.mark.parametrize("kind", MISSING)
def test_what_is_missing_is_told_by_its_row_whatever_holds_it(kind: str) -> None:
    x = MISSING[kind]
    data = as_data(x, one)
    assert data.values.isnan().tolist() == [False, True, False]
    assert data.missing == "x: column 'x0', row 1: is missing (NaN); drop the row or fill it in"
    assert as_data((x, 1), two).missing == "x[0], row 1: is missing (NaN); drop the row or fill it in"
    new = as_new_data(x, as_data([1.0, 2.0], one), one)
    assert new.missing == "x_new: column 'x0', row 1: is missing (NaN); drop the row or fill it in"
    with pytest.raises(InputError, match="row 1: is missing"):
        as_data(x, UnivariateMixture(1))


REFUSED: dict[str, tuple[Any, str]] = {
    "a sparse matrix": (sp.csr_matrix(NUMBERS), "is a sparse csr_matrix: give x.toarray()"),
    "a sparse array": (sp.coo_array(NUMBERS), "is a sparse coo_array"),
    "a generator": (lambda: (row for row in NUMBERS), "is a generator, which can be read once only: give a list"),
    "a map": (lambda: map(float, [1]), "is a map, which can be read once only"),
    "several levels": (pd.MultiIndex.from_tuples([(1, 2)]), "is a MultiIndex: give x.to_frame()"),
    "what fails": (Broken(), "is a Broken that cannot be read (OSError: out of paper): give a DataFrame"),
    "a lazy table that fails": (POLARS.lazy().select("c"), "is a LazyFrame that cannot be read (ColumnNotFoundError"),
    "dates": (pl.DataFrame({"a": [dt.date(2020, 1, 1)]}), "column 'a' is of type datetime64"),
    "dates of pyarrow": (pa.table({"a": [dt.date(2020, 1, 1)]}), "column 'a', row 0: a date is not a number"),
    "dates of Arrow": (
        pd.DataFrame({"a": pd.Series([dt.date(2020, 1, 1)], dtype="date32[pyarrow]")}),
        "is of type date",
    ),
    "records": (np.zeros(2, dtype="V4"), "is an array of records of type |V4"),
    "complex": ([1j, 2.0], "holds complex numbers"),
    "beyond all floats": (pd.DataFrame({"a": [1, 10**400]}), "column 'a', row 1: is beyond all floats"),
    "a long float": (np.array([1, np.longdouble("1e4000")]), "row 1: is infinite"),
    "nested": (
        torch.nested.as_nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "is a sparse tensor",
    ),
    "without data": (torch.ones(3, device="meta"), "cannot be read"),
    "categories of one name": (pd.Categorical([1, "1"]), "two categories that are written '1'"),
}
ONLY_ALONE: dict[str, tuple[Any, str]] = {  # which a model may have its own use for as a part
    "a set": ({1.0, 2.0}, "x is a set: give a DataFrame, an array, a tensor, a list of numbers"),
    "unlike lists": ([[1, 2], [3]], "row 0: a list is not a number"),
    "numbers and text": ([1, "a"], "row 1: 'a' is not a number"),
    "nothing": ([], "is empty (0 rows"),
    "bytes": (b"abc", "x is a bytes"),
    "a dict of lists": ({"a": [1, 2], "b": [3, 4]}, "x has 'a', which is no parameter of one: it takes x"),
    "a type": (np.ndarray, "x is a type"),
}


@pytest.mark.parametrize("kind", [*REFUSED, *ONLY_ALONE])
def test_what_cannot_be_laid_out_is_refused_in_one_line(kind: str) -> None:
    x, message = {**REFUSED, **ONLY_ALONE}[kind]
    codes = "categories" in kind  # alone any are refused
    assert ("category" if codes else message) in refusal(lambda: as_data(made(x), one))
    assert refusal(lambda: as_new_data(made(x), as_data([1.0, 2.0], one), one))
    if kind in REFUSED:
        line = refusal(lambda: as_data({"x": made(x), "y": 1}, two))
        assert message.partition(":")[0].replace("column 'x0', ", "").rpartition(", ")[2] in line
        assert line.startswith("x['x']")


def test_a_dataset_whose_variables_are_of_several_shapes_goes_by_the_names_of_the_parameters() -> None:
    rows = xr.Dataset({"y": ("row", [1.0, 2.0, 3.0]), "x": (("row", "column"), NUMBERS)}, coords={"column": ["a", "b"]})
    data = as_data(rows, two)
    assert torch.equal(data.kwargs["x"], torch.tensor(NUMBERS))
    assert data.tables == {"x": ("a", "b")}
    assert "x has 'y', which is no parameter of one" in refusal(lambda: as_data(rows, one))
    assert "x['x'] is a Dataset: give" in refusal(lambda: as_data({"x": rows, "y": 1}, two))


def test_columns_of_several_levels_keep_all_of_them() -> None:
    levels = pd.DataFrame(NUMBERS, columns=pd.MultiIndex.from_tuples([("a", "u"), ("a", "v")]))
    assert as_data(levels, one).columns == ("('a', 'u')", "('a', 'v')")
    assert as_new_data(levels.iloc[:, ::-1], as_data(levels, one)).values.tolist() == NUMBERS.tolist()


def test_whole_numbers_beyond_int64_are_no_others() -> None:
    data = as_data((np.array([2**63, 1], dtype=np.uint64), pd.Series([2**63, 1], dtype="UInt64")), two)
    for value in data.args:
        assert value.tolist() == [2.0**63, 1.0]


def test_a_hidden_number_of_a_mask_is_no_zero() -> None:
    assert np.isnan(as_data((np.ma.masked, 1), two).args[0])


@pytest.mark.parametrize("kind", ["list", "frame", "pyarrow", "polars", "whole numbers in a part", "a table in a part"])
def test_a_lone_outlier_is_named_whatever_holds_it(kind: str) -> None:
    numbers = [*range(20), 10**8]
    data: Data = {
        "list": lambda: as_data(numbers, one),
        "frame": lambda: as_data(pd.DataFrame({"x0": pd.Series(numbers, dtype="Int64")}), one),
        "pyarrow": lambda: as_data(pa.table({"x0": numbers}), one),
        "polars": lambda: as_data(pl.Series("x0", numbers), one),
        "whole numbers in a part": lambda: as_data((numbers, 1), two),
        "a table in a part": lambda: as_data((pl.DataFrame({"x0": numbers}), 1), two),
    }[kind]()
    (line,) = outliers(data)
    assert line.startswith("x, row 20 is 1e+08" if kind.startswith("whole") else "x: column 'x0', row 20 is 1e+08")


def test_codes_of_categories_have_no_outliers() -> None:
    assert not list(outliers(as_data((["a"] * 30 + ["b"], 1), two)))


@pytest.mark.parametrize("x", [pl.Series(["CCO", "N"]), pa.array(["CCO", "N"]), pa.table({"s": ["CCO", "N"]})])
def test_strings_of_any_library_are_strings(x: Any) -> None:
    model = SequenceVAE()
    assert as_data(x, model).equals(as_data(["CCO", "N"], SequenceVAE()))
    assert "can be read once only" in refusal(lambda: as_data((string for string in ["C"]), SequenceVAE()))


def test_no_other_library_is_imported_for_the_door() -> None:
    script = (
        "import sys; from pyrometer.inference.data.as_data import as_data; as_data([[1, 2], [3, 4]])\n"
        "before = set(sys.modules); as_data({'x': [1, 2], 'y': ['a', 'b']})\n"
        "assert 'polars' not in sys.modules and set(sys.modules) - before == set(), set(sys.modules) - before"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
