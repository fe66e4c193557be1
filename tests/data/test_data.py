"""Whatever holds the same numbers gives the same tensor, and every bad input is named with its column and row."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.inference.data.as_data import as_data
from pyrometer.inference.data.data import Data
from pyrometer.inference.data.new_data import as_new_data
from pyrometer.models import GMM, VAE, BayesianGMM, CorrelatedGaussian, UnivariateMixture

NUMBERS = np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 9.0]])
FRAME = pd.DataFrame(NUMBERS, columns=["a", "b"])


def masking(x: torch.Tensor) -> None:
    """A program of one argument, which nobody runs here."""


def refusal(x: Any, model: Any = None, **options: Any) -> str:
    """The one line that `x` is refused with."""
    with pytest.raises(InputError) as caught:
        as_data(x, model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "x",
    [
        FRAME,
        FRAME.astype("Float64"),
        FRAME.astype("Int64"),
        FRAME.astype("float32"),
        FRAME.astype(object),
        FRAME.set_index(pd.Index(["r", "s", "t"])),
        NUMBERS,
        np.asfortranarray(NUMBERS),
        NUMBERS.astype(int),
        np.ma.masked_array(NUMBERS),
        torch.tensor(NUMBERS),
        torch.tensor(NUMBERS, requires_grad=True),
        torch.tensor(NUMBERS, dtype=torch.bfloat16),
        torch.tensor(NUMBERS, dtype=torch.int32),
        Data((torch.tensor(NUMBERS),), columns=("a", "b")),
    ],
    ids=lambda x: type(x).__name__,
)
def test_every_container_gives_the_same_tensor(x: Any) -> None:
    data = as_data(x)
    assert data.values.dtype == torch.float64
    assert not data.values.requires_grad
    assert torch.equal(data.values, torch.tensor(NUMBERS))
    assert data.columns == (("a", "b") if isinstance(x, pd.DataFrame | Data) else ("x0", "x1"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_path_gives_the_same_tensor_and_names(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    FRAME.to_parquet(path) if suffix == "parquet" else FRAME.to_csv(path)
    assert torch.equal(as_data(path).values, torch.tensor(NUMBERS))
    assert as_data(str(path)).columns == ("a", "b")


def test_a_shipped_name_is_read() -> None:
    assert as_data("faithful", GMM(2)).values.shape == (272, 2)


@pytest.mark.parametrize(
    ("x", "column"),
    [
        (FRAME["b"], "b"),
        (pd.Series([5.0, 4.0, 9.0]), "x0"),
        (NUMBERS[:, 1], "x0"),
        (torch.tensor(NUMBERS)[:, 1], "x0"),
    ],
    ids=["named series", "series", "array", "tensor"],
)
def test_a_vector_stays_a_vector(x: Any, column: str) -> None:
    data = as_data(x)
    assert torch.equal(data.values, torch.tensor([5.0, 4.0, 9.0], dtype=torch.float64))
    assert data.columns == (column,)


@pytest.mark.parametrize("x", [FRAME, NUMBERS, torch.tensor(NUMBERS)], ids=["frame", "array", "tensor"])
def test_the_callers_data_are_not_shared(x: Any) -> None:
    as_data(x).values.zero_()
    assert np.array_equal(np.asarray(x), [[1, 5], [2, 4], [3, 9]])


def test_booleans_are_zero_and_one() -> None:
    frame = pd.DataFrame({"a": [True, False], "b": pd.array([False, True], dtype="boolean")})
    assert as_data(frame).values.tolist() == [[1, 0], [0, 1]]


def test_the_dtype_can_be_given() -> None:
    assert as_data(NUMBERS.astype("float32")).dtype == torch.float64
    assert as_data(NUMBERS, dtype=torch.float32).values.dtype == torch.float32
    assert as_data((NUMBERS, 2), dtype=torch.float32).dtype == torch.float32
    assert as_data(as_data(NUMBERS), dtype=torch.float32).values.dtype == torch.float32
    assert as_data((np.arange(3),), dtype=torch.float32).dtype == torch.float32


def test_column_names_of_any_kind_become_text() -> None:
    assert as_data(pd.DataFrame(NUMBERS)).columns == ("0", "1")


def test_arrays_of_any_number_of_dimensions_keep_their_shape() -> None:
    images = np.arange(24.0).reshape(2, 1, 3, 4)
    assert torch.equal(as_data(images).values, torch.tensor(images))


def with_value(value: object, column: str = "b", row: int = 1) -> pd.DataFrame:
    """FRAME with one value replaced, its column of whatever dtype pandas makes of that."""
    values: list[object] = FRAME[column].tolist()
    values[row] = value
    return FRAME.assign(**{column: values})


@pytest.mark.parametrize("value", [float("nan"), None, pd.NA])
def test_a_missing_value_is_named_by_column_and_row(value: object) -> None:
    line = "x: column 'b', row 1: is missing (NaN); drop the row or fill it in"
    assert refusal(with_value(value), GMM(1)) == line
    data = as_data(with_value(value), masking)
    assert data.missing == line
    assert data.values.isnan().tolist() == [[False, False], [False, True], [False, False]]


def test_a_missing_value_is_found_in_nullable_masked_and_plain_arrays() -> None:
    holes = NUMBERS.copy()
    holes[2, 0] = np.nan
    masked = np.ma.masked_array(NUMBERS, mask=np.isnan(holes))
    nullable = FRAME.astype("Float64").mask(pd.DataFrame(np.isnan(holes), columns=["a", "b"]))
    assert as_data(holes).missing.startswith("x: column 'x0', row 2: is missing")
    assert as_data(torch.tensor(holes)).missing.startswith("x: column 'x0', row 2: is missing")
    assert as_data(masked).missing.startswith("x: column 'x0', row 2: is missing")
    assert as_data(nullable).missing.startswith("x: column 'a', row 2: is missing")


def test_the_number_of_further_bad_rows_is_told() -> None:
    assert "and 1 more" in as_data(np.array([[1.0], [np.nan], [np.nan]])).missing


def test_a_row_is_also_called_by_its_label() -> None:
    assert "row 1 (label 's')" in as_data(with_value(np.nan).set_index(pd.Index(["r", "s", "t"]))).missing


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_an_infinite_value_is_named_by_column_and_row(value: float) -> None:
    assert refusal(with_value(value)).startswith("x: column 'b', row 1: is infinite")
    assert refusal(torch.tensor([1.0, 2.0, value])).startswith("x: column 'x0', row 2: is infinite")


@pytest.mark.parametrize(
    "values", [[1.0, "?", 3.0], pd.Series(["1", "?", "3"]), pd.Series(["1", "?", None], dtype="string")]
)
def test_a_text_value_among_numbers_is_named_by_column_and_row(values: Any) -> None:
    assert "column 'b', row 1: '?'" in refusal(FRAME.assign(b=values))


def test_a_text_value_in_a_file_is_named_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n2,n.k.\n")
    assert refusal(tmp_path / "x.csv").startswith(f"{tmp_path / 'x.csv'}: column 'b', row 1: 'n.k.' is not a number")


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2", "3"],
        pd.Categorical([1, 2, 3]),
        pd.Categorical([True, False, True]),
        [dt.datetime(2020, 1, day) for day in (1, 2, 3)],
        [dt.timedelta(day) for day in (1, 2, 3)],
        [1 + 2j, 2, 3],
        [[1], [2], [3]],
        [1.0, dt.date(2020, 1, 1), 3.0],
    ],
    ids=["text of numbers", "categorical", "boolean categorical", "dates", "durations", "complex", "lists", "a date"],
)
def test_a_column_that_holds_no_real_numbers_is_named(values: Any) -> None:
    assert refusal(FRAME.assign(b=values)).startswith("x: column 'b'")


def test_numbers_spelt_out_are_refused_with_the_way_to_read_them() -> None:
    assert refusal(FRAME.assign(b=["1", "2", "3"])).endswith("convert it with pandas.to_numeric")


def test_complex_tensors_and_text_arrays_are_refused() -> None:
    assert "complex" in refusal(torch.tensor([1 + 2j, 2]))
    assert "row 0: 'u' is not a number" in refusal(np.array([["u"], ["v"]]))


@pytest.mark.parametrize("x", [FRAME.iloc[:0], FRAME[[]], np.empty((0, 2)), np.empty((3, 0)), torch.empty(0)])
def test_an_empty_table_is_refused(x: Any) -> None:
    assert "is empty" in refusal(x)


@pytest.mark.parametrize("model", [GMM(1), BayesianGMM(1), CorrelatedGaussian()], ids=lambda m: type(m).__name__)
def test_mixtures_refuse_constant_columns_single_rows_and_further_dimensions(model: Any) -> None:
    frame = FRAME.assign(b=7)
    assert refusal(frame, model) == "x: column 'b' is 7 in every row: drop it"
    assert "x_test has one row" in refusal(FRAME.iloc[:1], model, name="x_test")
    flatten = "; flatten each row with x.reshape(len(x), -1)"
    assert refusal(np.zeros((2, 3, 4)), model) == f"x has 3 dimensions, shape (2, 3, 4), but needs 1 or 2{flatten}"
    assert as_data(frame, masking).values[:, 1].tolist() == [7, 7, 7]
    assert as_data(FRAME.iloc[:1], masking).values.shape == (1, 2)


@pytest.mark.parametrize("model", [GMM(1), BayesianGMM(1), CorrelatedGaussian()], ids=lambda m: type(m).__name__)
def test_mixtures_refuse_a_column_whose_variance_is_no_number_and_take_one_in_any_other_unit(model: Any) -> None:
    alike = "x: column 'b': numbers that lie 2e-180 apart are too alike to compute with in torch.float64"
    assert refusal(FRAME.assign(b=[3e-180, 1e-180, 2e-180]), model) == f"{alike}; rescale the column"
    assert as_data(FRAME.assign(b=[3e-140, 1e-140, 2e-140]), model).values.shape == (3, 2)


def test_fewer_rows_than_components_are_refused() -> None:
    assert as_data(FRAME, GMM(3)).values.shape == (3, 2)
    assert refusal(FRAME, GMM(4)).startswith("x has 3 rows, fewer than 4 components")


def test_a_wrong_number_of_columns_is_refused_by_the_model_that_has_it() -> None:
    wide = FRAME.assign(c=[1.0, 3.0, 2.0])
    assert "two columns, and x has 3" in refusal(wide, CorrelatedGaussian())
    assert "one column, and x_test has 3" in refusal(wide, UnivariateMixture(2), name="x_test")


def test_a_vae_takes_pictures_in_its_dtype_and_refuses_other_pixels_and_channels_last() -> None:
    pictures = np.zeros((5, 3, 8, 8))
    assert as_data(pictures, VAE()).values.dtype == torch.float32
    assert as_data(pictures, VAE(), dtype=torch.float64).values.dtype == torch.float64
    assert as_data(np.zeros((5, 28, 4)), VAE()).values.shape == (5, 28, 4)
    assert "likelihood wants entries within [0, 1], and x has 2 to 2" in refusal(
        pictures + 2, VAE(likelihood="bernoulli")
    )
    for channels in (1, 3, 4):
        line = refusal(np.zeros((5, 8, 8, channels)), VAE())
        assert "last axis, 3, holds the" in line
        assert "x.transpose(0, 3, 1, 2)" in line
    assert as_data(np.zeros((5, 3, 3, 3)), VAE()).values.shape == (5, 3, 3, 3)
    with pytest.raises(InputError, match=r"within \[0, 1\], and x_test has 2 to 2"):
        as_new_data(pictures + 2, as_data(pictures, VAE()), VAE(likelihood="bernoulli"), name="x_test")


@pytest.mark.parametrize("x", [np.float64(1.0), torch.tensor(1.0)])
def test_a_number_is_no_table(x: Any) -> None:
    assert "x has 0 dimensions, shape ()" in refusal(x)


def test_two_columns_of_one_name_are_refused() -> None:
    assert "2 columns called 'a'" in refusal(FRAME.set_axis(["a", "a"], axis=1))
    assert "2 columns called '0'" in refusal(FRAME.set_axis([0, "0"], axis=1))


def test_what_is_no_table_at_all_is_refused() -> None:
    assert "is a NoneType" in refusal(None)
    assert "to_dense" in refusal(torch.eye(3).to_sparse())


def test_data_are_equal_where_they_hold_the_same_numbers_and_miss_the_same() -> None:
    holes = np.array([1.0, np.nan, 3.0])
    assert as_data(holes).equals(as_data(holes.copy()))
    assert not as_data(holes).equals(as_data(np.nan_to_num(holes)))
    assert not as_data(holes).equals(as_data((holes, holes)))
    assert not as_data(NUMBERS).equals(as_data(NUMBERS, dtype=torch.float32))
    assert not as_data(NUMBERS).equals(as_data(NUMBERS[:2]))


def test_bad_files_are_refused_here_too(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("a,b\n")
    assert "is empty (0 rows, 2 columns)" in refusal(tmp_path / "x.csv")


def test_new_columns_are_matched_by_name_and_others_left_aside() -> None:
    new = pd.DataFrame({"species": ["u"], "b": [8.0], "a": [7.0]})
    assert as_new_data(new, as_data(FRAME)).values.tolist() == [[7.0, 8.0]]


@pytest.mark.parametrize("new", [np.array([[7.0, 8.0]]), torch.tensor([[7, 8]])], ids=["array", "tensor"])
def test_new_rows_without_names_are_matched_by_position(new: Any) -> None:
    x = as_new_data(new, as_data(FRAME, dtype=torch.float32)).values
    assert x.dtype == torch.float32
    assert x.tolist() == [[7.0, 8.0]]


def test_new_names_are_matched_by_position_to_data_that_had_none() -> None:
    assert as_new_data(FRAME[["b", "a"]], as_data(NUMBERS)).values.tolist() == FRAME[["b", "a"]].to_numpy().tolist()


def test_new_data_take_the_shape_of_the_fitted() -> None:
    vector, column = as_data(FRAME["a"]), as_data(FRAME[["a"]])
    assert as_new_data(FRAME, vector).values.shape == (3,)
    assert as_new_data(FRAME["a"], column).values.shape == (3, 1)
    assert as_new_data(FRAME[["b", "a"]], column).values.tolist() == FRAME[["a"]].to_numpy().tolist()
    images = np.zeros((5, 1, 2, 2))
    assert as_new_data(images[:2], as_data(images)).values.shape == (2, 1, 2, 2)


def test_a_missing_column_of_new_data_is_named() -> None:
    with pytest.raises(InputError, match=r"x_new lacks column 'b' .* its columns are a, c"):
        as_new_data(FRAME.rename(columns={"b": "c"}), as_data(FRAME))


@pytest.mark.parametrize("new", [np.zeros((2, 3)), np.zeros(2), np.float64(1.0), np.zeros((2, 2, 2))])
def test_new_rows_of_another_length_are_refused(new: Any) -> None:
    with pytest.raises(InputError, match=r"the fitted data have 2 columns \(a, b\)"):
        as_new_data(new, as_data(FRAME))


def test_new_arrays_of_more_columns_or_with_axes_moved_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 3\), but the fitted data have 2 columns"):
        as_new_data(np.zeros((2, 3)), as_data(NUMBERS))
    with pytest.raises(InputError, match=r"the fitted data have rows of shape \(3, 8, 8\)"):
        as_new_data(np.zeros((2, 8, 8, 3)), as_data(np.zeros((2, 3, 8, 8))))


def test_new_data_are_checked_like_the_fitted() -> None:
    with pytest.raises(InputError, match="x_test: column 'b', row 1: is missing"):
        as_new_data(with_value(np.nan), as_data(FRAME), GMM(1), name="x_test")
    assert "x_new: column 'b', row 1" in as_new_data(with_value(np.nan), as_data(FRAME), masking).missing
    with pytest.raises(InputError, match="is empty"):
        as_new_data(FRAME.iloc[:0], as_data(FRAME))
