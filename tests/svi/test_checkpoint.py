"""A checkpoint is whole or refused in one line; a killed training goes on with the numbers of an unbroken one."""

from __future__ import annotations

import io
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyrometer
import pytest
import torch
from pyrometer import InputError, train
from pyrometer.inference.runtime.file import sealed, unsealed
from pyrometer.inference.svi import checkpoint
from pyrometer.models import VAE

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")  # trained for no more than a moment

DIGITS = pyrometer.datasets.load("digits").to_numpy()[:300] / 16
MODEL = VAE(2, "mlp", "bernoulli", hidden=(16,))
OPTIONS: dict[str, Any] = {"x_test": DIGITS[250:], "batch_size": 50, "draws": 3, "patience": None, "progress": False}
EPOCHS = 60


def trained(folder: Path | None = None, **options: Any) -> Any:
    return train(MODEL, "encoder", DIGITS[:250], checkpoint=folder, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint, as it lies on disk."""
    folder = tmp_path_factory.mktemp("kept")
    trained(folder, epochs=EPOCHS)
    return (folder / checkpoint.FILE).read_bytes()


def refused(folder: Path, content: bytes, **options: Any) -> str:
    """The line that resuming from this content ends in."""
    (folder / checkpoint.FILE).write_bytes(content)
    with pytest.raises(InputError) as caught:
        trained(folder, resume=True, epochs=EPOCHS, **options) if options else checkpoint.read(folder, {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_flipped_bit_is_found_wherever_it_is(kept: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in [0, len(kept) - 1, *rng.integers(len(kept), size=250)]:
        damaged = bytearray(kept)
        damaged[place] ^= 1 << int(rng.integers(8))
        assert "is no checkpoint, or a damaged one: remove it" in refused(tmp_path, bytes(damaged))


def test_what_is_cut_short_lengthened_or_empty_is_found(kept: bytes, tmp_path: Path) -> None:
    for content in (kept[:-1], kept[: len(kept) // 2], kept[:31], b"", kept + b"\0", kept[1:], kept + kept):
        assert "damaged one: remove it" in refused(tmp_path, content)


def changed(kept: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A checkpoint that was tampered with, and given the right checksum."""
    found = torch.load(io.BytesIO(unsealed(kept)), weights_only=True)
    change(found)
    written = io.BytesIO()
    torch.save(found, written)
    return sealed(written.getvalue())


def reshaped(found: dict[str, Any]) -> None:
    name = next(iter(found["values"]))
    found["values"][name] = torch.zeros(7, 7)


TAMPERED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no values": (lambda found: found.pop("values"), "damaged one"),
    "no losses": (lambda found: found.pop("losses"), "damaged one"),
    "no optimizer": (lambda found: found.pop("adam"), "damaged one"),
    "no owner": (lambda found: found.pop("owner"), "damaged one"),
    "an owner that is no JSON": (lambda found: found.update(owner="{"), "damaged one"),
    "an owner without a seed": (lambda found: found.update(owner="{}"), "damaged one"),
    "values of another shape": (reshaped, "has other values of"),
    "a value too few": (lambda found: found["values"].popitem(), "has other values of"),
    "another best": (lambda found: found.update(best={"odd": torch.zeros(2)}), "has other best of"),
    "moments of another shape": (
        lambda found: found["adam"]["means"].__setitem__(0, torch.zeros(3)), "has other means of"
    ),
    "moments too few": (lambda found: found["adam"]["squares"].pop(), "has other squares of"),
    "steps that were not compiled": (
        lambda found: found.update(optimizer={}) or found.pop("adam"), "were not compiled, and these are script"
    ),
    "an option unknown to Adam": (lambda found: found["adam"].update(odd=1), "damaged one"),
    "losses that are no numbers": (lambda found: found.update(losses="many"), "damaged one"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_refused_in_one_line(what: str, kept: bytes, tmp_path: Path) -> None:
    change, message = TAMPERED[what]
    assert message in refused(tmp_path, changed(kept, change), seed=0)


def test_a_checkpoint_is_refused_where_a_folder_or_a_file_is_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "a" / checkpoint.FILE).mkdir(parents=True)
    (tmp_path / "file").write_text("kept")
    for folder, options, message in (
        ("a", {"resume": True}, "cannot be read (Is a directory)"),
        ("a", {}, "cannot write a checkpoint into"),
        ("file", {}, "is a file; choose another folder"),
    ):
        with pytest.raises(InputError) as caught:
            trained(tmp_path / folder, epochs=1, **options)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def _work(folder: Path, resume: bool) -> None:
    fit = trained(folder, epochs=EPOCHS, resume=resume)
    np.savez(folder / "end.npz", losses=fit.losses, test_losses=fit.test_losses, z=fit.encode(DIGITS[250:]))


def killed_and_resumed(folder: Path, moments: list[float]) -> tuple[dict[str, np.ndarray], int]:
    """The numbers of a training that is killed so many seconds after each of its starts; how often that was."""
    fork, kills = multiprocessing.get_context("fork"), 0
    for moment in [*moments, 60.0]:
        process = fork.Process(target=_work, args=(folder, (folder / checkpoint.FILE).exists()))
        process.start()
        process.join(moment)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            break
    return dict(np.load(folder / "end.npz")), kills


def check_kills(folder: Path, kills: int, longest: float) -> None:
    folder.mkdir()
    began = time.perf_counter()
    whole = trained(folder / "whole", epochs=EPOCHS)
    seconds = time.perf_counter() - began
    rng, met, rounds = np.random.default_rng(kills), 0, 0
    while met < kills and rounds < 2 * kills:  # trainings, each killed up to three times on its way
        rounds += 1
        (folder / str(rounds)).mkdir()
        moments = list(rng.uniform(0, longest * seconds, min(3, kills - met)))
        found, met_now = killed_and_resumed(folder / str(rounds), moments)
        np.testing.assert_array_equal(found["losses"], whole.losses)
        np.testing.assert_array_equal(found["test_losses"], whole.test_losses)
        np.testing.assert_array_equal(found["z"], whole.encode(DIGITS[250:]))
        met += met_now
    assert met == kills


def test_killed_at_any_moment_a_training_resumes_with_the_numbers_of_an_unbroken_one(tmp_path: Path) -> None:
    check_kills(tmp_path / "runs", kills=3, longest=0.7)


@pytest.mark.slow
def test_killed_fifty_times_it_resumes_with_the_same_numbers(tmp_path: Path) -> None:
    check_kills(tmp_path / "runs", kills=50, longest=0.9)
