"""The README, held to its word: its examples run, its lists are complete."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pyrometer
import pytest
from pyrometer.guides import AUTO, CATALOGUE
from pyrometer.inference.compare.columns import COLUMNS, ROW_COLUMNS, Column
from pyrometer.inference.local_latents.marginal import Budget

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)
SMOKE = {"steps": 60, "starts": 1, "warmup": 60, "draws": 60, "chains": 2, "progress": False}


def small(function: Callable[..., Any], **sizes: Any) -> Callable[..., Any]:
    """The function with these options, whatever it is called with."""
    return lambda *args, **options: function(*args, **{**options, **sizes})


@pytest.mark.filterwarnings("ignore:.*latent units are inactive")
@pytest.mark.parametrize(
    "example",
    EXAMPLES,
    ids=[
        *("compare", "explore", "any data", "own guide", "published", "calibrate"),
        *("classics", "components", "deterministic", "vae", "own parts", "labels", "strings"),
    ],
)
def test_the_examples_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    pyrometer.datasets.load("faithful")[:40].to_csv("mine.csv", index=False)
    monkeypatch.setattr(pyrometer, "explore", small(pyrometer.explore, reference=None))
    monkeypatch.setattr(pyrometer, "compare", small(pyrometer.compare, **SMOKE, rows=2))
    few = small(pyrometer.choose_components, components=range(1, 3), starts=1, draws=60, folds=2, progress=False)
    monkeypatch.setattr(pyrometer, "choose_components", few)
    monkeypatch.setattr(pyrometer, "calibrate", small(pyrometer.calibrate, simulations=50, progress=False, jobs=1))
    monkeypatch.setattr(pyrometer, "train", small(pyrometer.train, epochs=2, draws=5, progress=False))
    budget = Budget(draws=100, chains=4, temperatures=20)
    monkeypatch.setattr("pyrometer.inference.local_latents.gaps.CAREFUL", budget)
    monkeypatch.setattr(pyrometer, "score_strings", small(pyrometer.score_strings, budget=budget, ais_rows=2))
    exec(compile(example, "README.md", "exec"), {})


def test_eight_lines_lead_from_a_data_frame_to_the_verdict() -> None:
    example = next(text for text in EXAMPLES if "read_csv" in text)
    lines = [line for line in example.partition('["verdict"]')[0].splitlines() if line.strip()]
    assert len(lines) <= 8


@pytest.mark.parametrize(("columns", "section"), [(COLUMNS, "Reading the table"), (ROW_COLUMNS, "The VAE")])
def test_the_tables_of_columns_are_those_of_the_code(columns: tuple[Column, ...], section: str) -> None:
    lines = README.split(f"## {section}")[1].split("\n## ")[0].splitlines()
    listed = [line for line in lines if line.startswith("| `")]
    assert listed == [f"| `{column.name}` | {column.says} |" for column in columns]


def test_every_guide_of_the_mixtures_is_listed() -> None:
    listed = README.split("## Models and guides")[1]
    names = {name for guides in CATALOGUE.values() for name in guides} | set(AUTO)
    assert [name for name in sorted(names) if f"`{name}`" not in listed] == []


def test_the_data_sets_are_listed() -> None:
    assert [name for name in pyrometer.datasets.DATASETS if f"`{name}`" not in README] == []
