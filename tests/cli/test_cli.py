"""The command line: what it prints and writes, and one line for every mistake."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
from pyrometer import datasets
from pyrometer.guides import CATALOGUE, WORDS
from pyrometer.inference.cli.main import COMMANDS, NEED_DATA, _parser, main
from pyrometer.inference.cli.options import split
from pyrometer.inference.report.page import check_page
from pyrometer.models import GMM, VAE, BayesianGMM

QUICK = ["--guides", "auto_normal,auto_delta", "--reference", "auto_normal", "--steps", "30", "--starts", "1"]
QUICK += ["--draws", "20", "--quiet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What one quick run prints, and the folder it writes."""
    out = tmp_path_factory.mktemp("cli") / "out"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *parts, **_: printed.append(" ".join(map(str, parts))))
        assert main(["compare", "faithful", *QUICK, "--holdout", "0.25", "--out", str(out)]) == 0
    return "\n".join(printed), out


def test_it_prints_the_table_and_where_things_are(run: tuple[str, Path]) -> None:
    text, out = run
    rows = [line.split()[0] for line in text.splitlines() if line]
    assert rows[1:3] == ["auto_normal", "auto_delta"]
    assert "sd_ratio" in text
    assert f"written to {out}" in text


def test_it_writes_table_posteriors_and_pictures(run: tuple[str, Path]) -> None:
    _, out = run
    names = {path.name for path in out.iterdir()}
    assert {"table.csv", "auto_normal.nc", "auto_delta.nc", "comparison.png", "fit.png", "index.html"} <= names


def test_held_out_rows_are_scored(run: tuple[str, Path]) -> None:
    table = pd.read_csv(run[1] / "table.csv", index_col="fit")
    assert table["lpd_test"].notna().all()


def test_the_split_is_seeded_and_complete() -> None:
    x = datasets.load("faithful")
    kept, held = split(x, 0.25, 3)
    again = split(x, 0.25, 3)
    assert len(held) == 68
    assert held.equals(again[1])
    assert not held.equals(split(x, 0.25, 4)[1])
    rows = lambda *frames: sorted(map(tuple, pd.concat(frames).to_numpy()))  # noqa: E731
    assert rows(kept, held) == rows(x)


def test_components_prints_the_table_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    quick = ["--components", "1-2", "--draws", "50", "--starts", "2", "--folds", "2", "--quiet", "--out", str(out)]
    assert main(["components", "faithful", "--covariance", "tied", *quick]) == 0
    printed = capsys.readouterr().out
    assert "chosen: elbo 2, log_evidence 2, bic 2" in printed
    assert pd.read_csv(out / "table.csv")["components"].tolist() == [1, 2]
    assert (out / "components.png").stat().st_size > 1000
    assert main(["components", "faithful", "--components", "2,1", "--model", "gmm", "--holdout", "0.2", "--quiet"]) == 0


