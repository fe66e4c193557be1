"""A comparison that was cut short goes on with the numbers of one without a break; what does not belong is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
from disks import fill, mounted
from programs import X, Y, regression
from pyrometer import Comparison, Fit, InputError, compare
from pyrometer.inference.compare import entries
from pyrometer.inference.report import save
from pyrometer.inference.runtime.folder import UNFINISHED
from pyrometer.models import VAE, BayesianGMM
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")
CHAINS: dict[str, Any] = {"warmup": 60, "draws": 60, "chains": 2, "progress": False}
SMALL: dict[str, Any] = {**CHAINS, "steps": 20, "starts": 1, "compile": False}
DIGITS = pyrometer.datasets.pixels("digits")[:40]
SMALL_VAE = VAE(2, hidden=(8,), likelihood="bernoulli")


def by_hand(X: Tensor, y: Tensor) -> None:
    """A guide that is a function."""
    loc = pyro.param("loc", X.new_zeros(2))
    pyro.sample("beta", dist.Normal(loc, 0.1).to_event(1))


GUIDES: dict[str, Any] = {"normal": "auto_normal", "mvn": "auto_mvn", "by hand": by_hand, "point": "auto_delta"}
OWN: dict[str, Any] = {"quick": partial(pyrometer.svi, guide="auto_mvn", lr=0.1), "exact": pyrometer.laplace}
BOTH: dict[str, Any] = {**GUIDES, **OWN}
CALLS: dict[str, Callable[..., Comparison]] = {
    "a regression": partial(compare, regression, (X, Y), BOTH, x_test=(X[:9], Y[:9]), **SMALL),
    "a mixture": partial(
        compare, BayesianGMM(2), "faithful", ["structured"], methods=["svi", "cavi"], reference="cavi", **SMALL
    ),
    "a VAE": partial(compare, SMALL_VAE, DIGITS, ["encoder", "free"], x_test=DIGITS[:9], rows=2, **SMALL),
}
BRIEF = partial(compare, regression, (X, Y), {"normal": "auto_normal", "by hand": by_hand}, reference=None, **SMALL)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "pictures_of", lambda comparison: {})
    monkeypatch.setattr(save, "report_of", lambda comparison, methods, command, drawn: command)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the fits that are made and not taken, as they are."""
    names: list[str] = []
    before = entries._attempt

    def attempt(job: Any, model: Any) -> Any:
        names.append(job.keywords["name"])
        return before(job, model)

    monkeypatch.setattr(entries, "_attempt", attempt)
    return names


def same(one: Comparison, other: Comparison) -> None:
    """Bit for bit, the seconds of scoring aside."""
    for frame in ("table", "parameters", "invariant", "gaps"):
        both = [getattr(each, frame).drop(columns="seconds", errors="ignore") for each in (one, other)]
        pd.testing.assert_frame_equal(*both, check_exact=True)
    assert one.notes == other.notes
    assert one.skipped == other.skipped


@pytest.mark.parametrize("which", CALLS)
def test_fits_that_are_taken_give_the_numbers_of_an_unbroken_comparison(
    which: str, tmp_path: Path, made: list[str]
) -> None:
    """From what is unfinished, from half of it, and from finished results; their guides are there again."""
    call = CALLS[which]
    unbroken = call(folder=tmp_path)
    names = list(unbroken)
    assert sorted(made) == sorted(names)
    kept = sorted((tmp_path / UNFINISHED).iterdir())
    assert len(kept) == len(names)
    same(call(folder=tmp_path, resume=True), unbroken)
    assert len(made) == len(names)
    kept[1].unlink()
    again = call(folder=tmp_path, resume=True)
    same(again, unbroken)
    assert len(made) == len(names) + 1
    for name, fit in unbroken.fits.items():
        assert (again[name].guide is None) == (fit.guide is None)
        assert repr(again[name]) == repr(fit) or again[name].seconds != fit.seconds
    again.save(tmp_path)
    assert not (tmp_path / UNFINISHED).exists()
    same(call(folder=tmp_path, resume=True), unbroken)
    assert len(made) == len(names) + 1


def test_another_guide_beside_finished_results_is_all_that_is_made(tmp_path: Path, made: list[str]) -> None:
    BRIEF(folder=tmp_path).save(tmp_path)
    made.clear()
    guides = {"mvn": "auto_mvn", "normal": "auto_normal"}
    more = compare(regression, (X, Y), guides, reference=None, folder=tmp_path, resume=True, **SMALL)
    assert made == ["mvn"]
    assert list(more) == ["mvn", "normal"]
    assert list(more.add({"point": "auto_delta"})) == ["mvn", "normal", "point"]
    assert len([*(tmp_path / UNFINISHED).iterdir()]) == 2


