"""Guides tried live: by the callbacks of the widgets, without a browser."""

import sys
import threading
from functools import partial
from io import BytesIO
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyrometer import Comparison, Fit, InputError
from pyrometer.guides import WORDS, catalogue
from pyrometer.inference.compare import entries
from pyrometer.inference.explore.explorer import Explorer
from pyrometer.inference.explore.trial import Trial, code_of, lr_of, steps_of
from pyrometer.models import GMM, VAE
from truths import normal_mean, two_clusters

X = torch.randn(20, generator=torch.Generator().manual_seed(0))
BRIEF: dict[str, Any] = {"reference": "laplace", "draws": 300, "compile": False, "starts": 1}
MEAN = float(X.sum() / 21)


def press(explorer: Explorer, guide: str, steps: str = "200", lr: str = "auto", seed: int = 0) -> str:
    """Choose as a user would, press Fit, and read what is said."""
    explorer.guide.value, explorer.steps.value, explorer.lr.value, explorer.seed.value = guide, steps, lr, seed
    explorer.fit.click()
    return explorer.status.value


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    """After three fits of a normal mean, the second pressed while the first ran."""
    made = pyrometer.explore(normal_mean, X, **BRIEF)
    press(made, "auto_normal", lr="0.05")
    press(made, "auto_delta")
    press(made, "auto_normal", lr="0.05", seed=1)
    return made.wait()


def test_the_table_grows_row_by_row_beside_the_reference(explorer: Explorer) -> None:
    rows = ["laplace", "auto_normal, steps 200, lr 0.05", "auto_delta, steps 200"]
    rows += ["auto_normal, steps 200, lr 0.05, seed 1"]
    assert isinstance(explorer.comparison, Comparison)
    assert list(explorer.comparison) == rows
    assert explorer.comparison.reference == "laplace"
    assert all(f">{row}</th>" in explorer.table.value for row in rows)
    found = explorer.comparison[rows[1]].posterior["loc"].values
    assert found.mean() == pytest.approx(MEAN, abs=0.1)  # half a posterior standard deviation


def test_the_code_gives_the_same_table(explorer: Explorer) -> None:
    names: dict[str, Any] = {"model": normal_mean, "x": X}
    exec(explorer.code, names)
    again, here = names["comparison"].table, explorer.comparison.table  # type: ignore[union-attr]
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), here.drop(columns="seconds"))
    assert explorer.code in explorer.lines.value


def test_a_press_while_another_fit_runs_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow(model: Any, x: Any, *, guide: str, seed: int, progress: bool, name: str) -> Fit:
        go_on.wait(60)
        return pyrometer.svi(model, guide, x, steps=20, seed=seed, progress=progress, name=name)

    made = pyrometer.explore(normal_mean, X, **BRIEF).wait()
    monkeypatch.setattr(Trial, "entry", lambda self: partial(slow, guide=self.guide))
    before = list(made.comparison or ())
    press(made, "auto_normal", steps="20")
    assert press(made, "auto_mvn", steps="20") == "auto_mvn, steps 20 waits for 1 before it"
    assert "is in the table already, or on its way" in press(made, "auto_mvn", steps="20")
    assert before == ["laplace"]
    go_on.set()
    assert list(made.wait().comparison or ()) == ["laplace", "auto_normal, steps 20", "auto_mvn, steps 20"]


def test_the_reference_is_sampled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(*args: Any, **options: Any) -> Fit:
        calls.append(options["name"])
        return pyrometer.laplace(*args, **options)

    monkeypatch.setitem(entries.METHODS, "laplace", counted)
    made = pyrometer.explore(normal_mean, X, **BRIEF)
    press(made, "auto_normal", steps="20")
    press(made, "auto_delta", steps="20")
    assert len(made.wait().comparison or ()) == 3
    assert calls == ["laplace"]


def test_the_bar_moves_while_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = pyrometer.explore(normal_mean, X, **BRIEF).wait(), list[tuple[int, int]]()
    made.bar.observe(lambda _: seen.append((made.bar.value, made.bar.max)), names="value")
    press(made, "auto_mvn", steps="1000")
    made.wait()
    values = [value for value, _ in seen]
    assert (1000, 1000) in seen
    assert any(0 < value < 1000 for value in values)
    assert made.bar.bar_style == "success"
    assert made.status.value == "auto_mvn, steps 1000: done"


