"""What is run elsewhere is what `make` runs here; what is cited is what is packaged."""

import re
import runpy
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {"cff-version", "message", "title", "authors"}  # of the Citation File Format 1.2.0
ALLOWED = REQUIRED | {"abstract", "date-released", "doi", "keywords", "license", "type", "url", "version"}


def test_the_workflow_runs_targets_that_exist_on_every_python_that_is_supported() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["check"]
    matrix = job["strategy"]["matrix"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(matrix["target"]) == {"lint", "test", "docs"} <= set(targets)
    assert matrix["python"][0] == PROJECT["requires-python"].removeprefix(">=")
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"actions/[\w-]+@v\d+", name)] == []


def test_the_files_of_tests_that_begin_are_there() -> None:
    longest = runpy.run_path(str(ROOT / "tests/conftest.py"))["LONGEST"]
    assert [name for name in longest if not (ROOT / "tests" / name).exists()] == []
    assert len(set(longest)) == len(longest)


def test_the_citation_is_of_the_version_that_is_packaged() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert set(citation) >= REQUIRED
    assert set(citation) <= ALLOWED
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "The Pyrometer developers"}]
    assert citation["version"] == PROJECT["version"]
    assert citation["type"] == "software"
    assert " AND ".join(citation["license"]) == PROJECT["license"]
    assert f"## {PROJECT['version']} - {citation['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_every_direct_dependency_has_a_pin() -> None:
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    wanted = {re.split(r"[<>=\[]", name)[0].lower() for name in (*PROJECT["dependencies"], *extras)}
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text().lower(), re.M))
    assert wanted - pinned == {"pyrometer"}
