"""Whatever a public function is given, it gives a result, or an InputError of one line, and leaves no trace."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyrometer
import pytest
import torch
from caller import state
from fuzz.api_calls import Call, api_calls
from fuzz.data_of_all_kinds import Given, given_data
from hypothesis import event, given, note, settings
from hypothesis import strategies as st
from pyrometer import Comparison, Fit, InputError
from pyrometer.inference.data.as_data import as_data
from pyrometer.inference.data.data import Data
from pyrometer.inference.data.new_data import as_new_data
from pyrometer.models import BayesianGMM
from torch import Tensor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="alarms of Unix")

EXAMPLES = settings().max_examples
SECONDS = 300  # of an example, which takes a few where nothing else is at work
LONGEST_LINE = 320  # characters
HOME = Path(pyrometer.__file__).parent
OURS = (str(HOME), str(HOME.resolve()))
THEIRS = re.compile(r"site-packages|dist-packages")


class TooLongError(BaseException):
    """Nobody catches it, where an Exception may be caught and passed over."""


def one(x: Tensor) -> None:
    """A program of one argument."""


def two(x: Tensor, y: Tensor) -> None:
    """A program of two arguments."""


@settings(max_examples=EXAMPLES // 2)
@given(x=given_data(), new=given_data(), part=st.booleans(), model=st.sampled_from([one, BayesianGMM(2)]))
def test_data_of_any_kind_come_in_or_are_refused_in_one_line(x: Given, new: Given, part: bool, model: Any) -> None:
    def door() -> None:
        fitted = as_data({"x": x.made(), "y": [1.0]}, two) if part else as_data(x.made(), model)
        known(fitted)
        known(as_new_data((new.made(), [1.0]) if part else new.made(), fitted, None if part else model))

    checked(door)


@settings(max_examples=EXAMPLES - EXAMPLES // 2)
@given(call=api_calls())
def test_a_call_gives_a_result_or_one_line(call: Call) -> None:
    found = checked(call.run)
    event(f"{call.function}: {'refused' if found is None else 'a result'}")
    if isinstance(found, Fit):
        sound_fit(found)
    if isinstance(found, Comparison):
        explained(found)


def checked(call: Callable[[], Any]) -> Any:
    """What it gives, None where it is refused, once all that must hold does."""
    before = state()
    with limited(), silent() as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = call()
        except InputError as error:
            found = None
            line = str(error)
            note(f"refused: {line}")
            assert 10 < len(line) <= LONGEST_LINE
            assert len(line.splitlines()) == 1
            assert "\x1b" not in line
    after = state()
    assert [key for key in before if before[key] != after[key]] == []
    assert printed() == ""
    for warning in warned:
        note(f"warned: {warnings.formatwarning(warning.message, warning.category, warning.filename, warning.lineno)}")
    assert [str(warning.message) for warning in warned if not ours(warning)] == []
    return found


def ours(warning: warnings.WarningMessage) -> bool:
    """Whether a warning is one of ours; what only developers are shown is nobody's."""
    if issubclass(warning.category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
        return True
    return warning.category is UserWarning and not THEIRS.search(warning.filename)


def known(data: Data) -> None:
    """What has come in is of numbers, and what is missing is told."""
    assert isinstance(data, Data)
    for value in data.tensors:
        assert not value.isinf().any()
        assert data.missing or not value.isnan().any()
        assert value.dtype in (torch.float64, torch.int64)


def sound_fit(fit: Fit) -> None:
    """Draws that are no numbers are told of."""
    draws = fit.draws()
    if not all(np.isfinite(values).all() for values in draws.values()):
        assert fit.message or fit.converged is False, "draws that are no numbers, and nothing said of it"
    assert all(len(values) for values in draws.values())


def explained(comparison: Comparison) -> None:
    """No infinity in the table, and no NaN where a number applies, or a line that names the fit."""
    table, said = comparison.table, "\n".join(comparison.remarks())
    numbers = table.select_dtypes("number")
    assert not np.isinf(numbers.to_numpy(float)).any(), table.to_string()
    for name, fit in comparison.fits.items():
        applies = ["seconds"] if not fit.is_point else []
        applies += ["elbo"] if len(fit.elbo_draws) else []
        applies += ["rhat"] if fit.is_mcmc else []
        applies += ["lpd_test"] if comparison.problem.test is not None and fit.structure.rows is not None else []
        for column in applies:
            if column in table and pd.isna(table.at[name, column]):
                assert name in said, f"{column} of {name} is NaN, and nothing is said of it"


@contextmanager
def limited() -> Iterator[None]:
    """An end after so many seconds."""

    def too_long(*_: object) -> None:
        raise TooLongError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def silent() -> Iterator[Callable[[], str]]:
    """What is printed meanwhile, by Python or around it."""
    kept, text = [os.dup(number) for number in (1, 2)], list[str]()
    with tempfile.TemporaryFile("w+") as file:
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            with redirect_stdout(file), redirect_stderr(file):
                yield lambda: "".join(text)
        finally:
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
            file.seek(0)
            text.append(file.read())
