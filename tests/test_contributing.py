"""CONTRIBUTING.md, held to its word: its recipes work on a copy of the package, its rooms are those of the imports."""

import ast
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)
LONGEST = 10  # lines of code of a recipe; imports, docstrings and blank lines aside
LISTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
PACKAGE = sorted({name.split(".")[1] for name in LISTED if "." in name})
ROOMS = re.findall(r"^\| `([\w/]+)` \|", PAGE.split("## The rooms")[1].split("\n## ")[0], re.M)
RECIPES = dict(re.findall(r"^## (Add an? \w+)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))
WAITS = [0.3, 1.2, 0.7, 0.1, 2.4]


def patched(path: Path, diff: str) -> None:
    """Change a file as a diff says, whose lines must stand in it once."""
    old = "".join(line[1:] + "\n" for line in diff.splitlines() if line[0] in " -")
    new = "".join(line[1:] + "\n" for line in diff.splitlines() if line[0] in " +")
    text = path.read_text()
    assert text.count(old) == 1, f"{path}: not once:\n{old}"
    path.write_text(text.replace(old, new))


def carried_out(recipe: str, package: Path) -> str:
    """Write the files and changes of a recipe; the code that names no file is given back."""
    rest = ""
    for language, code in BLOCK.findall(recipe):
        first, _, body = code.partition("\n")
        if language == "diff":
            patched(package / first.removeprefix("+++ "), body)
        elif first.startswith("# ") and first.endswith(".py"):
            assert not (package / first[2:]).exists()
            (package / first[2:]).write_text(body)
        else:
            rest += code
    return rest


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What `compare` says in a copy of the package in which all four recipes were carried out."""
    folder = tmp_path_factory.mktemp("copy")
    package = folder / "pyrometer"
    for name in PACKAGE:
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.py"), ROOT / "py.typed"):
        shutil.copy2(path, package / path.name)
    shown = "".join(carried_out(text, package) for text in RECIPES.values())
    assert "pyrometer.compare(" in shown
    assert f"waits = np.array({WAITS})" in shown
    small = (
        "import functools, pyrometer\n"
        "sizes = dict(warmup=200, draws=200, chains=2, steps=400, lr=0.1, compile=False, progress=False)\n"
        "whole = pyrometer.compare\n"
        "def compare(*args, **options):\n"
        "    comparison = whole(*args, **options, **sizes)\n"
        "    comparison.table.to_csv('table.csv')\n"
        "    return comparison\n"
        "pyrometer.compare = compare\n"
    )
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", small + shown]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    assert all(name in run.stdout for name in ("conjugate", "best_rate", "draws"))
    return pd.read_csv(folder / "table.csv", index_col=0)


def test_a_model_and_a_guide_that_are_added_give_the_evidence_that_is_known(table: pd.DataFrame) -> None:
    number, total = len(WAITS), sum(WAITS)
    exact = math.lgamma(2 + number) - (2 + number) * math.log1p(total)  # of Gamma(2, 1), whose constant is 1
    row = table.loc["conjugate"]
    assert row["log_evidence"] == pytest.approx(exact, abs=0.05)
    assert exact - 0.5 < row["elbo"] < exact + 0.05


def test_a_method_that_is_added_is_a_row(table: pd.DataFrame) -> None:
    assert list(table.index) == ["nuts", "best_rate", "conjugate"]
    assert table.loc["best_rate", "steps"] == 300


def test_a_column_that_is_added_is_a_column(table: pd.DataFrame) -> None:
    assert dict(table["draws"]) == {"nuts": 400, "best_rate": 1000, "conjugate": 200}


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_ten_lines_of_code(title: str) -> None:
    def counts(line: str) -> bool:
        return bool(line.strip()) and not line.lstrip().startswith(("import ", "from ", '"""', "#", "+++"))

    blocks = BLOCK.findall(RECIPES[title])
    files = [line for language, code in blocks if language == "python" for line in code.splitlines() if counts(line)]
    changes = [
        line for language, code in blocks if language == "diff" for line in code.splitlines()[1:] if line[0] == "+"
    ]
    assert 0 < len(files) + len([line for line in changes if counts(line[1:])]) <= LONGEST


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a file or of what is imported from it."""
    inside = parts[0] == "inference" and len(parts) > 2
    return "/".join(parts[:2]) if inside else parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module of the package imports from where it is imported itself."""
    parts = path.relative_to(ROOT).parts
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level]
            names = [node.module.split(".")] if node.module else [[alias.name] for alias in node.names]
            yield from (room_of((*base, *name, "")) for name in names)


def test_every_room_is_in_the_table_and_imports_from_those_above_it() -> None:
    modules = [path for name in PACKAGE for path in (ROOT / name).rglob("*.py")]
    inside = {room_of(path.relative_to(ROOT).parts) for path in modules} - {"inference"}
    assert set(ROOMS) == inside | {"errors", "imports"}
    for path in modules:
        room = room_of(path.relative_to(ROOT).parts)
        for other in imported(path):
            if room != "inference/cli" and other != room:  # the commands take the public names
                assert ROOMS.index(other) < ROOMS.index(room), f"{path} imports from {other}"
