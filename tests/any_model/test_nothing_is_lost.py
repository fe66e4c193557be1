"""A failing score, plot or guide costs its own cells and nothing else; Ctrl-C keeps what is finished."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import answers
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import programs
import pyro
import pyro.distributions as dist
import pytest
import torch
from agreement import BRIEF, broken, means_agree, modules
from matplotlib.figure import Figure
from programs import X_NEW, Y_NEW, X, Y
from pyrometer import Comparison, Fit, compare, nuts, svi
from torch import Tensor

mpl.use("Agg")
SMALL: dict[str, Any] = {**BRIEF, "steps": 100, "draws": 100, "warmup": 100}
GUIDES = {"normal": "auto_normal", "mvn": "auto_mvn"}
DATA, DATA_NEW = (X, Y), (X_NEW, Y_NEW)
RUNS_OUT = 5


@pytest.fixture(autouse=True)
def _no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


def run(guides: Any = GUIDES, **options: Any) -> Comparison:
    return compare(programs.regression, DATA, guides, x_test=DATA_NEW, **{**SMALL, **options})


@pytest.fixture(scope="module")
def sound() -> Comparison:
    """What the broken ones are held to: the same seed gives the same table, seconds aside."""
    return run()


def columns() -> dict[str, Any]:
    """The columns of the table by name: what has a name, decimals, what it says and how it is computed."""
    found: dict[str, Any] = {}
    for module in modules():
        for value in vars(module).values():
            if isinstance(value, list | tuple) and value and all(hasattr(one, "compute") for one in value):
                found = {one.name: one for one in value} | found  # of two of one name, that of shared latents
    return found


@pytest.fixture
def break_column(request: pytest.FixtureRequest) -> Iterator[str]:
    """One column's computation raises, in every fit."""
    name, known = request.param, columns()
    assert name in known, f"no column {name}; there are {', '.join(known)}"
    before = known[name].compute

    def breaks(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken on purpose")

    object.__setattr__(known[name], "compute", breaks)
    yield name
    object.__setattr__(known[name], "compute", before)


@pytest.mark.parametrize(
    "break_column", ["elbo", "khat", "log_evidence", "lpd_test", "bias", "sd_ratio", "rhat", "ess_bulk"], indirect=True
)
def test_a_score_that_fails_is_a_dash_and_a_note(break_column: str, sound: Comparison) -> None:
    found = run()
    assert list(found) == list(sound)
    assert not found.skipped
    assert found.table[break_column].isna().all()
    assert any(break_column in note and "broken on purpose" in note for note in found.notes)
    rest = [name for name in sound.table.columns if name not in (break_column, "seconds", "estimator")]
    pd.testing.assert_frame_equal(found.table[rest], sound.table[rest])


def test_a_score_that_fails_for_one_fit_costs_that_fit_alone(
    sound: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out rows that one guide cannot score, by whatever fails in it."""
    before = Fit.predictive_of_rows

    def sometimes(self: Fit, *args: Any, **kwargs: Any) -> Any:
        if self.name == "mvn":
            raise ValueError("out of paper")
        return before(self, *args, **kwargs)

    monkeypatch.setattr(Fit, "predictive_of_rows", sometimes)
    found = run()
    assert math.isnan(found.table.loc["mvn", "lpd_test"])
    assert found.table.loc["normal", "lpd_test"] == sound.table.loc["normal", "lpd_test"]
    assert any("mvn" in note and "out of paper" in note for note in found.notes)


@pytest.mark.parametrize("break_column", ["lpd_gap"], indirect=True)
def test_distances_that_fail_leave_the_table(break_column: str, sound: Comparison) -> None:
    found = run()
    assert found.invariant[break_column].isna().all()
    rest = [name for name in sound.table.columns if name != "seconds"]
    pd.testing.assert_frame_equal(found.table[rest], sound.table[rest])
    assert any("broken on purpose" in note for note in found.notes)


def test_a_distance_that_the_first_fit_has_not_is_asked_of_no_other(
    sound: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    before = Fit.log_predictive

    def fails_first(self: Fit, *args: Any, **kwargs: Any) -> Any:
        asked.append(self.name)
        if self.name == "nuts":
            raise ValueError("out of paper")
        return before(self, *args, **kwargs)

    monkeypatch.setattr(Fit, "log_predictive", fails_first)
    found = run()
    assert asked == ["nuts"]
    assert [note for note in found.notes if "out of paper" in note] == ["nuts: no lpd_gap (out of paper)"]
    assert list(found.invariant.index) == list(sound.invariant.index) == ["nuts", *GUIDES]
    assert found.invariant["lpd_gap"].isna().all()
    assert (sound.invariant["lpd_gap"] > 0).tolist() == [False, True, True]


@pytest.mark.parametrize("names", [("plot_losses", "draw_losses"), ("plot_forest", "draw_forest"), ("plot_fit",)])
def test_a_plot_that_fails_leaves_the_others(
    names: tuple[str, ...], sound: Comparison, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    complete = {path.name for path in sound.save(tmp_path / "sound")}
    assert broken(monkeypatch, *names)
    written = {path.name for path in sound.save(tmp_path / "broken")}
    assert {"table.csv", "nuts.nc"} <= written
    pictures, left = ({name for name in files if name.endswith(".png")} for files in (complete, written))
    assert left
    assert left < pictures
    for name in left:
        assert (tmp_path / "broken" / name).read_bytes().startswith(b"\x89PNG")
    assert isinstance(sound.plot(), Figure)


def fails(X: Tensor, y: Tensor) -> None:
    raise RuntimeError("out of paper")


class FailsLater:
    """A guide that is sound for some steps."""

    def __init__(self, model: Any) -> None:
        self.calls = 0

    def __call__(self, X: Tensor, y: Tensor) -> None:
        self.calls += 1
        if self.calls > RUNS_OUT:
            raise RuntimeError("out of ink")
        loc = pyro.param("loc", lambda: torch.zeros(2))
        pyro.sample("beta", dist.Normal(loc, 0.1).to_event(1))


def test_a_guide_that_fails_leaves_the_others_as_they_were(sound: Comparison) -> None:
    found = run({"first": fails, "normal": "auto_normal", "later": FailsLater, "mvn": "auto_mvn"}, compile=False)
    plain = run(compile=False)
    assert list(found) == ["nuts", "normal", "mvn"]
    assert "out of paper" in found.skipped["first"]
    assert "out of ink" in found.skipped["later"]
    rest = [name for name in plain.table.columns if name != "seconds"]
    pd.testing.assert_frame_equal(found.table[rest], plain.table[rest])


def test_a_reference_that_fails_leaves_the_guides() -> None:
    def no_chains(model: Any, data: Any, *, seed: int, progress: bool, name: str, **options: Any) -> Fit:
        raise RuntimeError("out of memory")

    found = run({**GUIDES, "chains": no_chains}, reference="chains")
    assert list(found) == list(GUIDES)
    assert found.reference is None
    assert "out of memory" in found.skipped["chains"]
    assert found.table["bias"].isna().all()
    assert found.table["elbo"].notna().all()


def test_where_a_fit_made_before_is_all_there_is_each_failure_keeps_its_own_reason() -> None:
    made = svi(programs.regression, "auto_normal", DATA, steps=20, draws=20, progress=False)

    def gives_nothing(model: Any, data: Any, *, seed: int, progress: bool, name: str) -> None:
        """A method that forgot its result."""

    entries = {"made": made, "first": fails, "later": FailsLater(None), "nothing": gives_nothing}
    found = run(entries, reference=None, compile=False)
    assert "it gave a NoneType" in found.skipped["nothing"]
    assert list(found) == ["made"]
    assert "out of paper" in found.skipped["first"]
    assert "out of ink" in found.skipped["later"]


def interrupted(model: Any, data: Any, *, seed: int, progress: bool, name: str, **options: Any) -> Fit:
    """A method during which the user presses Ctrl-C."""
    raise KeyboardInterrupt


def test_ctrl_c_keeps_the_finished_fits() -> None:
    found = run({"normal": "auto_normal", "stopped": interrupted, "mvn": "auto_mvn"})
    assert list(found) == ["nuts", "normal"]
    assert set(found.skipped) == {"stopped", "mvn"}
    assert all("interrupted" in why.lower() for why in found.skipped.values())
    assert np.isfinite(found.table.loc["normal", "bias"])
    posterior = answers.independent(X).posterior(Y)
    means_agree(found["nuts"], "beta", posterior.mean, posterior.stddev)


def test_ctrl_c_during_a_score_keeps_every_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(self: Fit, *args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Fit, "predictive_of_rows", stops)
    found = run()
    assert list(found) == ["nuts", *GUIDES]
    assert found.table["lpd_test"].isna().all()


def test_ctrl_c_before_anything_is_finished_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        run({"stopped": interrupted, "mvn": "auto_mvn"}, reference=None)


def test_a_note_or_a_plot_that_fails_does_not_cost_the_text(sound: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "plot_losses", "draw_losses", "plot_forest", "draw_forest", "plot_fit", "draw_fits")
    assert "normal" in repr(sound)
    assert "<table" in sound._repr_html_()


def test_the_finished_fits_are_there_when_scoring_fails_altogether() -> None:
    """A fit made before and one made now: both keep their numbers though no score can be had of either."""
    made = nuts(programs.regression, DATA, warmup=50, draws=50, chains=2, progress=False)
    known = columns()
    before = {name: column.compute for name, column in known.items()}

    def breaks(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken on purpose")

    try:
        for column in known.values():
            object.__setattr__(column, "compute", breaks)
        found = run({"normal": "auto_normal", "made": made}, reference=None)
    finally:
        for name, column in known.items():
            object.__setattr__(column, "compute", before[name])
    assert list(found) == ["normal", "made"]
    alone = svi(programs.regression, "auto_normal", DATA, steps=100, draws=100, progress=False)
    np.testing.assert_array_equal(found["normal"].losses, alone.losses)