def test_without_resume_all_is_made_anew(tmp_path: Path, made: list[str]) -> None:
    BRIEF(folder=tmp_path)
    (tmp_path / UNFINISHED / "another-00000000.fit").write_text("of another comparison")
    BRIEF(folder=tmp_path)
    assert made == ["normal", "by hand"] * 2
    assert len([*(tmp_path / UNFINISHED).iterdir()]) == 2


def another_guide(X: Tensor, y: Tensor) -> None:
    loc = pyro.param("loc", X.new_ones(2))
    pyro.sample("beta", dist.Normal(loc, 0.1).to_event(1))


def another_model(X: Tensor, y: Tensor) -> None:
    beta = pyro.sample("beta", dist.Normal(X.new_zeros(2), 3.0).to_event(1))
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(X @ beta, 0.5), obs=y)


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 1}, "holds normal fitted with seed=0 instead of 1: give it as it was"),
    "steps": ({"steps": 21}, "holds normal fitted with steps=20 instead of 21"),
    "lr": ({"lr": 0.5}, "holds normal fitted with lr=none instead of 0.5"),
    "draws": ({"draws": 61}, "holds normal fitted with draws=60 instead of 61"),
    "data": ({"x": (X, Y + 1e-12)}, "holds normal fitted with another data"),
    "model": ({"model": another_model}, "holds normal fitted with another model"),
    "guide": ({"guides": {"by hand": another_guide}}, "holds by hand fitted with another guide"),
    "name": ({"guides": {"normal": "auto_mvn"}}, "holds normal fitted with guide='auto_normal' instead of 'auto_mvn'"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an unfinished comparison has kept."""
    folder = tmp_path_factory.mktemp("results")
    BRIEF(folder=folder)
    return folder


@pytest.mark.parametrize("what", CHANGED)
def test_what_was_made_in_another_way_is_refused_and_what_differs_is_said(what: str, results: Path) -> None:
    changed, line = CHANGED[what]
    before = {path: path.read_bytes() for path in (results / UNFINISHED).iterdir()}
    given = {"model": regression, "x": (X, Y), "guides": BRIEF.args[2], "reference": None, **SMALL, **changed}
    with pytest.raises(InputError) as caught:
        compare(**given, folder=results, resume=True)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in (results / UNFINISHED).iterdir()} == before


def test_options_that_move_no_number_of_a_fit_may_change(results: Path, made: list[str]) -> None:
    BRIEF(folder=results, resume=True, jobs=2, x_test=(X[:9], Y[:9]), warmup=61)
    assert made == []


@pytest.mark.parametrize("damage", ["one bit", "cut short", "empty", "text", "a folder"])
def test_a_damaged_fit_is_made_anew_and_that_is_said(
    damage: str, results: Path, tmp_path: Path, made: list[str]
) -> None:
    shutil.copytree(results, tmp_path / "out")
    path = next((tmp_path / "out" / UNFINISHED).glob("normal*.fit"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        damaged = {"one bit": content, "cut short": content[:999], "empty": b"", "text": b"x" * 99}
        path.write_bytes(bytes(damaged[damage]))
    with pytest.warns(UserWarning, match=r"normal-.*\.fit is damaged \(.*\): normal is made anew"):
        again = BRIEF(folder=tmp_path / "out", resume=True)
    assert made == ["normal"]
    assert list(again) == ["normal", "by hand"]


def test_damaged_results_are_made_anew(results: Path, tmp_path: Path, made: list[str]) -> None:
    whole = BRIEF(folder=tmp_path)
    whole.save(tmp_path)
    made.clear()
    (tmp_path / "normal.nc").write_bytes((tmp_path / "normal.nc").read_bytes()[:999])
    with pytest.warns(UserWarning, match="normal is made anew"):
        same(BRIEF(folder=tmp_path, resume=True), whole)
    (tmp_path / "comparison.json").write_text("{")
    same(BRIEF(folder=tmp_path / "elsewhere", resume=True), whole)
    assert made == ["normal", "normal", "by hand"]


def test_a_fit_that_finds_no_room_is_no_loss(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        fill(disk, 8192)
        found = BRIEF(folder=disk)
    assert list(found) == ["normal", "by hand"]
    said = "it could not be kept aside (no space left on device), and resume makes it anew"
    assert said in found.notes


def hides_its_guide(model: Any, x: Any, *, seed: int, progress: bool, name: str) -> Fit:
    """A method whose guide nobody could make again."""
    return pyrometer.svi(model, by_hand, x, seed=seed, progress=progress, name=name, steps=20, draws=20, compile=False)


def test_what_could_not_be_taken_as_it_was_is_not_kept(tmp_path: Path, made: list[str]) -> None:
    call: Any = partial(compare, regression, (X, Y), {"hidden": hides_its_guide}, reference=None, **SMALL)
    first = call(folder=tmp_path)
    assert not (tmp_path / UNFINISHED).exists()
    first.save(tmp_path)
    same(call(folder=tmp_path, resume=True), first)
    assert made == ["hidden"] * 2


def interrupted(model: Any, x: Any, *, seed: int, progress: bool, name: str) -> Fit:
    """A method during which Ctrl-C is pressed."""
    raise KeyboardInterrupt


def test_ctrl_c_leaves_what_is_finished_in_the_folder(tmp_path: Path, made: list[str]) -> None:
    guides = {"normal": "auto_normal", "stopped": interrupted, "mvn": "auto_mvn"}
    call: Any = partial(compare, regression, (X, Y), reference=None, folder=tmp_path, **SMALL)
    found = call(guides)
    assert [path.name.partition("-")[0] for path in (tmp_path / UNFINISHED).iterdir()] == ["normal"]
    assert list(found) == ["normal"]
    assert found.skipped["mvn"] == f"interrupted; resume goes on from {tmp_path}"
    made.clear()
    again = call({"normal": "auto_normal", "mvn": "auto_mvn"}, resume=True)
    assert made == ["mvn"]
    same(call({"normal": "auto_normal", "mvn": "auto_mvn"}), again)


def test_fits_of_several_processes_are_kept_too(tmp_path: Path) -> None:
    """Whoever is finished first."""
    guides = {"normal": "auto_normal", "mvn": "auto_mvn"}
    call: Any = partial(compare, regression, (X, Y), guides, reference=None, **SMALL)
    two = call(folder=tmp_path, jobs=2)
    assert {path.name.partition("-")[0] for path in (tmp_path / UNFINISHED).iterdir()} == {*guides}
    same(call(folder=tmp_path, resume=True), two)


def test_resume_without_a_folder_is_refused() -> None:
    with pytest.raises(InputError, match="resume needs the folder of the finished fits: give folder too"):
        BRIEF(resume=True)


def test_a_folder_of_the_results_is_refused_where_nothing_can_be_written(made: list[str]) -> None:
    with pytest.raises(InputError, match="cannot write into /proc/results"):
        BRIEF(folder="/proc/results")
    assert made == []


def _work(folder: Path, jobs: int) -> None:
    warnings.simplefilter("ignore")
    saving: Any = save
    saving.pictures_of = lambda comparison: {}
    saving.report_of = lambda comparison, methods, command, drawn: command
    CALLS[os.environ["WHICH"]](folder=folder, resume=True, jobs=jobs).save(folder)


def csv(folder: Path) -> dict[str, str]:
    """The tables, without the seconds."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        frame = pd.read_csv(path, dtype=str)
        found[path.name] = frame.drop(columns="seconds", errors="ignore").to_csv()
    return found


def check_kills(folder: Path, which: str, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every comparison is killed at three moments or so, and its results are those of one that was not."""
    monkeypatch.setenv("WHICH", which)
    began = time.perf_counter()
    _work(folder / "whole", 1)
    seconds, wanted = time.perf_counter() - began, csv(folder / "whole")
    assert {"table.csv"} <= wanted.keys()
    rng, met, fork = np.random.default_rng(kills), 0, multiprocessing.get_context("fork")
    for number in range(2 * kills):
        out = folder / str(number)
        for moment in [*rng.uniform(0, 0.7 * seconds, min(3, kills - met)), 600.0]:
            process = fork.Process(target=_work, args=(out, 1))
            process.start()
            process.join(moment)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            met += 1
        assert process.exitcode == 0
        assert csv(out) == wanted
        assert not [*folder.glob(".*"), *out.glob(".*")]
        if met >= kills:
            break
    assert met == kills


@pytest.mark.parametrize("which", ["a regression"])
def test_killed_at_three_moments_it_goes_on_with_the_same_numbers(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_kills(tmp_path, which, 3, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["a regression", "a VAE"])
def test_killed_fifty_times_it_goes_on_with_the_same_numbers(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_kills(tmp_path, which, 50, monkeypatch)


def test_what_is_kept_says_what_it_is_known_by(tmp_path: Path) -> None:
    BRIEF(folder=tmp_path).save(tmp_path)
    fits = json.loads((tmp_path / "comparison.json").read_text())["fits"]
    assert [fit["known"]["seed"] for fit in fits] == ["0", "0"]
    assert fits[0]["known"]["guide"] == "'auto_normal'"
    assert re.fullmatch(r"[0-9a-f]{16}", fits[0]["known"]["data"])
