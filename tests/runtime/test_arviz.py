"""Both generations of ArviZ: the numbers of one are those of the other, and what one has written the other reads."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyrometer
import pytest
from pyrometer import Fit
from pyrometer.inference.runtime import arviz
from pyrometer.models import BayesianGMM
from truths import normal_mean, two_clusters

ROOT = Path(__file__).parents[2]
OLD = int(version("arviz").partition(".")[0]) < 1
X, MODEL = two_clusters(40), BayesianGMM(2)
FITS = """
def fitted(x):
    chains = pyrometer.nuts(normal_mean, x[:, 0], warmup=50, draws=100, chains=2, compile=False, progress=False)
    fits = [method(MODEL, x, draws=300, progress=False) for method in (pyrometer.pathfinder, pyrometer.dadvi)]
    comparison = pyrometer.compare(MODEL, x, fits[1:], reference=fits[0], progress=False)
    return {"nuts": chains, **comparison.fits}, comparison.table.drop(columns="seconds")
"""
SECOND_GENERATION = """
from arviz_base import *
from arviz_stats import *
from xarray import DataTree as InferenceData, open_datatree as from_netcdf  # the first for nutpie's annotations
"""  # what ArviZ 1 is beside its plots, on whatever Python
SECOND = f"""
import sys
sys.path.insert(0, "tests")

import arviz as az, numpy as np, pyrometer, torch
from pathlib import Path
from pyrometer.inference.plots.rows.plane import thinned
from pyrometer.inference.runtime import arviz
from pyrometer.models import BayesianGMM
from truths import normal_mean
from xarray import DataTree

MODEL = BayesianGMM(2)
{FITS}
folder = Path(sys.argv[1])
assert arviz.FIRST is None
given = np.load(folder / "given.npz")
found = {{f"ess_{{kind}}": arviz.ess(given["chains"], kind) for kind in ("bulk", "tail", "mean")}}
found["rhat"] = arviz.rhat(given["chains"])
found["grid"], found["heights"] = arviz.kde(given["chains"][0, :, 0])
for name in given:
    if name.startswith("weights"):
        found[f"{{name}}_smoothed"], found[f"{{name}}_khat"] = arviz.psislw(given[name])
fits, table = fitted(torch.as_tensor(given["x"]))
table.to_csv(folder / "second.csv")
for name, fit in fits.items():
    assert isinstance(fit.idata, DataTree), type(fit.idata)
    found[f"loo_{{name}}"] = az.loo(fit.idata).elpd
    found[f"draws_{{name}}"] = next(iter(fit.draws().values()))
    fit.save(folder / "second" / name)
assert list(az.summary(fits["nuts"].idata).index) == ["loc"]
predictive, prior = fits["nuts"].posterior_predictive(), fits["nuts"].prior_predictive(20)
assert list(predictive.children) == ["posterior", "posterior_predictive", "observed_data"]
assert list(prior.children) == ["prior", "prior_predictive", "observed_data"]
found["predictive"] = predictive["posterior_predictive"]["x"].values
assert thinned(fits["nuts"], 50).number == 50
assert len(pyrometer.plots.plot_densities(fits["nuts"]).lines) == 1
again = pyrometer.load(folder / "first", MODEL)
assert isinstance(again.idata, DataTree)
assert list(az.from_netcdf(next((folder / "first").glob("*.nc"))).children) == list(again.idata.children)
found["read"] = again.posterior["locs"].values
found["read_response"] = again.linear_response["locs"]
np.savez(folder / "found.npz", **found)
"""


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, and what it printed."""
    command = [sys.executable, "-W", "default", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, cwd=ROOT, timeout=300)


@pytest.fixture(scope="module")
def given() -> dict[str, np.ndarray]:
    """Chains that mix badly, and weights with light, heavy and broken tails."""
    rng = np.random.default_rng(0)
    weights = {f"weights_{scale}": scale * rng.standard_normal((3, 1000)) + 50 for scale in (1, 4)}
    weights |= {"weights_equal": np.zeros((1, 200)), "weights_few": rng.standard_normal((2, 15))}
    weights["weights_flat"] = 2 * rng.standard_normal(500)
    chains = rng.standard_normal((4, 300, 5)).cumsum(1) / 20 + rng.standard_normal((4, 300, 5))
    return {"x": X.numpy(), "chains": chains, **weights}


@pytest.fixture(scope="module")
def first() -> tuple[dict[str, Fit], pd.DataFrame]:
    """Fits and a table, which the other process is to find again."""
    names: dict[str, Any] = {"pyrometer": pyrometer, "MODEL": MODEL, "normal_mean": normal_mean}
    exec(FITS, names)
    return names["fitted"](X)


@pytest.fixture(scope="module")
def fits(first: tuple[dict[str, Fit], pd.DataFrame]) -> dict[str, Fit]:
    return first[0]