@pytest.mark.parametrize(
    ("steps", "lr", "said"),
    [
        ("many", "auto", "steps 'many' must be auto, or a whole number, 1 or more"),
        ("0", "auto", "steps '0' must be auto, or a whole number, 1 or more"),
        ("auto", "-1", "learning rate '-1' must be auto, or a number above 0"),
        ("auto", "fast", "learning rate 'fast' must be auto, or a number above 0"),
        ("auto", "inf", "learning rate 'inf' must be auto, or a number above 0"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_lost(explorer: Explorer, steps: str, lr: str, said: str) -> None:
    before, code = explorer.comparison, explorer.code
    assert press(explorer, "auto_mvn", steps, lr) == said
    assert explorer.wait().comparison is before
    assert explorer.code == code


def test_a_fit_that_fails_is_one_line_and_can_be_tried_again(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any, x: Any, *, seed: int, progress: bool, name: str) -> Fit:
        raise RuntimeError("no memory\nand a page of reasons")

    before, table, code = explorer.comparison, explorer.table.value, explorer.code
    with monkeypatch.context() as patch:
        patch.setattr(Trial, "entry", lambda _: broken)
        press(explorer, "auto_laplace")
        explorer.wait()
    assert explorer.status.value.startswith("auto_laplace, steps 200: no memory")
    assert "\n" not in explorer.status.value
    assert (explorer.comparison, explorer.table.value, explorer.code) == (before, table, code)
    assert explorer.bar.bar_style == "danger"
    press(explorer, "auto_laplace")
    assert list(explorer.wait().comparison or ())[-1] == "auto_laplace, steps 200"


def test_the_picture_is_of_the_parameters_that_were_chosen() -> None:
    made = pyrometer.explore(regression, X, **BRIEF)
    assert made.wait().variables.options == ("loc", "scale", "both")
    every = _pixels(made)
    made.variables.value = ("scale",)
    one = _pixels(made)
    assert one.shape[1] < every.shape[1]
    made.variables.value = ()
    assert np.array_equal(_pixels(made), every)


def regression(x: torch.Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    pyro.deterministic("both", loc + scale)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, scale), obs=x)


def _pixels(explorer: Explorer) -> np.ndarray:
    return matplotlib.image.imread(BytesIO(explorer.picture.value))


def test_every_guide_of_the_model_can_be_chosen_and_is_described() -> None:
    made = pyrometer.explore(GMM(2), two_clusters(40), reference=None, steps=20, starts=1, compile=False)
    assert made.guide.options == tuple((f"{name}: {WORDS[name]}", name) for name in catalogue(GMM(2)))
    press(made, "marginal", steps="20")
    assert list(made.wait().comparison or ()) == ["marginal, steps 20"]


def test_without_the_reference_that_was_asked_for_the_fits_go_on() -> None:
    """Maximum likelihood has no posterior to sample."""
    made = pyrometer.explore(GMM(2), two_clusters(40), steps=20, starts=1, compile=False).wait()
    assert made.status.value.startswith("the reference: ")
    press(made, "marginal", steps="20")
    assert list(made.wait().comparison or ()) == ["marginal, steps 20"]
    assert "reference=None" in made.code


def test_where_rows_share_no_parameter_all_pictures_are_shown() -> None:
    rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    made = pyrometer.explore(VAE(1, "linear"), rows, reference=None, starts=1, draws=20, compile=False)
    assert made.variables not in made.widget.children
    press(made, "encoder", steps="20")
    press(made, "free", steps="20")
    assert list(made.wait().comparison or ()) == ["encoder, steps 20", "free, steps 20"]
    assert min(_pixels(made).shape[:2]) > 200


def test_options_that_no_code_can_say_stand_by_their_names() -> None:
    code = code_of([Trial("auto_mvn", seed=3)], {"x_test": X, "rows": [1, 2], "reference": "nuts"})
    assert '"auto_mvn, seed 3": partial(pyrometer.svi, guide="auto_mvn", seed=3),' in code
    assert code.endswith('    x_test=x_test,\n    rows=[1, 2],\n    reference="nuts",\n)')
    assert "partial" not in code_of([Trial("auto_mvn")], {})
    assert (steps_of(" auto "), steps_of("20"), lr_of("auto"), lr_of("1e-2")) == ("auto", 20, None, 0.01)


def test_it_refuses_guides_and_bad_data_before_it_shows_anything() -> None:
    with pytest.raises(InputError, match="explore has no option 'guides'"):
        pyrometer.explore(normal_mean, X, guides=["auto_normal"])
    with pytest.raises(InputError):
        pyrometer.explore(normal_mean, "missing.csv")


def test_without_ipywidgets_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "pyrometer.inference.explore.explorer")
    with pytest.raises(InputError, match=r"^explore needs ipywidgets: pip install 'pyrometer\[notebooks\]'$"):
        pyrometer.explore(normal_mean, X)


def test_a_cell_shows_the_widgets(explorer: Explorer) -> None:
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()
