"""A VAE of strings from the command line: a text file in, scores, samples and pictures out, one line for a mistake."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from pyrometer import score_strings
from pyrometer.inference.cli import strings as cli_strings
from pyrometer.inference.cli.main import main
from pyrometer.inference.local_latents.marginal import Budget

STRINGS = ["CCO", "CC=O", "NCC", "CCN", "COC", "CCC", "NCN", "OCC", "OCO", "C=C"] * 4
MODEL = ["--model", "sequence-vae", "--units", "8", "--latent", "1"]
QUICK = ["--quiet", "--batch-size", "16"]
pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")


def test_a_file_of_strings_is_trained_scored_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Budget(draws=100, chains=2, temperatures=10, leapfrogs=1)
    monkeypatch.setattr("pyrometer.inference.local_latents.gaps.CAREFUL", few)
    monkeypatch.setattr(cli_strings, "score_strings", partial(score_strings, budget=few))
    monkeypatch.setattr(cli_strings, "SAMPLES", 50)
    (tmp_path / "x.smi").write_text("\n".join(f"{string} a name" for string in STRINGS))
    data, out = str(tmp_path / "x.smi"), tmp_path / "out"
    train = ["train", data, *MODEL, *QUICK, "--holdout", "0.2", "--out", str(out)]
    assert main([*train, "--epochs", "3"]) == 0
    said = capsys.readouterr().out
    assert "iwae_bits" in said
    assert "of 1 latent units are active, KL(q(z | x) | prior) is" in said
    pictures = {
        f"{name}.png" for name in ("training", "samples", "latent", "portrait", "reconstructions", "interpolation")
    }
    names = {path.name for path in out.iterdir()}
    assert pictures | {"scores.csv", "samples.txt", "checkpoint.pt", "encoder.nc", "index.html"} <= names
    assert "notes.txt" not in names
    assert pd.read_csv(out / "scores.csv", index_col=0).loc["iwae", "strings"] == 8
    assert len((out / "samples.txt").read_text().splitlines()) == 50
    compare = ["compare", data, *MODEL, "--guides", "encoder", "--steps", "20", "--starts", "1", "--rows", "1"]
    chains = ["--warmup", "20", "--draws", "20", "--chains", "2", "--quiet", "--checkpoint", str(out)]
    assert main([*compare, *chains]) == 0
    assert "approximation_gap" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "options", "says"),
    [
        (["CC", "", "C"], [], "x.txt, line 2 is empty: remove it"),
        (["CC", "CCC"], ["--max-length", "2"], "x, row 1: 'CCC' has 3 characters, and max_length is 2"),
        (["CC", "CN"], ["--alphabet", "C"], "x, row 1: 'CN' holds 'N', a character not seen in training"),
        (["CC", "CN"], ["--word-dropout", "1.5"], "argument --word-dropout: '1.5' must be a share"),
    ],
)
def test_a_mistake_ends_in_one_line(
    lines: list[str], options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.txt").write_text("\n".join(lines))
    assert main(["train", str(tmp_path / "x.txt"), *MODEL, *QUICK, *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
