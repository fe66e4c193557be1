"""A VAE from the command line: what it prints and writes, how it resumes, and one line for every mistake."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyrometer import datasets, train
from pyrometer.inference.cli import train as cli_train
from pyrometer.inference.cli.main import main
from pyrometer.inference.local_latents.marginal import Budget
from pyrometer.models import VAE

VAE_OPTIONS = ["--model", "vae", "--latent", "2", "--hidden", "32"]
QUICK = ["--epochs", "3", "--quiet"]
PICTURES = {"portrait", "latent", "plane", "reconstructions", "samples", "interpolation", "completion", "training"}
pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick training."""
    out = tmp_path_factory.mktemp("train") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *_, **__: None)
        patch.setattr(cli_train, "USUAL", ("elbo", "iwae_50"))
        arguments = ["train", "digits", *VAE_OPTIONS, "--guide", "encoder", "--holdout", "0.1", *QUICK]
        assert main([*arguments, "--out", str(out)]) == 0
    return out


def test_it_writes_pictures_posterior_marginal_likelihood_and_checkpoint(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {f"{name}.png" for name in PICTURES} | {"marginal.png", "marginal.csv", "encoder.nc", "index.html"} <= names
    assert "checkpoint.pt" in names
    assert all((trained / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in PICTURES)
    table = pd.read_csv(trained / "marginal.csv", index_col="method")
    assert table.loc["elbo", "nats"] < table.loc["iwae_50", "nats"] < 0


def test_resumed_it_goes_on_where_it_was(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_train, "USUAL", ("elbo",))
    arguments = ["train", "digits", *VAE_OPTIONS, "--guide", "encoder", "--holdout", "0.1", "--quiet", "--resume"]
    assert main([*arguments, "--epochs", "4", "--out", str(trained)]) == 0
    assert "after 48 steps" in capsys.readouterr().out  # 12 an epoch


def test_an_interrupted_training_says_how_it_goes_on(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyrometer.inference.cli.train.train", interrupted)
    arguments = ["train", "digits", *VAE_OPTIONS, *QUICK, "--out"]
    assert main([*arguments, str(trained)]) == main([*arguments, str(tmp_path / "new")]) == 130
    resume = f"pyrometer: interrupted: --resume goes on from the checkpoint in {trained}"
    assert capsys.readouterr().err == f"{resume}\npyrometer: interrupted\n"


def test_compare_takes_the_trained_decoder_and_writes_the_gaps(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrometer.inference.local_latents.gaps.CAREFUL", Budget(draws=200, chains=8, temperatures=50))
    arguments = ["compare", "digits", *VAE_OPTIONS, "--guides", "encoder,free", "--checkpoint", str(trained)]
    work = ["--steps", "40", "--starts", "1", "--rows", "2", "--warmup", "50", "--draws", "50", "--quiet"]
    assert main([*arguments, *work, "--holdout", "0.1", "--out", str(tmp_path / "out")]) == 0
    assert "amortisation_gap" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "table.csv", index_col="fit")
    assert list(table.index) == ["encoder", "free"]
    assert table.loc["encoder", ["elbo_test", "log_p_test", "gap"]].notna().all()
    assert np.isnan(table.loc["free", "elbo_test"])
    gaps = pd.read_csv(tmp_path / "out" / "gaps.csv", index_col=["guide", "row"])
    assert len(gaps) == 4
    assert {"comparison.png", "portrait.png", "encoder.nc", "free.nc"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_the_notes_of_the_fit_and_of_its_pictures_are_both_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("out of ink")

    datasets.load("iris").to_csv(tmp_path / "iris.csv", index=False)
    monkeypatch.setattr(cli_train, "USUAL", ("elbo",))
    monkeypatch.setattr("pyrometer.inference.fit.saved.to_netcdf", fails)
    monkeypatch.setattr(cli_train, "plot_plane", fails)
    arguments = ["train", str(tmp_path / "iris.csv"), "--hidden", "8", *QUICK]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    lines = (tmp_path / "out" / "notes.txt").read_text().splitlines()
    assert [line.split(" could")[0] for line in lines] == ["encoder.nc", "plane.png"]


@pytest.mark.parametrize("shape", [(6,), (4, 3), (1, 4, 3)])
def test_what_is_completed_is_the_upper_half(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random((20, *shape))
    fit = train(VAE(2, "mlp", "gaussian", (8,)), "encoder", x, epochs=1, batch_size=10, progress=False)
    picture: Any = cli_train._draws(fit, None, pd.DataFrame())["completion.png"].draw
    known = picture.args[2]
    assert known.shape == (10, *shape)
    assert (known.reshape(10, 2, -1) == [[[True], [False]]]).all()


def test_a_label_column_is_not_fitted_and_colours_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iris = datasets.load("iris").assign(kind=datasets.labels("iris"))
    iris.to_csv(tmp_path / "iris.csv", index=False)
    seen: dict[str, Any] = {}
    original = cli_train._draws

    def draws(fit: object, labels: pd.Series, table: pd.DataFrame) -> Any:
        seen.update(fit=fit, labels=labels)
        return original(fit, labels, table)  # type: ignore[arg-type]

    monkeypatch.setattr(cli_train, "_draws", draws)
    monkeypatch.setattr(cli_train, "USUAL", ("elbo",))
    arguments = ["train", str(tmp_path / "iris.csv"), "--label", "kind", "--hidden", "8", "--holdout", "0.2", *QUICK]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    kept = seen["fit"].data
    assert len(kept.columns) == 4
    assert list(seen["labels"]) == list(_labels_of(kept.values.numpy(), iris))


def _labels_of(rows: np.ndarray, iris: pd.DataFrame) -> list[str]:
    """The kind of each row, looked up by its numbers; rows that occur twice are of one kind."""
    known = {tuple(np.asarray(row[:4], np.float32)): row[4] for row in iris.to_numpy()}
    return [known[tuple(row)] for row in rows]


MISTAKES = {
    "unknown guide": (["digits", "--guide", "none"], "model VAE has no guide 'none'"),
    "a mixture": (["digits", "--model", "gmm"], "argument --model: invalid choice"),
    "pixels": (["wine", "--likelihood", "bernoulli"], "a bernoulli likelihood wants entries within [0, 1]"),
    "no square": (["wine", "--decoder", "conv"], "a convolution wants pictures"),
    "layers": (["digits", "--hidden", "4,none"], "must be a whole number"),
    "resume without a folder": (["digits", "--resume"], "--resume needs --out DIR"),
    "patience without rows": (["digits", "--patience", "3"], "patience needs x_test"),
    "no label": (["iris.csv", "--label", "sort"], "has no column 'sort' for --label"),
    "device": (["digits", "--device", "nowhere"], "device='nowhere' cannot be used"),
    "device without numbers": (["digits", "--device", "meta"], "device='meta' cannot be used: it holds no numbers"),
    "estimator": (["digits", "--estimator", "none"], "estimator='none' is unknown"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    datasets.load("iris").to_csv("iris.csv", index=False)
    assert main(["train", *arguments, *QUICK, "--out", "out"][: None if "--resume" not in arguments else -2]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pyrometer: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not Path("out").exists()


@pytest.mark.parametrize("arguments", [["--latent", "3"], ["--hidden", "16"], ["--likelihood", "gaussian"]])
def test_a_checkpoint_of_another_model_is_one_line(
    trained: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    common = [*VAE_OPTIONS, *arguments]
    assert main(["train", "digits", *common, "--holdout", "0.1", *QUICK, "--resume", "--out", str(trained)]) == 2
    assert "is of another training, model VAE(" in capsys.readouterr().err
    assert main(["compare", "digits", *common, "--guides", "encoder", "--checkpoint", str(trained)]) == 2
    error = capsys.readouterr().err
    assert "is of another training, model VAE(" in error
    assert error.count(f"{arguments[0].lstrip('-')}=") == 2  # as it was, and as it is to be
    assert error.count("\n") == 1


def test_text_that_is_to_be_divided_by_the_brightest_pixel_is_refused_as_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text("a,b\ntext,1\n0.5,2\n")
    assert main(["train", str(tmp_path / "mine.csv"), "--white", "255", "--quiet"]) == 2
    assert "column 'a', row 0: 'text' is not a number" in capsys.readouterr().err


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoint.pt").write_text("nothing")
    for folder, message in ((tmp_path, "is no checkpoint"), (tmp_path / "none", "holds no checkpoint")):
        assert main(["compare", "digits", *VAE_OPTIONS, "--guides", "encoder", "--checkpoint", str(folder)]) == 2
        assert message in capsys.readouterr().err


def test_a_training_that_ends_beyond_all_numbers_says_so_and_gives_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its one step has a loss as any other; what the step led to is seen by the ELBO alone."""
    (tmp_path / "mine.csv").write_text("a\n0.1\n0.5\n-0.1\n-0.8\n0.3\n0.5\n0.5\n-1.4\n")
    small = ["--latent", "1", "--hidden", "3", "--epochs", "1", "--quiet"]
    assert main(["train", str(tmp_path / "mine.csv"), *small, "--lr", "1e10"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("encoder: ELBO beyond all numbers after 1 steps")
    assert said.out.endswith("the ELBO is not finite after the last step: lower lr\n")
    assert said.err == "pyrometer: warning: encoder: the ELBO is not finite after the last step: lower lr\n"


def test_methods_whose_weights_say_nothing_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_train, "USUAL", ("naive", "elbo"))
    assert main(["train", "faithful", "--latent", "1", "--hidden", "3", "--epochs", "1", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("k-hat above 0.7: believe neither nats nor se of naive\n")
    assert "overflow" not in said.err
