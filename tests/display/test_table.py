"""A table on a screen: rounded as told, dashes where nothing is, marks that are read without colours, all escaped."""

import re

import numpy as np
import pandas as pd
from pyrometer.display.table import Cell, Mark, Table, as_html, as_text, mark, table_of

FRAME = pd.DataFrame(
    {"elbo": [-1.2345, -2.0], "elbo_se": [0.021, np.nan], "worst": ["tau", None], "steps": [np.nan, 1500.0]},
    index=["a", "b"],
)
DECIMALS = {"elbo": 2, "elbo_se": 2, "steps": 0}


def starred(row: str, column: str) -> tuple[Mark, str] | None:
    return {("a", "elbo"): ("best", "the most"), ("b", "elbo"): ("doubtful", "too low")}.get((row, column))  # type: ignore[return-value]


def cells_of(html: str) -> list[list[str]]:
    """The texts of the cells, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", html.partition("<tbody>")[2], re.S)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows]


def test_text_and_html_round_alike_and_have_dashes_where_nothing_is() -> None:
    table = table_of(FRAME, DECIMALS)
    assert as_text(table).split("\n")[1].split() == ["a", "-1.23", "0.02", "tau", "-"]
    assert as_text(table).split("\n")[2].split() == ["b", "-2.00", "-", "-", "1500"]
    assert cells_of(as_html(table)) == [["a", "-1.23 ± 0.02", "tau", "-"], ["b", "-2.00", "-", "1500"]]


def test_a_number_of_hundreds_of_digits_has_a_power_of_ten() -> None:
    frame = pd.DataFrame({"elbo": [-1.2345e280, -1.2345e9, -np.inf]})
    assert as_text(table_of(frame, DECIMALS)).split() == [
        "elbo",
        "0",
        "-1.234e+280",
        "1",
        "-1234500000.00",
        "2",
        "-inf",
    ]


def test_marks_are_read_without_colours() -> None:
    table = mark(table_of(FRAME, DECIMALS), starred)
    assert "-1.23*" in as_text(table)
    assert "-2.00!" in as_text(table)
    html = as_html(table)
    assert '<td class="best" title="the most">-1.23 ± 0.02</td>' in html
    assert '<td class="doubtful" title="too low">-2.00</td>' in html
    assert '<p class="key"><span class="best">the most</span>' in html
    assert '<p class="key">' not in as_html(table_of(FRAME, DECIMALS))


def test_a_verdict_is_a_word_in_its_colour() -> None:
    html = as_html(Table({"a": {"verdict": Cell("not to be trusted", "bad", "bias 2")}}))
    assert '<span class="chip bad" title="bias 2">not to be trusted</span>' in html


def test_names_notes_and_texts_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    frame = pd.DataFrame({evil: [evil]}, index=['"><img src=x onerror=alert(1)>'])
    html = as_html(table_of(frame, {}, {evil: '" onmouseover="alert(1)'}), [evil], evil)
    assert re.findall(r"<script|<img|\son\w+=\"", html) == []
    assert html.count("&lt;script&gt;") == 4


def test_a_table_without_rows_is_a_table() -> None:
    assert cells_of(as_html(table_of(FRAME.iloc[:0], DECIMALS))) == []
    assert "Empty" in as_text(table_of(FRAME.iloc[:0], DECIMALS))