BAD = {
    "no such data set": ["compare", "nothing"],
    "no such file": ["compare", "missing.csv"],
    "no such column": ["compare", "faithful", "--columns", "eruptions,depth"],
    "no such guide": ["compare", "faithful", "--guides", "auto_normal,psychic"],
    "a guide of another model": ["compare", "faithful", "--guides", "marginal"],
    "no such reference": ["compare", "faithful", *QUICK[:2], "--reference", "truth"],
    "no such covariance": ["compare", "faithful", "--covariance", "round"],
    "no such model": ["compare", "faithful", "--model", "vae-gmm"],
    "a model whose rows need classes, which no option gives": ["compare", "digits", "--model", "labelled-vae"],
    "no components": ["compare", "faithful", "--components", "0"],
    "more components than rows": ["compare", "faithful", "--components", "300"],
    "components in words": ["compare", "faithful", "--components", "two"],
    "no steps": ["compare", "faithful", "--steps", "0"],
    "a negative seed": ["compare", "faithful", "--seed", "-1"],
    "a share above one": ["compare", "faithful", "--holdout", "1.5"],
    "a share of no row": ["compare", "faithful", "--holdout", "0.0001"],
    "two kinds of held-out rows": ["compare", "faithful", "--holdout", "0.5", "--test", "faithful"],
    "a test file with other columns": ["compare", "faithful", "--test", "galaxies"],
    "the same guide twice": ["compare", "faithful", "--guides", "auto_mvn,auto_mvn"],
    "an empty guide": ["compare", "faithful", "--guides", "auto_mvn,"],
    "no number of components": ["components", "faithful", "--components", "0-3"],
    "components that go down": ["components", "faithful", "--components", "5-2"],
    "components of no mixture": ["components", "faithful", "--model", "vae"],
    "more components than rows in a list": ["components", "faithful", "--components", "2,300"],
    "one part": ["components", "faithful", "--components", "2", "--folds", "1"],
    "no data": ["compare"],
    "no such option": ["compare", "faithful", "--frobnicate"],
    "no such command": ["compute"],
    "guides of no such model": ["guides", "--model", "nothing"],
    "a name that a terminal would obey": ["compare", "\x1b[2J\u202e.csv"],
    "a report without a path": ["compare", "faithful", "--report", ""],
    "a report of nobody": ["compare", "faithful", "--report", "~nouser/report.html"],
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_line_status_2_and_leaves_no_folder(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = BAD[mistake]
    out = ["--out", str(tmp_path / "out")] if arguments[:1] in (["compare"], ["components"]) else []
    assert main([*arguments, *out]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("pyrometer: error: ")
    assert printed.err.count("\n") == 1
    assert printed.err.strip().isprintable()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_path_is_not_the_folder_that_one_is_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell writes for a variable that is not set."""
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "faithful", *QUICK, "--out", ""]) == 2
    assert "an empty path names no file and no folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_report_takes_the_place_of_a_file_alone_and_is_written_where_a_link_leads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not that of a device, which would be gone for everybody: a named pipe stands for it."""
    os.mkfifo(tmp_path / "pipe")
    assert main(["compare", "faithful", *QUICK, "--report", str(tmp_path / "pipe")]) == 2
    assert "it is no file" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to("report.html")
    assert check_page(tmp_path / "link") == tmp_path / "report.html"


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("compare mine.csv --report mine.csv", "mine.csv"),
        ("compare mine.csv --report link.csv", "link.csv"),
        ("compare faithful --test ./mine.csv --report mine.csv", "mine.csv"),
        ("compare out/table.csv --out out", "out/table.csv"),
        ("components out/table.csv --out out/../out", "out/../out/table.csv"),
        ("train out/table.csv --out out", "out/table.csv"),
        ("compare mine.csv --out new --report new", "new"),
        ("compare mine.csv --out new/in --report new", "new"),
    ],
)
def test_no_result_is_written_over_the_data_or_another_result(
    line: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is found before any fitting."""
    monkeypatch.chdir(tmp_path)
    data = "a,b\n1,2\n3,5\n2,2\n"
    Path("out").mkdir()
    files = [Path("mine.csv"), Path("out/table.csv")]
    for path in files:
        path.write_text(data)
    Path("link.csv").symlink_to("mine.csv")
    assert main(line.split()) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f" and {file} is to be written: choose another place" in said or f"--report {file} is in the way" in said
    assert [path.read_text() for path in files] == [data, data]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "mine.csv", "out"]


def test_a_mistake_points_to_the_help_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "faithful", "--steps", "0"]) == 2
    assert capsys.readouterr().err.endswith("; see pyrometer compare --help\n")


def test_a_folder_that_cannot_be_written_is_found_before_any_fitting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr("pyrometer.inference.cli.compare.compare", lambda *_, **__: pytest.fail("it was fitting"))
    assert main(["compare", "faithful", *QUICK, "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_an_interrupt_is_one_line_and_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyrometer.inference.cli.compare.compare", interrupted)
    assert main(["compare", "faithful", *QUICK]) == 130
    assert capsys.readouterr().err == "pyrometer: interrupted\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pyrometer.inference.cli.compare.compare", broken)
    with pytest.raises(ZeroDivisionError):
        main(["compare", "faithful", *QUICK])


@pytest.mark.parametrize(("name", "model"), [("gmm", GMM), ("bayesian-gmm", BayesianGMM), ("vae", VAE)])
def test_guides_lists_every_guide_of_a_model_with_what_it_is(
    name: str, model: type, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["guides", "--model", name]) == 0
    lines = capsys.readouterr().out.splitlines()[1:-1]
    listed = [line.removeprefix(name).replace(" * ", "   ").split(maxsplit=1) for line in lines]
    assert [guide for guide, _ in listed] == list(CATALOGUE[model])
    assert all(len(what) > 10 for _, what in listed)


def test_guides_lists_all_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guides"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for guides in CATALOGUE.values() for name in guides)


def test_what_a_guide_is_is_told_in_words() -> None:
    names = {name for guides in CATALOGUE.values() for name in guides}
    assert names == set(WORDS)
    for words in WORDS.values():
        assert not re.search(r"[`=|_]|params|tensor|\w\(\w+ \| ", words), words
        assert 20 < len(words) < 90
    assert len(set(WORDS.values())) == len(WORDS)


HELP = {"": [], **{name: [name] for name in COMMANDS}}


@pytest.mark.parametrize("command", HELP)
def test_help_has_examples_and_every_example_is_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*HELP[command], "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: pyrometer {command or 'COMMAND'}")
    examples = [
        re.split(r"\s{2,}", line.strip())[0] for line in printed.splitlines() if line.startswith("  pyrometer ")
    ]
    assert len(examples) >= 3
    for example in examples:
        assert _parser(arguments := shlex.split(example)[1:]).parse_args(arguments).run


@pytest.mark.parametrize("command", ["", *NEED_DATA])
def test_a_command_alone_shows_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(HELP[command]) == 0
    alone = capsys.readouterr()
    assert main([*HELP[command], "--help"]) == 0
    assert alone == capsys.readouterr()
    assert "examples:" in alone.out
    assert alone.err == ""


def test_the_first_help_tells_every_command_and_is_there_at_once() -> None:
    """Without importing torch, which takes seconds."""
    code = "import sys; from pyrometer.inference.cli.main import main; main([]); print('torch' in sys.modules)"
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [name for name in COMMANDS if any(line.startswith(f"  {name} ") for line in lines)] == list(COMMANDS)
    assert lines[-1] == "False"


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"pyrometer (\d+\.\d+\.\d+|\(not installed\))\n", capsys.readouterr().out)


COMPLETED = {
    "pyrometer comp": {"compare", "components"},
    "pyrometer compare fai": {"faithful"},
    "pyrometer compare faithful --model b": {"bayesian-gmm"},
    "pyrometer compare faithful --ref": {"--reference"},
    "pyrometer compare faithful --resu": {"--resume"},
    "pyrometer guides --model sequ": {"sequence-vae"},
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash to complete in")
def test_bash_completes_commands_options_choices_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab", reason="shtab, which writes the completion, is not installed")
    assert main(["--print-completion", "bash"]) == 0
    script = [capsys.readouterr().out]
    for line in COMPLETED:
        script += [f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()"]
        script += ["_shtab_pyrometer 2>/dev/null; echo ${COMPREPLY[@]}"]
    done = subprocess.run(["bash", "-c", "\n".join(script)], capture_output=True, text=True, cwd=tmp_path)
    assert [set(line.split()) for line in done.stdout.splitlines()] == list(COMPLETED.values()), done.stderr
    assert main(["--print-completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef pyrometer")


def test_completion_without_shtab_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "zsh"]) == 2
    assert capsys.readouterr().err == "pyrometer: error: --print-completion needs shtab: pip install shtab\n"


@contextmanager
def nobody_reads() -> Iterator[None]:
    """Standard output into a pipe whose other end is closed, as after `| head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, redirect_stdout(stream):
        yield


@pytest.mark.parametrize("arguments", [["guides"], ["--help"], ["compare", "--help"]])
def test_a_closed_pipe_ends_quietly(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with nobody_reads():
        assert main(arguments) == 141
    assert capfd.readouterr() == ("", "")


def test_what_was_computed_is_written_though_nobody_reads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with nobody_reads():
        assert main(["compare", "faithful", *QUICK, "--out", str(out)]) == 141
    assert (out / "table.csv").exists()
    assert capfd.readouterr() == ("", "")


def test_a_mistake_keeps_its_status_though_nobody_reads() -> None:
    with nobody_reads():
        assert main(["compare", "nothing"]) == 2


def test_a_program_that_nobody_reads_ends_quietly() -> None:
    """In a process of its own, whose interpreter flushes once more as it ends."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pyrometer.inference.cli.main", "guides"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_while_it_fits_is_one_line() -> None:
    code = (
        "import sys; from pyrometer.inference.cli import main, compare; print('ready', flush=True); sys.exit(main.main("
    )
    arguments = ["compare", "galaxies", "--guides", "auto_iaf", "--steps", "1000000", "--quiet", "--reference", "none"]
    command = [sys.executable, "-c", f"{code}{arguments}))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    if process.returncode == 130:
        assert (out, err) == ("", "pyrometer: interrupted\n")
    else:  # training had begun: what it came to is shown
        assert (process.returncode, err) == (0, "")
        assert "interrupted" in out
