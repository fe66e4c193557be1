"""A bar in a terminal and in a notebook; where there is neither, a line every ten seconds; silent where asked."""

import os
import pty
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest
from pyrometer.inference.runtime import progress
from pyrometer.inference.runtime.progress import progress_bar

BAR = """
import time
from pyrometer.inference.runtime.progress import progress_bar
with progress_bar(3, "work", {show}) as bar:
    for number in range(3):
        time.sleep(0.15)
        bar.update()
"""

FORGET = """
import sys
for name in [name for name in sys.modules if name.startswith(("tqdm", "pyrometer", "ipywidgets"))]:
    del sys.modules[name]
sys.modules["ipywidgets"] = None  # as where it is not installed
"""


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that goes on when it is told to: `seconds.now += 1.0`."""
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(progress, "time", clock)
    return clock


def counted(seconds: SimpleNamespace, number: int, each: float, show: bool = True) -> None:
    """So many units of work, of so many seconds each."""
    with progress_bar(number, "work", show) as bar:
        for unit in range(number):
            seconds.now += each
            bar.update()
            bar.set_postfix(elbo=str(unit))


def test_a_pipe_gets_a_line_every_ten_seconds_and_a_last_one(
    capsys: pytest.CaptureFixture[str], seconds: SimpleNamespace
) -> None:
    counted(seconds, 34, each=1.0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"work: {done} of 34 steps" for done in (10, 20, 30, 34)]
    assert "elbo=33" in lines[-1]
    assert not any("\r" in line for line in lines)


def test_work_of_less_than_ten_seconds_says_nothing_in_a_pipe(
    capsys: pytest.CaptureFixture[str], seconds: SimpleNamespace
) -> None:
    counted(seconds, 9, each=1.0)
    assert capsys.readouterr().err == ""


def test_no_progress_is_no_word(capsys: pytest.CaptureFixture[str], seconds: SimpleNamespace) -> None:
    counted(seconds, 100, each=5.0, show=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("show", [True, False])
def test_a_terminal_gets_a_bar(show: bool) -> None:
    mine, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run([sys.executable, "-c", BAR.format(show=show)], stderr=theirs, check=True, timeout=100)
    os.set_blocking(mine, False)
    try:
        drawn = os.read(mine, 65536)
    except BlockingIOError:  # nothing was written
        drawn = b""
    os.close(theirs)
    os.close(mine)
    assert (b"33%" in drawn and b"\r" in drawn) if show else drawn == b""


def test_a_notebook_gets_a_bar_with_widgets_or_without() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for needed in ("ipykernel", "ipywidgets"):
        pytest.importorskip(needed)
    drawn = nbformat.v4.new_code_cell(BAR.format(show=True))
    notebook = nbformat.v4.new_notebook(cells=[drawn, nbformat.v4.new_code_cell(FORGET + BAR.format(show=True))])
    nbclient.NotebookClient(notebook, timeout=100).execute()
    with_widgets, without = (cell.outputs for cell in notebook.cells)
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in with_widgets)
    assert "33%" in "".join(output.text for output in without if output.get("name") == "stderr")
