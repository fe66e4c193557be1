"""Where there is no terminal a command writes lines now and then, and the library none."""

import pytest
from pyrometer.inference.runtime import progress
from pyrometer.inference.runtime.progress import lines_without_terminal, progress_bar


def counted(show: bool = True) -> None:
    with progress_bar(3, "work", show) as bar:
        for number in range(3):
            bar.update()
            bar.set_postfix(elbo=str(number))


def test_a_command_without_a_terminal_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with lines_without_terminal():
        counted()
        lines = capsys.readouterr().err.splitlines()
        assert "work: 3 of 3 steps" in lines[-1]
        assert not any("\r" in line for line in lines)
        monkeypatch.setattr(progress, "EVERY", 100.0)
        counted()
        assert len(capsys.readouterr().err.splitlines()) < len(lines)
        counted(show=False)
    counted()
    assert capsys.readouterr().err == ""
