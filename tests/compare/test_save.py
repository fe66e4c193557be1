"""What is written can be read back, and nothing half-written stays behind."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pyrometer
import pytest
from pyrometer.inference.report import comparison as reporting
from pyrometer.inference.report import save as saving
from pyrometer.inference.runtime.arviz import groups_of
from pyrometer.inference.runtime.folder import stems_of
from pyrometer.models import BayesianGMM


@pytest.fixture(scope="module")
def comparison() -> pyrometer.Comparison:
    return pyrometer.compare(
        BayesianGMM(2), "faithful", ["auto_normal", "auto_delta"], reference="auto_normal", steps=30, starts=1, draws=20
    )


@pytest.fixture(scope="module")
def folder(comparison: pyrometer.Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("save") / "deep" / "down"
    comparison.save(folder)
    return folder


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "pictures_of", lambda comparison: {})
    monkeypatch.setattr(saving, "report_of", lambda comparison, methods, command, drawn: command)


def test_the_netcdfs_reopen_with_the_same_posterior(comparison: pyrometer.Comparison, folder: Path) -> None:
    for name, fit in comparison.fits.items():
        again = groups_of(az.from_netcdf(folder / f"{name}.nc"))
        assert again.keys() == groups_of(fit.idata).keys()
        for variable, values in fit.idata["posterior"].data_vars.items():
            assert again["posterior"][variable].dims == values.dims
            np.testing.assert_array_equal(again["posterior"][variable], values)
        assert list(again["posterior"].features.values) == ["eruptions", "waiting"]


def test_the_table_reads_back_with_its_index(comparison: pyrometer.Comparison, folder: Path) -> None:
    again = pd.read_csv(folder / "table.csv", index_col="fit")
    pd.testing.assert_frame_equal(again, comparison.table.rename_axis("fit"), check_dtype=False)


def test_what_is_said_to_be_written_is_all_there_is(
    comparison: pyrometer.Comparison, tmp_path: Path, no_pictures: None
) -> None:
    written = comparison.save(tmp_path)
    assert sorted(written) == sorted(tmp_path.iterdir())
    fits = {f"{name}{suffix}" for name in comparison for suffix in (".nc", ".pt")}
    tables = {"table.csv", "parameters.csv", "invariant.csv", "notes.txt"}  # a note has the reason of each verdict
    assert {*fits, *tables, "data.pt", "comparison.json", "index.html"} == {path.name for path in written}


def test_the_pictures_are_pictures(folder: Path) -> None:
    for name in ("comparison", "fit", "losses", "forest"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_saving_again_replaces_its_own_files_and_leaves_others(
    comparison: pyrometer.Comparison, tmp_path: Path, no_pictures: None
) -> None:
    (tmp_path / "table.csv").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    noted = replace(comparison, notes=("beware",))
    noted.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "beware\n"
    replace(comparison, notes=()).save(tmp_path)
    assert not (tmp_path / "notes.txt").exists()
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "table.csv").read_text().startswith("fit,verdict,estimator")


def test_every_picture_is_drawn_once_for_the_files_and_the_report(
    comparison: pyrometer.Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def counted(name: str, draw: Any) -> Any:
        def count(*arguments: Any) -> Any:
            drawn.append(name)
            return draw(*arguments)

        return count

    pictures = {name: counted(name, draw) for name, draw in reporting.PICTURES.items()}
    monkeypatch.setattr(reporting, "PICTURES", pictures)
    comparison.save(tmp_path)
    assert sorted(drawn) == sorted(pictures)
    page = (tmp_path / "index.html").read_text()
    for name in ("losses.png", "fit.png", "forest.png"):
        assert base64.b64encode((tmp_path / name).read_bytes()).decode() in page, name


def test_a_picture_that_fails_is_named_and_costs_nothing_else(
    comparison: pyrometer.Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(comparison: pyrometer.Comparison) -> None:
        raise ValueError("no ink\nat all")

    monkeypatch.setattr(reporting, "PICTURES", {**reporting.PICTURES, "forest.png": fail})
    (tmp_path / "forest.png").write_text("of an earlier call")
    names = {path.name for path in comparison.save(tmp_path)}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert {"table.csv", "auto_normal.nc", "auto_delta.nc", "losses.png", "notes.txt"} <= names
    assert "forest.png" not in names
    lines = (tmp_path / "notes.txt").read_text().splitlines()
    assert lines == [*comparison.remarks(), "forest.png could not be drawn: ValueError: no ink"]


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_in_the_way_is_refused(comparison: pyrometer.Comparison, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(pyrometer.InputError, match="is a file"):
        comparison.save(tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "kept"


def test_names_that_no_file_can_bear_still_get_files_of_their_own() -> None:
    files = stems_of(["a/b", "a_b", "A_B", "../up", "nuts"])
    assert files["nuts"] == "nuts"
    assert len({file.lower() for file in files.values()}) == 5
    assert not any("/" in file or file.startswith(".") for file in files.values())
    assert len(set(stems_of(["a_b", "a_b_2", "a b"]).values())) == 3  # the name that comes to mind is taken
