"""A disk that is full or read-only ends a command in one line and status 2, and what was there before stays whole."""

from __future__ import annotations

import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyrometer
import pytest
from disks import fill, mounted, read_only
from pyrometer.inference.cli.main import main
from pyrometer.inference.report import save
from pyrometer.models import VAE

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="mounts and /dev/full"),
    pytest.mark.filterwarnings("ignore:.*latent units are inactive"),
]
QUICK = ["--steps", "20", "--starts", "1", "--draws", "200", "--quiet"]
COMPARE = ["compare", "faithful", *QUICK, "--reference", "none", "--guides", "auto_normal,auto_mvn"]
COMMANDS = {
    "compare": COMPARE,
    "components": ["components", "faithful", "--components", "1,2", "--draws", "500", "--folds", "0", "--quiet"],
    "train": ["train", "digits", "--latent", "2", "--epochs", "1", "--hidden", "8", "--quiet"],
}


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "pictures_of", lambda comparison: {})
    monkeypatch.setattr(save, "report_of", lambda comparison, methods, command, drawn: command)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_ends_a_command_in_one_line(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", 400_000) as disk:
        fill(disk, 20_000)
        (disk / "out").mkdir()
        (disk / "out" / "table.csv").write_text("of mine")
        before = tree(disk)
        assert main([*COMMANDS[command], "--out", str(disk / "out")]) == 2
        said = [line for line in capfd.readouterr().err.splitlines() if "warning" not in line]
        assert len(said) == 1, said
        assert said[0].startswith("pyrometer: error: cannot write ")
        assert "no space left on device" in said[0]
        assert tree(disk) == before


def test_a_full_disk_ends_a_report_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with mounted(tmp_path / "disk") as disk:
        (disk / "page.html").write_text("of mine")
        fill(disk, 20_000)
        assert main([*COMPARE, "--report", str(disk / "page.html")]) == 2
        assert "cannot write the report to" in capfd.readouterr().err
        assert (disk / "page.html").read_text() == "of mine"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_disk_is_refused_before_the_work(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk") as disk:
        read_only(disk)
        for out in (disk, disk / "new"):
            assert main([*COMMANDS[command], "--out", str(out)]) == 2
            printed = capfd.readouterr()
            line = f"pyrometer: error: cannot write into {out}: read-only file system; choose another folder\n"
            assert printed == ("", line)


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    digits = pyrometer.datasets.pixels("digits")[:200]
    model = VAE(2, "mlp", "bernoulli", hidden=(8,))
    with mounted(tmp_path / "disk", 400_000) as disk:
        pyrometer.train(model, "encoder", digits, epochs=1, draws=2, checkpoint=disk / "run", progress=False)
        before = tree(disk)
        fill(disk)
        with pytest.raises(pyrometer.InputError, match=r"cannot write a checkpoint into .*no space left on device"):
            pyrometer.train(
                model, "encoder", digits, epochs=2, draws=2, checkpoint=disk / "run", resume=True, progress=False
            )
        (disk / "fill").unlink()
        assert tree(disk) == before
        again: dict[str, Any] = {"checkpoint": disk / "run", "resume": True, "progress": False}
        assert pyrometer.train(model, "encoder", digits, epochs=2, draws=2, **again).steps > 0


FITS = """
import resource, sys
import pyrometer
from pyrometer.models import BayesianGMM, GMM

fit = pyrometer.cavi(BayesianGMM(2), "faithful", draws=500, progress=False)
comparison = pyrometer.compare(BayesianGMM(2), "faithful", [], reference=fit, progress=False)
chosen = pyrometer.choose_components("faithful", [1, 2], GMM, folds=0, progress=False)
chosen.save(sys.argv[1])
for things in (fit, comparison):
    things.save(sys.argv[1])
    for limit in (10, 5_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            things.save(sys.argv[1])
        except pyrometer.InputError as error:
            print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
loaded = pyrometer.load(sys.argv[1], BayesianGMM(2))
assert (loaded.posterior["locs"] == fit.posterior["locs"]).all()
"""


def test_files_that_may_not_grow_are_one_line_and_no_crash(tmp_path: Path) -> None:
    """Also where no disk can be mounted: HDF5 would end the process where it cannot write."""
    done = subprocess.run(
        [sys.executable, "-c", FITS, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert set(lines) == {f"cannot write into {tmp_path / 'out'}: file too large; choose another folder"}


NO_ROOM = "pyrometer: error: cannot write to standard output: no space left on device\n"


def test_output_that_a_full_disk_refuses_is_one_line() -> None:
    """In a process of its own, whose interpreter flushes once more as it ends."""
    command = [sys.executable, "-m", "pyrometer.inference.cli.main", "guides"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, NO_ROOM)


@pytest.mark.usefixtures("no_pictures")
def test_what_was_computed_is_written_though_output_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full, redirect_stdout(full):
        assert main([*COMPARE, "--out", str(tmp_path / "out")]) == 2
    assert capfd.readouterr() == ("", NO_ROOM)
    assert (tmp_path / "out" / "table.csv").exists()


def test_output_that_was_closed_before_is_no_matter() -> None:
    command = f"{sys.executable} -m pyrometer.inference.cli.main guides >&- 2>&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_errors_that_a_full_disk_refuses_keep_their_status() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "pyrometer.inference.cli.main", "compare", "nothing"]
        assert subprocess.run(command, stderr=full, check=False).returncode == 2
