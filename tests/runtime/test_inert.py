"""No text in a CSV file is a formula, and every text comes back as it was."""

import pandas as pd
import pytest
from pyrometer.inference.runtime.inert import as_it_was, every_text, inert

TEXTS = [
    '=HYPERLINK("http://x","y")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''=1",
    "'quoted'",
    "plain",
    "",
    "'",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_no_formula_and_comes_back(text: str) -> None:
    assert not inert(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert as_it_was(inert(text)) == text


def test_numbers_are_left_alone() -> None:
    frame = pd.DataFrame({"bias": [-1.5], "worst": ["=1"]}, index=pd.Index(["-x"], name="fit"))
    changed = every_text(frame, inert)
    assert changed.loc["'-x"].tolist() == [-1.5, "'=1"]
    pd.testing.assert_frame_equal(every_text(changed, as_it_was), frame)
