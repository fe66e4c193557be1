"""Fits to rows in a file are those of the same rows in memory, in a memory that does not grow with them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from matplotlib.text import Text
from options import brief
from pyrometer import InputError
from pyrometer.inference.cli import main as command_line
from pyrometer.inference.data import as_data as door
from pyrometer.inference.density import in_blocks
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.mapped import blocks
from pyrometer.inference.steps.minibatches import shuffled
from pyrometer.models import GMM, VAE, BayesianGMM, CorrelatedGaussian
from torch import Tensor

RANDOM = np.random.default_rng(1)
CLOUD = np.concatenate([RANDOM.normal(size=(1500, 3)), RANDOM.normal(size=(2500, 3)) + 4.0])[RANDOM.permutation(4000)]
QUIET: dict[str, Any] = {"progress": False}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[np.memmap]:
    """The cloud in a file, of which several blocks are read."""
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 3_500)
    monkeypatch.setattr(in_blocks, "MAX_ROWS", 700)
    np.save(tmp_path / "x.npy", CLOUD)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def regression(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    """A line by its standardised covariate, which takes all rows to be known."""
    slope = pyro.sample("slope", dist.Normal(0.0, 10.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(5.0))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        pyro.sample("y", dist.Normal(slope * (x[rows] - x.mean()) / x.std(), sigma), obs=y[rows])


def labelled(x: Tensor, batch_size: int | None = None) -> None:
    """A mixture whose labels are summed out by enumeration alone."""
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
    locs = pyro.sample("locs", dist.Normal(torch.zeros(2), 5.0).to_event(1))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        z = pyro.sample("z", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(locs[z], 1.0), obs=x[rows, 0])


@pytest.mark.parametrize(
    "model", [BayesianGMM(2), CorrelatedGaussian(), labelled], ids=["collapsed", "plain", "labels"]
)
def test_the_density_of_a_file_is_that_of_memory(model: Any, file: np.memmap) -> None:
    columns = slice(0, 2) if isinstance(model, CorrelatedGaussian) else slice(None)
    here, _ = door.data_for(model, CLOUD[:, columns])
    there, structure = door.data_for(model, file[:, columns], by_rows=True)
    with here.isolated(0):
        inside, outside = Density(model, here), Density(model, there)
        assert {site.name: site.shape for site in structure.sites} == {s.name: s.shape for s in inside.structure.sites}
        flat = 0.3 * torch.randn(4, inside.dim)
        sites, _ = inside.constrain(flat)
        wanted = torch.stack([inside.log_joint({name: value[i] for name, value in sites.items()}) for i in range(4)])
        assert torch.allclose(in_blocks.log_joints(outside, sites), wanted, rtol=1e-10)
        one = {name: value[0] for name, value in sites.items()}
        assert torch.allclose(outside.log_joint(one), wanted[0], rtol=1e-10)


@pytest.mark.parametrize("guide", ["structured", pytest.param("auto_normal", marks=pytest.mark.slow)])
def test_svi_takes_the_same_steps_to_the_same_draws(guide: str, file: np.memmap) -> None:
    options = {"steps": 120, "draws": 120, **QUIET}
    here, there = (pyrometer.svi(BayesianGMM(2, batch_size=200), guide, x, **options) for x in (CLOUD, file))
    assert np.allclose(here.losses, there.losses, rtol=1e-10)
    assert np.allclose(here.posterior["locs"], there.posterior["locs"], rtol=1e-8)
    assert np.allclose(here.log_weights, there.log_weights, rtol=1e-9)
    evidences = [pyrometer.log_evidence(fit) for fit in (here, there)]
    assert evidences[0].value == pytest.approx(evidences[1].value, abs=1e-5)
    assert there.remarks == ("steps of 200 rows at random of 4000 in a file, 120 draws weighed on all of them",)
    some = torch.tensor([5, 17, 3999])
    assert np.allclose(here.log_predictive()[some], there.log_predictive()[some], rtol=1e-9)
    assert np.allclose(here.responsibilities(), there.responsibilities(), atol=1e-9)
    assert (here.predict() == there.predict()).all()


def test_the_elbo_of_a_guide_that_assigns_rows_is_that_of_memory(file: np.memmap) -> None:
    fit = pyrometer.svi(BayesianGMM(2, batch_size=200), "amortized", file, steps=150, draws=60, **QUIET)
    again, _ = door.data_for(BayesianGMM(2), CLOUD)
    from pyrometer.inference.fit.approximation import _elbo_draws
    from pyrometer.inference.steps.pairing import pair

    with again.isolated(0, None), pyro.get_param_store().scope():
        for name, value in fit.params.items():
            pyro.param(name, value)
        guide = fit.guide
        from pyrometer.inference.density.params import with_params

        structure = door.data_for(BayesianGMM(2), CLOUD)[1]
        pairing = pair(BayesianGMM(2), with_params(guide, fit.params), "amortized", again, structure, "auto")
        draws = _elbo_draws(pairing, Density(BayesianGMM(2), again), 60)
    both = (draws, fit.elbo_draws)
    error = np.hypot(*(each.std() / np.sqrt(len(each)) for each in both))
    assert abs(both[0].mean() - both[1].mean()) < 5 * error


def test_a_model_of_several_arguments_takes_files_for_them(tmp_path: Path) -> None:
    x = RANDOM.normal(size=3000)
    y = 2 * (x - x.mean()) / x.std() + 0.5 * RANDOM.normal(size=3000)
    for name, values in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", values)
    files = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy"}
    options = {"steps": 100, "draws": 20, "batch_size": 100, **QUIET}
    here, there = (pyrometer.svi(regression, "auto_normal", data, **options) for data in ({"x": x, "y": y}, files))
    assert np.allclose(here.losses, there.losses, rtol=1e-6)
    assert np.allclose(here.log_weights, there.log_weights, rtol=1e-6)


def test_minibatches_are_chosen_where_none_are_asked_for(file: np.memmap) -> None:
    fit = pyrometer.svi(BayesianGMM(2), "structured", file, steps=10, draws=5, **QUIET)
    assert "steps of 2000 rows" in fit.remarks[0]  # half of few


def test_train_takes_the_same_steps(file: np.memmap) -> None:
    model, options = VAE(1, hidden=(8,)), {"epochs": 2, "batch_size": 200, "draws": 3, **QUIET}
    here, there = (pyrometer.train(model, "encoder", x, x_test=x[:300], **options) for x in (CLOUD, file))
    assert np.array_equal(here.losses, there.losses)
    assert np.allclose(here.test_losses, there.test_losses, rtol=1e-6)
    assert np.allclose(here.encode(CLOUD[:9]), there.encode(file[:9]))


@pytest.mark.parametrize("kind", ["em", pytest.param("cavi", marks=pytest.mark.slow)])
def test_blocks_in_two_processes_give_the_numbers_of_one(kind: str, file: np.memmap) -> None:
    run = pyrometer.em if kind == "em" else pyrometer.cavi
    model: Any = GMM(2) if kind == "em" else BayesianGMM(2)
    options = {"starts": 1, "max_steps": 3, **QUIET}
    one, two, memory = run(model, file, **options), run(model, file, jobs=2, **options), run(model, CLOUD, **options)
    assert np.array_equal(one.losses, two.losses)
    assert all((one.posterior[name] == two.posterior[name]).all() for name in one.posterior)
    assert np.allclose(one.losses, memory.losses, rtol=1e-10)


def test_compare_saves_where_the_rows_are_and_loads_them_again(file: np.memmap, tmp_path: Path) -> None:
    model = BayesianGMM(2)
    options: dict[str, Any] = {"steps": 60, "starts": 1, "draws": 100, **QUIET}
    found = pyrometer.compare(model, file, ["structured"], reference="cavi", x_test=CLOUD[:50], **options)
    assert list(found) == ["cavi", "structured"]
    assert not found.skipped
    assert any("4,000 rows lie in a file" in note for note in found.notes)
    table = found.table.loc["structured"]
    assert np.isfinite([table[name] for name in ("elbo", "log_evidence", "khat", "lpd_test", "bias", "sd_ratio")]).all()
    found.save(tmp_path / "out")
    assert (tmp_path / "out" / "data.pt").stat().st_size < 20_000
    again = pyrometer.load(tmp_path / "out", model)
    assert isinstance(again, pyrometer.Comparison)
    assert again.problem.data.equals(found.problem.data)
    assert again.problem.data.mapped is not None
    assert again.table["elbo"].to_numpy() == pytest.approx(found.table["elbo"].to_numpy())
    figure = again.plot()
    assert not [text for text in figure.findobj(Text) if "memory" in text.get_text()]
    np.save(tmp_path / "x.npy", CLOUD + 1)
    with pytest.raises(InputError, match="does not hold the rows that were fitted"):
        pyrometer.load(tmp_path / "out", model)


def test_of_many_held_out_rows_some_are_scored(file: np.memmap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrometer.inference.compare.compare.TEST_ROWS", 21)
    options: dict[str, Any] = {"reference": "cavi", "draws": 50, "x_test": CLOUD[:61], **QUIET}
    found = pyrometer.compare(BayesianGMM(2), file, {}, **options)
    assert found.table.loc["cavi", "lpd_test"] == pytest.approx(found["cavi"].log_predictive(CLOUD[:61:3]).sum())


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda x: pyrometer.compare(BayesianGMM(2), x, ["structured"], **QUIET), "reference='nuts' holds all rows"),
        (
            lambda x: pyrometer.compare(BayesianGMM(2), x, ["dadvi"], reference=None, **QUIET),
            "method 'dadvi' holds all",
        ),
        (lambda x: pyrometer.nuts(BayesianGMM(2), x, **QUIET), "give it a sample of them"),
        (lambda x: pyrometer.laplace(BayesianGMM(2), x, **QUIET), "give it a sample of them"),
        (lambda x: pyrometer.train(VAE(1), "free", x, **QUIET), "choose an encoder"),
        (lambda x: pyrometer.train(VAE(1), "encoder", x, binarize="fixed", **QUIET), "lie in a file"),
        (lambda x: pyrometer.svi(BayesianGMM(2), "full_mean_field", x, steps=5, **QUIET), "into memory"),
        (lambda x: pyrometer.svi(uncut, "auto_normal", x, steps=5, **QUIET), "no batch_size|into memory"),
        (lambda x: pyrometer.svi(platless, "auto_normal", x, steps=5, **QUIET), "into memory|no plate"),
    ],
)
def test_what_cannot_be_done_in_blocks_is_refused_in_one_line(
    call: Any, what: str, file: np.memmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MAX_BYTES_LOADED", 1000)
    with pytest.raises(InputError, match=what) as error:
        call(file)
    assert "\n" not in str(error.value)


def uncut(x: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)) as rows:
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x[rows, 0])


def platless(x: Tensor) -> None:
    pyro.sample(
        "x", dist.Normal(pyro.sample("loc", dist.Normal(0.0, 1.0)), 1.0).expand([len(x)]).to_event(1), obs=x[:, 0]
    )


def test_a_small_file_is_read_into_memory_by_who_needs_all_rows(file: np.memmap) -> None:
    here, there = (pyrometer.laplace(CorrelatedGaussian(), x[:, :2], draws=20, **QUIET) for x in (CLOUD, file))
    assert np.allclose(here.posterior["loc"], there.posterior["loc"])


def test_the_commands_take_a_file(
    file: np.memmap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(blocks, "MAX_BYTES_LOADED", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "parts").mkdir()
    frame = pd.DataFrame(CLOUD, columns=["a", "b", "c"])
    for number in range(2):
        frame.iloc[2000 * number : 2000 * number + 2000].to_parquet(tmp_path / "parts" / f"{number}.parquet")
    words = [*brief("structured", "none"), "--columns", "c,a", "--holdout", "0.1", "--out", str(tmp_path / "out")]
    assert command_line.main(["compare", str(tmp_path / "parts"), *words]) == 0
    assert "3,600 rows lie in a file" in capsys.readouterr().out
    again = pyrometer.load(tmp_path / "out", BayesianGMM(2))
    assert isinstance(again, pyrometer.Comparison)
    assert again.problem.data.columns == ("c", "a")
    assert again.problem.data.rows == 3600
    words = ["--latent", "1", "--hidden", "8", "--epochs", "1", "--batch-size", "500", "--quiet"]
    assert command_line.main(["train", str(tmp_path / "x.npy"), *words]) == 0
    assert "ELBO" in capsys.readouterr().out
    assert command_line.main(["train", str(tmp_path / "x.npy"), "--label", "x0", *words]) == 2
    assert command_line.main(["compare", str(tmp_path / "x.npy"), "--columns", "nothing"]) == 2


@pytest.mark.parametrize("number", [2, 7, 1000, 4097])
def test_rows_of_many_come_once_each_in_an_order_of_their_own(number: int) -> None:
    keys = torch.randint(2**62, (6,), generator=torch.Generator().manual_seed(number))
    found = shuffled(torch.arange(number), number, keys)
    assert sorted(found.tolist()) == list(range(number))
    if number > 100:
        ranks = np.corrcoef(np.arange(number), found.numpy())[0, 1]
        assert abs(ranks) < 5 / np.sqrt(number)


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from large import rows
print(rows.measured(sys.argv[2], rows.Path(sys.argv[3]))["peak"])
"""


def peak(what: str, path: Path) -> float:
    folder = Path(__file__).parents[2] / "benchmarks"
    words = [sys.executable, "-c", CHILD, str(folder), what, str(path)]
    return float(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def big_file(folder: Path, rows: int) -> Path:
    x = np.lib.format.open_memmap(folder / "big.npy", mode="w+", dtype="f8", shape=(rows, 8))
    for start in range(0, rows, 250_000):
        labels = RANDOM.integers(0, 3, size=min(250_000, rows - start))
        x[start : start + len(labels)] = 3 * labels[:, None] + RANDOM.normal(size=(len(labels), 8))
    x.flush()
    return folder / "big.npy"


def test_memory_is_that_of_the_blocks(tmp_path: Path) -> None:
    """Of 192 MB of rows two copies and what each row has of three components would be 650 MB, imports aside."""
    assert peak("cavi", big_file(tmp_path, 3_000_000)) < 450e6


@pytest.mark.slow
@pytest.mark.parametrize("what", ["em", "cavi", "svi", "train", "compare", "command"])
def test_ten_million_rows_take_a_gigabyte(what: str, tmp_path: Path) -> None:
    assert peak(what, big_file(tmp_path, 10_000_000)) < 1e9