@pytest.fixture(scope="module")
def second(given: dict[str, np.ndarray], fits: dict[str, Fit], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the second generation found, read and wrote."""
    folder = tmp_path_factory.mktemp("generations")
    np.savez(folder / "given.npz", **given)  # type: ignore[arg-type]
    fits["dadvi"].save(folder / "first")
    for name, text in (("__init__.py", SECOND_GENERATION), ("METADATA", "Name: arviz\nVersion: 1.0\n")):
        path = folder / "site" / ("arviz" if name == "__init__.py" else "arviz-1.0.dist-info") / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    places = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = run(SECOND, str(folder), PYTHONPATH=os.pathsep.join(places))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def found(second: Path) -> dict[str, np.ndarray]:
    return dict(np.load(second / "found.npz"))


def test_diagnostics_of_chains_are_the_same_numbers(given: dict, found: dict) -> None:
    for kind in ("bulk", "tail", "mean"):
        np.testing.assert_allclose(found[f"ess_{kind}"], arviz.ess(given["chains"], kind), rtol=1e-6)
    np.testing.assert_allclose(found["rhat"], arviz.rhat(given["chains"]), rtol=1e-6)
    assert found["rhat"].min() > 1.01


def test_kernel_densities_are_the_same_to_a_lines_width(given: dict, found: dict) -> None:
    """Their rules for the bandwidth are not quite the same."""
    grid, heights = arviz.kde(given["chains"][0, :, 0])
    np.testing.assert_allclose(found["grid"], grid, rtol=1e-6)
    np.testing.assert_allclose(found["heights"], heights, atol=0.01 * heights.max())
    assert np.trapezoid(heights, grid) == pytest.approx(1.0, abs=0.01)


def test_smoothed_weights_and_khat_are_the_same_numbers(given: dict, found: dict) -> None:
    for name in (name for name in given if name.startswith("weights")):
        smoothed, khat = arviz.psislw(given[name])
        assert smoothed.shape == given[name].shape
        np.testing.assert_allclose(found[f"{name}_smoothed"], smoothed, atol=1e-6)
        np.testing.assert_allclose(found[f"{name}_khat"], khat, atol=1e-6)
    assert np.isinf(found["weights_equal_khat"]).all()
    assert np.isinf(found["weights_few_khat"]).all()


def test_smoothing_leaves_all_weights_but_those_of_the_tail_as_they_are(given: dict) -> None:
    smoothed, _ = arviz.psislw(given["weights_4"])
    changed = np.abs(smoothed - given["weights_4"]) > 1e-12
    assert (changed.sum(1) <= np.ceil(3 * np.sqrt(1000))).all()
    assert changed.any(1).all()


@pytest.mark.parametrize("name", ["nuts", "dadvi", "pathfinder"])
def test_fits_are_the_same_numbers(name: str, found: dict, fits: dict[str, Fit]) -> None:
    np.testing.assert_allclose(found[f"draws_{name}"], next(iter(fits[name].draws().values())), rtol=1e-6)
    if OLD and name == "nuts":  # draws of the others are resampled, or their tails rounded, where definitions differ
        import arviz as az

        assert float(found[f"loo_{name}"]) == pytest.approx(float(az.loo(fits[name].idata).elpd_loo), abs=0.02)


def test_predictive_draws_are_the_same_numbers(found: dict, fits: dict[str, Fit]) -> None:
    predictive = fits["nuts"].posterior_predictive()["posterior_predictive"]["x"].values
    np.testing.assert_allclose(found["predictive"], predictive, rtol=1e-6)


def test_the_table_is_the_same(first: tuple[dict[str, Fit], pd.DataFrame], second: Path) -> None:
    first[1].to_csv(second / "first.csv")
    old, new = (pd.read_csv(second / f"{name}.csv") for name in ("first", "second"))
    pd.testing.assert_frame_equal(old, new, rtol=1e-6)


def test_each_reads_what_the_other_wrote(second: Path, found: dict, fits: dict[str, Fit]) -> None:
    np.testing.assert_array_equal(found["read"], fits["dadvi"].posterior["locs"].values)
    np.testing.assert_array_equal(found["read_response"], fits["dadvi"].linear_response["locs"])
    for name, fit in fits.items():
        again = pyrometer.load(second / "second" / name, fit.model)
        assert isinstance(again, Fit)
        for old, new in zip(fit.draws().values(), again.draws().values(), strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-6)
        assert list(arviz.groups_of(again.idata)) == list(arviz.groups_of(fit.idata))


@pytest.mark.skipif(not OLD, reason="the older way of writing is that of ArviZ below 1")
def test_what_arviz_itself_writes_is_read(fits: dict[str, Fit], tmp_path: Path) -> None:
    fit = fits["dadvi"]
    fit.idata.to_netcdf(str(tmp_path / "old.nc"), engine="h5netcdf")
    again = arviz.groups_of(arviz.from_netcdf(tmp_path / "old.nc"))
    for name, group in arviz.groups_of(fit.idata).items():
        assert again[name].equals(group)


def test_one_file_alone_imports_arviz() -> None:
    """Whatever else imports it would break under the other generation."""
    lines = {path: path.read_text().splitlines() for path in (ROOT / "inference").rglob("*.py")}
    users = [path.name for path, each in lines.items() if any(_imports_arviz(line) for line in each)]
    assert users == ["arviz.py"]


def _imports_arviz(line: str) -> bool:
    return re.search(r"""(^|\s)(import|from) arviz|import_module\(["']arviz""", line) is not None


@pytest.mark.skipif(not OLD, reason="its warning is that of ArviZ below 1")
def test_arviz_greets_nobody_who_imports_us(tmp_path: Path) -> None:
    """Its warning comes once a day, and not where all parts of the second generation are installed."""
    hide = "import sys; sys.modules['arviz_plots'] = None;"
    for number, code in enumerate(("import arviz", "from pyrometer import nuts, compare")):
        cache = tmp_path / str(number)
        cache.mkdir()
        said = run(f"{hide} {code}", XDG_CACHE_HOME=str(cache)).stderr
        assert ("ArviZ is undergoing" in said) == (number == 0), said
