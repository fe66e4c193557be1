"""Strings come in by whatever holds them, become the same codes, and what is none is refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.inference.data.as_data import as_data
from pyrometer.inference.data.new_data import as_new_data
from pyrometer.models import SequenceVAE

STRINGS = ["CCO", "N", "C=O"]
CODES = torch.tensor([[1, 1, 3, 4], [2, 4, 4, 4], [1, 0, 3, 4]]).float()  # of "=CNO" and the end


def of_file(name: str, folder: Path) -> Path:
    """The strings in a file of that name."""
    path = folder / name
    if path.suffix == ".csv":
        pd.DataFrame({"smiles": STRINGS}).to_csv(path, index=False)
    else:
        path.write_text("\n".join(STRINGS) + "\n")
    return path


@pytest.mark.parametrize(
    "x",
    [
        STRINGS,
        tuple(STRINGS),
        np.array(STRINGS),
        np.array(STRINGS, dtype=object),
        pd.Series(STRINGS, index=list("abc")),
        pd.Series(STRINGS, dtype="string"),
        pd.DataFrame({"smiles": STRINGS}),
        "x.txt",
        "x.smi",
        "x.csv",
        "x.fasta-like",
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_whatever_holds_strings_gives_the_same_codes(x: Any, tmp_path: Path) -> None:
    x = of_file(x, tmp_path) if isinstance(x, str) else x
    model = SequenceVAE()
    data = as_data(x, model)
    assert torch.equal(data.values, CODES)
    assert torch.equal(as_data(str(x) if isinstance(x, Path) else x, model, dtype=torch.float64).values, CODES.double())
    assert torch.equal(as_new_data(STRINGS[:2], data, model).values, CODES[:2])


def test_a_data_set_of_strings_goes_by_its_name() -> None:
    assert as_data("grammar", SequenceVAE()).values.shape == (2000, 21)


def test_an_alphabet_that_is_given_may_be_larger_than_the_strings_need() -> None:
    model = SequenceVAE(alphabet="ONC=S", max_length=5)
    assert as_data(STRINGS, model).values.tolist()[1] == [1, 5, 5, 5, 5, 5]


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (["CC", ""], "x, row 1 is an empty string: drop it"),
        (["CC", None], "x, row 1 is missing: drop the row"),
        (pd.Series(["CC", np.nan]), "x, row 1 is missing: drop the row"),
        (["CC", 3], "x, row 1 is of type int and no string"),
        ([], "x is empty: give at least one string"),
        (np.ones((3, 2)), "x is a ndarray: give a list of strings"),
        ({"x": STRINGS}, "x is a dict: give a list of strings"),
        (pd.DataFrame({"a": STRINGS, "b": STRINGS}), "x has 2 columns \\(a, b\\): choose the one"),
        ("nowhere.smi", "there is no file nowhere.smi"),
        ("CCO", "'CCO' is no data set and no file: give a path, or a list of strings"),
    ],
)
def test_what_is_no_string_is_refused_in_one_line(x: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        as_data(x, SequenceVAE())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (
            ["CS"],
            "x_test, row 0: 'CS' holds 'S', a character not seen in training and not in the alphabet '=CNO': drop it",
        ),
        (["CC", ""], "x_test, row 1 is an empty string"),
        (["CC", "CCCC"], "x_test, row 1: 'CCCC' has 4 characters, and max_length is 3: drop it, or give the model"),
    ],
)
def test_new_strings_that_the_model_cannot_read_are_refused_in_one_line(new: list[str], says: str) -> None:
    model = SequenceVAE()
    data = as_data(STRINGS, model)
    with pytest.raises(InputError, match=says) as caught:
        as_new_data(new, data, model, name="x_test")
    assert "\n" not in str(caught.value)
