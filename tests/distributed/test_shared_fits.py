"""Several processes give the numbers of one whose batches are as large as all of theirs: to 1e-6, measured 1e-8."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import fits
import numpy as np
import pyrometer.inference.cli.train as command
import pytest
from fits import FITS, WHOLE, kept, together
from pyrometer.inference.cli.main import main

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # trained for no more than a moment
    pytest.mark.skipif(sys.platform != "linux", reason="it forks"),
]
CLOSE = 1e-6
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@cache
def of_one(name: str, rows: int | None = WHOLE) -> dict[str, Any]:
    return kept(FITS[name](rows))


def check_same(found: dict[str, Any], expected: dict[str, Any], close: float = CLOSE) -> None:
    """Parameters, losses, held-out losses and draws alike; and what was decided from them."""
    assert len(found["losses"]) == len(expected["losses"])
    for name in ("losses", "test_losses", "draws"):
        np.testing.assert_allclose(found[name], expected[name], rtol=close, atol=close)
    assert found["params"].keys() == expected["params"].keys()
    for name, value in expected["params"].items():
        np.testing.assert_allclose(found["params"][name], value, rtol=0, atol=close)
    assert [found[name] for name in ("compiled", "converged", "message")] == [
        expected[name] for name in ("compiled", "converged", "message")
    ]


def torchrun(processes: int, *arguments: str, seconds: float = 500.0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, str(processes), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, check=False)


def test_two_processes_by_torchrun_give_the_numbers_of_one(tmp_path: Path) -> None:
    run = torchrun(2, str(Path(fits.__file__)), str(tmp_path), str(WHOLE // 2))
    assert run.returncode == 0, run.stderr[-3000:]
    first, second = (pickle.loads((tmp_path / str(rank)).read_bytes()) for rank in range(2))
    for name in fits.BY_TORCHRUN:
        check_same(first[name], of_one(name))
        check_same(second[name], first[name], close=0.0)  # bit for bit


OTHERS = [name for name in FITS if name not in fits.BY_TORCHRUN]
SLOW = ["z enumerated, compiled", "local latents, compiled", "IWAE"]


@pytest.mark.parametrize(
    "names", [[name for name in OTHERS if name not in SLOW], pytest.param(SLOW, marks=pytest.mark.slow)]
)
def test_other_guides_and_estimators_too(names: list[str], tmp_path: Path) -> None:
    (_, first), (_, second) = together(lambda rank: {n: kept(FITS[n](WHOLE // 2)) for n in names}, 2, tmp_path)
    assert isinstance(first, dict), first
    for name in names:
        check_same(first[name], of_one(name))
        check_same(second[name], first[name], close=0.0)


UNEVEN = ("regression", "z sampled", "local latents")


def test_three_processes_share_what_three_does_not_divide(tmp_path: Path) -> None:
    """All of the 203 rows in each step: 67, 68 and 68 of them."""
    results = together(lambda rank: {n: kept(FITS[n](None)) for n in UNEVEN}, 3, tmp_path)
    for name in UNEVEN:
        for _, found in results:
            assert isinstance(found, dict), found
            check_same(found[name], of_one(name, None))


def resumed(folder: Path, rows: int, epochs: int, resume: bool, **options: Any) -> dict[str, Any]:
    test = fits.PIXELS[:30]
    return kept(
        fits.train(
            fits.vae(), epochs, x_test=test, patience=None, checkpoint=folder, resume=resume, draws=3, **options
        )(rows)
    )


@pytest.mark.parametrize(
    "options", [{"compile": False}, pytest.param({"epochs": 60}, marks=pytest.mark.slow)], ids=["by Pyro", "compiled"]
)
def test_a_checkpoint_is_resumed_by_any_number_of_processes(tmp_path: Path, options: dict[str, Any]) -> None:
    epochs, options = options.get("epochs", 4), {"compile": options.get("compile", "auto")}
    unbroken = resumed(tmp_path / "unbroken", WHOLE, epochs, resume=False, **options)
    sizes = (1, 2, 3)

    def work(processes: int, folder: Path, until: int, resume: bool) -> list[Any]:
        rows = WHOLE // processes
        run = lambda rank=0: resumed(folder, rows, until, resume, **options)  # noqa: E731
        return [run()] if processes == 1 else [found for _, found in together(run, processes, tmp_path)]

    for writer in sizes:
        work(writer, tmp_path / str(writer), epochs // 2, resume=False)
        assert [path.name for path in (tmp_path / str(writer)).iterdir()] == ["checkpoint.pt"]
    for writer, reader in ((2, 1), (2, 3), (1, 2), (3, 2)):
        folder = tmp_path / f"{writer}{reader}"
        folder.mkdir()
        (folder / "checkpoint.pt").write_bytes((tmp_path / str(writer) / "checkpoint.pt").read_bytes())
        for found in work(reader, folder, epochs, resume=True):
            assert isinstance(found, dict), found
            check_same(found, unbroken)


def test_a_checkpoint_of_another_whole_batch_is_refused(tmp_path: Path) -> None:
    resumed(tmp_path / "one", WHOLE, 1, resume=False)
    for _, found in together(lambda rank: resumed(tmp_path / "one", WHOLE, 2, resume=True), 2, tmp_path):
        assert found.startswith("InputError: the checkpoint in")
        assert f"batch_size {WHOLE} instead of {2 * WHOLE}" in found


ARGUMENTS = ["train", "digits", "--latent", "2", "--hidden", "8", "--epochs", "2", "--seed", "3"]
PROGRAM = f"""
import pyrometer.inference.cli.train as command
from pyrometer.inference.cli import main
command.ROWS, command.USUAL = 2, ("iwae_5",)  # for want of time
raise SystemExit(main.main({ARGUMENTS}))
"""


def check_said(said: str) -> None:
    assert said.count("nats a row after 14 steps") == 1  # of 1797 rows in batches of 2 x 128
    assert said.count("iwae_5") == 1


@pytest.mark.slow
def test_the_command_line_speaks_once_under_torchrun(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    run = torchrun(2, str(tmp_path / "program.py"))
    assert run.returncode == 0, run.stderr[-3000:]
    check_said(run.stdout)


def test_the_command_line_speaks_and_writes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROWS", 2)
    monkeypatch.setattr(command, "USUAL", ("iwae_5",))
    monkeypatch.setattr(command, "_draws", lambda *_: {})  # pictures, which take their time

    def work(rank: int) -> tuple[int, str]:
        os.environ |= {"TORCHELASTIC_RUN_ID": "a", "RANK": str(rank), "WORLD_SIZE": "2"}
        said = StringIO()
        with redirect_stdout(said):
            return main([*ARGUMENTS, "--out", str(tmp_path / "out")]), said.getvalue()

    (_, (status, said)), (_, other) = together(work, 2, tmp_path)
    assert status == 0
    check_said(said)
    assert other == (0, "")
    written = [path.name for path in (tmp_path / "out").iterdir()]
    assert {"checkpoint.pt", "marginal.csv", "index.html"} <= set(written)
    assert len(written) == len(set(written))


def test_alone_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *a, **k: pytest.fail("joined"))
    monkeypatch.setattr("torch.distributed.all_reduce", lambda *a, **k: pytest.fail("summed"))
    for given in ({}, {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "1", "RANK": "0"}):
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        check_same(kept(FITS["local latents"](WHOLE)), of_one("local latents"), close=0.0)
