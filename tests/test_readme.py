"""The README, held to its word: its examples run, its lists are complete."""

import re
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pyrometer
import pytest
from pyrometer.guides import AUTO, CATALOGUE
from pyrometer.inference.scores import COLUMNS

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)
SMOKE = {"steps": 60, "starts": 1, "warmup": 60, "draws": 60, "chains": 2, "progress": False}


@pytest.mark.parametrize("example", EXAMPLES, ids=["compare", "own model", "classics"])
def test_the_examples_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pyrometer, "compare", partial(pyrometer.compare, **SMOKE))  # type: ignore[arg-type]
    exec(compile(example, "README.md", "exec"), {})


def test_every_column_of_the_table_is_explained() -> None:
    explained = README.split("## Reading the table")[1].split("## ")[0]
    assert [name for name in COLUMNS if f"`{name}`" not in explained] == []


def test_every_guide_of_the_mixtures_is_listed() -> None:
    listed = README.split("## Models and guides")[1]
    names = {name for guides in CATALOGUE.values() for name in guides} | set(AUTO)
    assert [name for name in sorted(names) if f"`{name}`" not in listed] == []


def test_the_data_sets_are_listed() -> None:
    assert [name for name in pyrometer.datasets.DATASETS if f"`{name}`" not in README] == []
