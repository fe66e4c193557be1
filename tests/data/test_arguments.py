"""A model is called with what it takes: by position, by name, by column; new data have the structure of the fitted."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from pyrometer.errors import InputError
from pyrometer.inference.data.as_data import as_data
from pyrometer.inference.data.data import Data
from pyrometer.inference.data.new_data import as_new_data
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

HEIGHT, EARNINGS, SEX = np.array([1.6, 1.7, 1.8]), np.array([1.0, 3.0, 2.0]), ["f", "m", "f"]
FRAME = pd.DataFrame({"earnings": EARNINGS, "height": HEIGHT, "sex": SEX, "surplus": "?"})


def regression(height: Tensor, earnings: Tensor, sex: Tensor | None = None, batch_size: int | None = None) -> None:
    """earnings_n ~ Normal(slope height_n, 1)."""
    slope = pyro.sample("slope", dist.Normal(height.new_zeros(()), 1.0))
    with pyro.plate("data", len(height)):
        pyro.sample("earnings", dist.Normal(slope * height, 1.0), obs=earnings)


@dataclass(frozen=True)
class Regression:
    """The same as a dataclass."""

    def __call__(self, height: Tensor, earnings: Tensor) -> None:
        """Nobody runs this."""


class Network(PyroModule):
    """The same as a module."""

    def forward(self, height: Tensor, earnings: Tensor) -> None:
        """Nobody runs this."""


def one(x: Tensor) -> None:
    """A program of one argument."""


def any_of(*args: Any, **kwargs: Any) -> None:
    """A program of any arguments."""


def refusal(x: Any, model: Any = None) -> str:
    """The one line that `x` is refused with."""
    with pytest.raises(InputError) as caught:
        as_data(x, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def new_refusal(x: Any, like: Data, model: Any = None) -> str:
    """The one line that new data are refused with."""
    with pytest.raises(InputError) as caught:
        as_new_data(x, like, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def frozen(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, Tensor) else values


@pytest.mark.parametrize(
    "model",
    [Regression(), Network(), pyro.poutine.condition(Network(), {}), partial(regression, sex=None)],
    ids=["dataclass", "module", "handler", "partial"],
)
def test_the_columns_of_a_table_go_to_the_parameters_of_their_names(model: Any) -> None:
    data = as_data(FRAME, model)
    assert list(data.kwargs) == ["height", "earnings"]
    assert data.kwargs["height"].tolist() == HEIGHT.tolist()
    assert data.kwargs["earnings"].tolist() == EARNINGS.tolist()
    assert (data.args, data.columns) == ((), ())


def test_a_missing_column_is_named_with_those_there_are() -> None:
    line = "x lacks 'height', a parameter of regression: it has earnings, sex, surplus"
    assert refusal(FRAME.drop(columns="height"), regression) == line
    assert "x is empty (0 rows" in refusal(FRAME.iloc[:0], regression)
    assert "give a tuple or a mapping" in refusal(HEIGHT, regression)
    assert "2 columns called 'sex'" in refusal(FRAME.set_axis(["earnings", "height", "sex", "sex"], axis=1), regression)


def test_a_model_of_one_required_parameter_takes_the_whole_table_unless_its_columns_are_named() -> None:
    def optional(height: Tensor, earnings: Tensor | None = None) -> None:
        """A program that may be given what it observes."""

    assert as_data(FRAME[["earnings", "height"]], one).values.shape == (3, 2)
    assert as_data(FRAME[["height", "sex"]].assign(sex=1), optional).values.shape == (3, 2)
    assert list(as_data(FRAME, optional).kwargs) == ["height", "earnings"]
    assert as_data(FRAME[["earnings", "height"]], any_of).values.shape == (3, 2)


def test_a_parameter_with_a_default_is_filled_where_a_column_has_its_name_and_batch_size_never() -> None:
    assert list(as_data(FRAME, regression).kwargs) == ["height", "earnings", "sex"]
    assert list(as_data(FRAME.drop(columns="sex").assign(batch_size=3), regression).kwargs) == ["height", "earnings"]
    assert "'batch_size', which is no parameter" in refusal(
        {"height": HEIGHT, "earnings": EARNINGS, "batch_size": 2}, regression
    )


def test_what_a_partial_binds_is_no_longer_asked_of_the_data() -> None:
    assert as_data(FRAME[["height"]], partial(regression, earnings=torch.ones(3))).values.shape == (3, 1)
    bound = as_data(FRAME, partial(regression, earnings=torch.ones(3)))
    assert list(bound.kwargs) == ["height", "sex"]


def test_a_mapping_goes_by_name_and_unknown_names_are_refused() -> None:
    data = as_data({"earnings": EARNINGS, "height": torch.tensor(HEIGHT)}, regression)
    assert list(data.kwargs) == ["height", "earnings"]
    assert data.kwargs["height"].dtype == torch.float64
    assert refusal({"height": HEIGHT, "weight": HEIGHT}, regression) == (
        "x has 'weight', which is no parameter of regression: it takes height, earnings, sex"
    )
    assert "lacks 'earnings'" in refusal({"height": HEIGHT}, regression)
    assert as_data({"anything": HEIGHT}, any_of).kwargs["anything"].shape == (3,)


def test_in_a_tuple_whole_numbers_stay_whole_and_what_is_no_array_is_untouched() -> None:
    marker = object()
    x = (HEIGHT.astype("float32"), np.array([0, 2, 1]), np.array([True, False, True]), 3, np.float64(2.5), "a", None)
    data = as_data((*x, marker, ["a", 2], [1, 2]), any_of)
    kinds = [value.dtype for value in data.args[:3]]
    assert kinds == [torch.float64, torch.int64, torch.float64]
    assert data.args[3:-1] == (3, 2.5, "a", None, marker, ["a", 2])
    assert frozen(data.args[-1]) == [1, 2]
    assert type(data.args[4]) is float
    assert data.run(lambda *args: len(args)) == 10
    assert "3 parts, but Regression takes height, earnings" in refusal((HEIGHT, EARNINGS, 3), Regression())
    assert "lacks 'earnings'" in refusal((HEIGHT,), regression)


def test_nullable_and_masked_whole_numbers_stay_whole_unless_one_is_missing() -> None:
    whole = pd.Series([1, 2, 3], dtype="Int64")
    data = as_data((whole, whole.mask(whole == 2), np.ma.masked_array([1, 2], mask=[False, True])), any_of)
    assert [frozen(value.nan_to_num(nan=-1)) for value in data.args] == [[1, 2, 3], [1, -1, 3], [1, -1]]
    assert data.args[0].dtype == torch.int64
    assert data.missing == "x[1], row 1: is missing (NaN); drop the row or fill it in"


def test_categories_become_codes_with_their_names() -> None:
    data = as_data(FRAME, regression)
    assert data.kwargs["sex"].dtype == torch.int64
    assert data.kwargs["sex"].tolist() == [0, 1, 0]
    assert data.coords == {"sex": ("f", "m")}
    ordered = pd.Categorical(["lo", "hi", "lo"], categories=["lo", "mid", "hi"])
    for x in ({"a": HEIGHT, "b": ordered}, {"a": HEIGHT, "b": pd.Series(ordered)}):
        data = as_data(x)
        assert data.kwargs["b"].tolist() == [0, 2, 0]
        assert data.coords == {"b": ("lo", "mid", "hi")}
    assert as_data((HEIGHT, np.array(["u", "v", "u"])), Regression()).coords == {"earnings": ("u", "v")}
    assert as_data(pd.DataFrame({"a": ["u"], "b": [1.0]})[["b"]], one).coords == {}


def test_a_category_that_is_missing_or_a_text_of_numbers_is_refused() -> None:
    assert "x: column 'sex', row 1: is missing" in refusal(FRAME.assign(sex=["f", None, "m"]), regression)
    assert "row 1: '?' is not a number" in refusal(FRAME.assign(sex=["1", "?", "2"]), regression)
    assert "make it a parameter of the model by its name" in refusal(FRAME, one)


def test_a_missing_value_of_a_column_is_kept_and_an_infinite_one_refused() -> None:
    data = as_data(FRAME.assign(earnings=[1.0, np.nan, 2.0]), regression)
    assert data.missing == "x: column 'earnings', row 1: is missing (NaN); drop the row or fill it in"
    assert data.kwargs["earnings"].isnan().tolist() == [False, True, False]
    assert "x['height'], row 2: is infinite" in refusal({"height": np.array([1.0, 2.0, np.inf])})


def test_reading_a_loader_leaves_the_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    as_data(DataLoader(TensorDataset(torch.arange(8.0).reshape(4, 2)), batch_size=2, shuffle=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_of_single_vectors_gives_their_matrix() -> None:
    rows = torch.arange(6.0).double().reshape(3, 2)
    for x in (DataLoader(TensorDataset(rows), batch_size=None), DataLoader(TensorDataset(rows), batch_size=2)):
        assert torch.equal(as_data(x).values, rows)
    batches: Any = [rows[:2, 0], rows[2:, 0]]  # of different lengths: no rows of one matrix
    assert torch.equal(as_data(DataLoader(batches, batch_size=None)).values, rows[:, 0])


def test_new_columns_are_matched_by_name_with_the_categories_of_the_fitted() -> None:
    like = replace(as_data(FRAME, regression), rows=3)
    new = as_new_data(pd.DataFrame({"sex": ["m"], "earnings": [1], "height": [2]}), like, regression)
    assert {key: frozen(value) for key, value in new.kwargs.items()} == {
        "height": [2.0],
        "earnings": [1.0],
        "sex": [1],
    }
    assert new.kwargs["height"].dtype == torch.float64
    assert (new.rows, new.coords) == (1, like.coords)
    assert new_refusal(FRAME.assign(sex="d"), like) == (
        "x_new: column 'sex', row 0: 'd' is no category of the fitted data (f, m), and 2 more; drop the row"
    )


def test_what_is_constant_may_be_left_out_of_new_data() -> None:
    like = replace(as_data((HEIGHT, np.arange(2.0), 7, None, EARNINGS), any_of), rows=3)
    new = as_new_data((HEIGHT[:2], None, None, None, EARNINGS[:2]), like)
    assert [frozen(value) for value in new.args] == [[1.6, 1.7], [0.0, 1.0], 7, None, [1.0, 3.0]]
    assert new.rows == 2
    assert as_new_data((HEIGHT[:2], None, 2, None, EARNINGS[:2]), like).args[2] == 2
    assert "2 parts, but the fitted data have 5" in new_refusal((HEIGHT, EARNINGS), like)


def test_parts_of_new_data_have_as_many_rows_of_the_fitted_shape() -> None:
    like = replace(as_data((np.ones((3, 2)), EARNINGS), any_of), rows=3)
    assert new_refusal((np.ones((4, 2)), EARNINGS), like) == (
        "x_new[0] has 4 rows, x_new[1] has 3 rows: give as many of each"
    )
    assert "x_new[0] has shape (4, 3), but the fitted data have rows of shape (2,)" in new_refusal(
        (np.ones((4, 3)), EARNINGS), like
    )
    assert "x_new[1] is a float" in new_refusal((np.ones((4, 2)), 1.0), like)


def test_what_is_only_observed_is_filled_with_zeros_and_a_covariate_never() -> None:
    like = replace(as_data({"height": HEIGHT, "earnings": EARNINGS}, regression), rows=3)
    new = as_new_data({"height": HEIGHT[:2]}, like, regression)
    assert new.kwargs["earnings"].tolist() == [0.0, 0.0]
    assert new.rows == 2
    assert as_new_data(FRAME[["height"]], like, regression).kwargs["earnings"].tolist() == [0.0] * 3
    assert "lacks 'height'" in new_refusal({"earnings": EARNINGS}, like, regression)
    assert "give new values" in new_refusal({}, like, regression)


def test_the_columns_of_a_table_among_others_are_matched_by_name() -> None:
    table = FRAME[["height", "earnings"]]
    like = replace(as_data((table, EARNINGS), any_of), rows=3)
    new = as_new_data((table[["earnings", "height"]].assign(more=0), EARNINGS), like)
    assert torch.equal(new.args[0], like.args[0])
    assert "lacks column 'height'" in new_refusal((table[["earnings"]], EARNINGS), like)


def test_without_rows_everything_is_to_be_given_anew() -> None:
    like = as_data({"height": HEIGHT, "earnings": EARNINGS}, regression)
    assert "lacks 'earnings'" in new_refusal({"height": HEIGHT}, like)
    new = as_new_data({"height": HEIGHT[:2], "earnings": EARNINGS[:2]}, like)
    assert (new.rows, new.kwargs["height"].shape) == (None, (2,))


def test_data_made_before_come_back_unless_their_categories_differ() -> None:
    like = replace(as_data(FRAME, regression), rows=3)
    assert as_data(like, regression) is like
    assert as_new_data(like.take(slice(2)), like).rows == 2
    assert "other columns or categories" in new_refusal(as_data(FRAME.assign(sex="m"), regression), like)
