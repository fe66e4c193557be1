"""The wheel holds the package and nothing else, the sdist all that is needed to build and test it."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["display", "models", "guides", "inference", "datasets"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist of a copy of this tree, and the wheel made from that sdist."""
    tree, out = tmp_path_factory.mktemp("tree") / "checkout", tmp_path_factory.mktemp("built")
    skip = shutil.ignore_patterns(".*_cache", ".git", ".venv*", "__pycache__", "build", "*.egg-info", ".library")
    shutil.copytree(ROOT, tree, ignore=skip)
    for decoy in [".venv/lib/decoy.py", "build/lib/pyrometer/decoy.py", "decoys/decoy.csv", "tests/decoy.csv"]:
        (tree / decoy).parent.mkdir(parents=True, exist_ok=True)
        (tree / decoy).touch()
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    subprocess.run(command, check=True, capture_output=True, cwd=out)
    return out


def sources() -> set[str]:
    """Every file of the package, as it is called once installed."""
    inside = [*ROOT.glob("*.py"), *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
    inside += [ROOT / "py.typed", *(ROOT / "datasets").glob("*.csv"), *(ROOT / "datasets/posteriordb").iterdir()]
    inside += (ROOT / "display/templates").iterdir()
    return {f"pyrometer/{path.relative_to(ROOT).as_posix()}" for path in inside}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licences = [name for name in wheel.namelist() if name.endswith("LICENSE")]
    assert inside == sources()
    assert len(licences) == 1


def test_every_folder_of_code_is_a_listed_package() -> None:
    folders = {path.parent.relative_to(ROOT).parts for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(["pyrometer", *(".".join(("pyrometer", *folder)) for folder in folders)])


def test_the_sdist_holds_the_package_its_tests_and_its_notebooks_and_no_environment(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    expected = {name.removeprefix("pyrometer/") for name in sources()}
    expected |= {"LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml", ".ci/run"}
    expected |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")}
    expected |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*.ipynb")}
    expected |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")}
    expected |= {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", ".github/workflows/tests.yml", "docs/conf.py"}
    assert expected <= inside
    assert not [name for name in inside if name.startswith((".venv", "build", "decoys", ".git/", "docs/notebooks"))]


def test_the_installed_wheel_imports_and_reads_its_data_away_from_the_checkout(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import pyrometer, pyrometer.inference.data; from pyrometer import datasets; "
        "print(pyrometer.__file__, datasets.load('faithful').shape, datasets.load('galaxies').shape, "
        "len(datasets.reference('sblrc-blr')))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert run.stdout.split(" ", 1) == [str(tmp_path / "site/pyrometer/__init__.py"), "(272, 2) (82, 1) 6\n"]
