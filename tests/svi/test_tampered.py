"""Whatever lies in the place of a checkpoint is resumed from, or refused in one line; no code in it is ever run."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyrometer
import pytest
import torch
from pyrometer import InputError, train
from pyrometer.inference.runtime.file import DIGEST_BYTES, sealed
from pyrometer.inference.svi.checkpoint import FILE
from pyrometer.inference.svi.fitted import trained
from pyrometer.models import VAE

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*latent units are inactive"),  # trained for no more than a moment
    pytest.mark.filterwarnings("ignore:.*the last good parameters are kept"),
]

DIGITS = pyrometer.datasets.load("digits").to_numpy()[:60] / 16
MODEL = VAE(2, "mlp", "bernoulli", hidden=(4,))
OPTIONS: dict[str, Any] = {"x_test": DIGITS[50:], "batch_size": 25, "draws": 3, "progress": False}
EPOCHS = {"by Pyro": 2, "compiled": 60}  # compiled where it is worth it


@pytest.fixture(scope="module", params=EPOCHS)
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """What a training leaves, with files of other kinds beside it."""
    folder = tmp_path_factory.mktemp("kept") / request.param
    train(MODEL, "encoder", DIGITS[:50], checkpoint=folder, epochs=EPOCHS[request.param], **OPTIONS).save(folder)
    train(MODEL, "encoder_full", DIGITS[:50], checkpoint=folder / "other", epochs=1, **OPTIONS)
    (folder / "table.csv").write_text("a,b\n1,2\n")
    np.savez(folder / "numbers.npz", a=np.ones(3))
    return folder


class Code:
    """What does something as it is unpickled: it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def saved(found: Any) -> bytes:
    """As torch writes it, and with the right checksum behind it."""
    written = io.BytesIO()
    torch.save(found, written)
    return sealed(written.getvalue())


def flipped(content: bytes, rng: random.Random, bits: int) -> bytes:
    """Some of its bits the other way round."""
    changed = bytearray(content)
    for _ in range(bits):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def odd(rng: random.Random, was: Any) -> Any:
    """Something else than a field was."""
    choices: list[Any] = [
        None,
        "",
        "many",
        -1,
        10**30,
        0.5,
        float("nan"),
        [],
        {},
        [None],
        {"odd": 1},
        torch.zeros(7, 7),
        b"bytes",
    ]
    choices += [
        torch.zeros(7, 7),
        torch.tensor(float("nan")),
        torch.zeros(0),
        torch.zeros(2, dtype=torch.complex64),
        [torch.zeros(1)] * 3,
    ]
    if isinstance(was, torch.Tensor):
        choices += [was.double(), was.float() * float("inf"), was[None, ...], was.flatten()[:1], was.to_sparse()]
        choices += [was.int(), torch.full_like(was, -1e30), was.tolist(), was.clone()]
    return rng.choice(choices)


def changed(found: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A field of it, however deep, is another, is gone, or is there once more under an odd name."""
    name = rng.choice(list(found))
    value = found[name]
    if isinstance(value, dict) and value and rng.random() < 0.7:
        return {**found, name: changed(value, rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return {**found, name: [*value[:at], odd(rng, value[at]), *value[at + 1 :]]}
    what = rng.choice(["another", "another", "another", "gone", "twice"])
    if what == "gone":
        return {key: kept for key, kept in found.items() if key != name}
    return {**found, (name if what == "another" else f"{name} "): odd(rng, value)}


def tampered(folder: Path, rng: random.Random, mark: Path) -> tuple[str, bytes]:
    """One of many ways to tamper with the checkpoint in a folder: its kind, and what lies there then."""
    content = (folder / FILE).read_bytes()
    inner = content[:-DIGEST_BYTES]
    found = torch.load(io.BytesIO(inner), weights_only=True)
    others = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Code(mark)))
        file.writestr("archive/version", "3\n")
    ways: dict[str, Callable[[], bytes]] = {
        "flipped": lambda: flipped(content, rng, rng.choice([1, 1, 8, 400])),
        "cut": lambda: content[: rng.randrange(len(content))],
        "cut and signed": lambda: sealed(inner[: rng.randrange(len(inner))]),
        "flipped and signed": lambda: sealed(flipped(inner, rng, rng.choice([1, 8, 400]))),
        "another field": lambda: saved(changed(found, rng)),
        "several other fields": lambda: saved(changed(changed(changed(found, rng), rng), rng)),
        "another file": lambda: rng.choice(others).read_bytes(),
        "another file, signed": lambda: sealed(rng.choice(others).read_bytes()),
        "code": lambda: saved(rng.choice([Code(mark), {**found, "best": Code(mark)}, [Code(mark)]])),
        "code as a pickle": lambda: sealed(pickle.dumps(Code(mark), protocol=rng.randrange(5))),
        "code in an archive": lambda: sealed(archive.getvalue()),
        "something else": lambda: saved(odd(rng, found)),
    }
    kind = rng.choice([*ways, "another field", "several other fields", "flipped and signed"])
    return kind, ways[kind]()


def check_tamperings(number: int, folder: Path, here: Path) -> Counter[str]:
    """Resume and restore from so many; how many of each kind were refused."""
    rng, refused, mark = random.Random(number), Counter[str](), here / "code was run"
    epochs = EPOCHS[folder.name]
    roads: list[Callable[[], Any]] = [
        lambda: train(MODEL, "encoder", DIGITS[:50], checkpoint=here, resume=True, epochs=epochs + 1, **OPTIONS),
        lambda: trained(here, MODEL, DIGITS[:50], draws=3),
    ]
    for _ in range(number):
        kind, content = tampered(folder, rng, mark)
        for road in roads:
            (here / FILE).write_bytes(content)
            said = what_is_said(road)
            refused[kind] += bool(said)
            assert "\n" not in said
            assert len(said) < 400
            assert not mark.exists(), kind
    return refused


def what_is_said(road: Callable[[], Any]) -> str:
    """The line in which it ends; empty where it goes on."""
    try:
        road()
    except InputError as error:
        return str(error)
    return ""


def test_whatever_is_in_a_checkpoint_s_place_is_resumed_from_or_refused(folder: Path, tmp_path: Path) -> None:
    assert check_tamperings(16, folder, tmp_path).total() > 16


@pytest.mark.slow
def test_of_250_tamperings_none_is_more_than_one_line(folder: Path, tmp_path: Path) -> None:
    refused = check_tamperings(125, folder, tmp_path)
    assert refused.total() > 125
    assert refused["code"] > 5
