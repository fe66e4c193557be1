"""Rows in files: what is read from them, what is refused in one line, and what is left behind."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pyrometer
import pytest
import torch
import zarr
from pyrometer import InputError
from pyrometer.inference.cli.main import main
from pyrometer.inference.data.as_data import as_data
from pyrometer.inference.mapped import blocks, copies
from pyrometer.inference.mapped.opened import opened_rows, rows_in
from pyrometer.inference.mapped.references import reference_to, rows_again
from pyrometer.inference.mapped.tensor import Mapped
from pyrometer.models import GMM

ROWS = np.random.default_rng(0).normal(size=(300, 3)) * [1.0, 10.0, 0.1] + [5.0, 0.0, -3.0]


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file is small enough to be read into memory, and copies lie where they can be counted."""
    monkeypatch.setattr(blocks, "MAX_BYTES_LOADED", 0)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))


def saved(folder: Path, x: np.ndarray, name: str = "x.npy") -> Path:
    np.save(folder / name, x)
    return folder / name


def parquet(folder: Path, frame: pd.DataFrame, parts: int = 3) -> Path:
    (folder / "parts").mkdir()
    step = -(-len(frame) // parts)
    for number in range(parts):
        frame.iloc[number * step : (number + 1) * step].to_parquet(folder / "parts" / f"{number}.parquet")
    return folder / "parts"


def mapped(path: Path) -> Mapped:
    found = rows_in(path, "x")
    assert isinstance(found, Mapped)
    return found


def test_what_is_asked_of_all_rows_is_what_memory_says(tmp_path: Path) -> None:
    here = torch.as_tensor(ROWS)
    there = mapped(saved(tmp_path, ROWS))
    assert there.shape == here.shape
    assert len(there) == 300
    assert there.dim() == 2
    for ask in (
        lambda x: x.mean(0),
        lambda x: x.std(0, correction=0),
        lambda x: x.std(0),
        lambda x: x.var(0, unbiased=False),
        lambda x: torch.mean(x, dim=0, keepdim=True),
        lambda x: x.sum(0),
        lambda x: x.mean(),
        lambda x: x.std(),
        lambda x: x.var(correction=0),
        lambda x: x.sum(),
        lambda x: x.amin(0),
        lambda x: x.amax(dim=0),
        lambda x: x.min(),
        lambda x: x.max(),
        lambda x: x.double().mean(0),
        lambda x: x.reshape(len(x), 3, 1).mean(0),
        lambda x: x.flatten(1).std(0),
        lambda x: x.new_zeros(2),
        lambda x: x.mean(axis=0),
        lambda x: x.mean(0, True),
        lambda x: x.sum((0, 1)),
        lambda x: x.var(False),
        lambda x: x.var(0, False, True),
        lambda x: x.std(0, correction=1.5),
        lambda x: x.std(keepdim=True),
        lambda x: x.amin(-2, True),
    ):
        assert ask(there).shape == ask(here).shape, ask
        assert ask(there).dtype == ask(here).dtype, ask
        assert torch.allclose(ask(there), ask(here), rtol=1e-12), ask
    assert there.mean(0, dtype=torch.float32).dtype == torch.float32


def test_rows_are_chosen_as_in_memory(tmp_path: Path) -> None:
    here, there = torch.as_tensor(ROWS), mapped(saved(tmp_path, ROWS))
    for index in (
        3,
        -1,
        slice(10, 20),
        slice(None, None, 7),
        torch.tensor([5, 1, 299]),
        [4, 2],
        torch.tensor([[1], [2]]),
    ):
        assert torch.equal(there[index], here[index])
    assert torch.equal(torch.cat(list(there.blocks(70))), here)
    assert there.float()[:3].dtype == torch.float32


def test_indices_of_rows_and_of_their_entries_go_together_as_in_memory(tmp_path: Path) -> None:
    here, there = torch.as_tensor(ROWS), mapped(saved(tmp_path, ROWS))
    some, many = torch.tensor([5, 1]), torch.arange(5000) % 300
    for indices in (
        (some, 2),
        (some, slice(1, None)),
        (some, ..., None),
        (some, some % 3),
        ([5, 1], [2, 0]),
        (some.unsqueeze(1), torch.tensor([0, 2])),
        (some, torch.tensor([False, True, False])),
        (many, 1),
        (many, many % 3),
        (7, torch.tensor([2, 0])),
        (slice(3, 9), torch.tensor([2, 0])),
    ):
        assert torch.equal(there[indices], here[indices]), indices


def test_what_is_known_of_the_columns_stays_whatever_is_done_to_an_answer(tmp_path: Path) -> None:
    x = mapped(saved(tmp_path, ROWS))
    for ask in (lambda: x.mean(0), lambda: x.amin(0), lambda: x.amax(0), lambda: x.var(0), lambda: x.sum()):
        before = ask().clone()
        ask().add_(1)
        assert torch.equal(ask(), before)


def test_what_would_take_all_rows_is_refused(tmp_path: Path) -> None:
    x = mapped(saved(tmp_path, ROWS))
    for ask in (lambda: x - x.mean(0), lambda: x.exp(), lambda: x.numpy(), lambda: np.asarray(x), lambda: x @ x.T):
        with pytest.raises(InputError, match=r"all 300 rows of .*x.npy into memory"):
            ask()
    for name, arguments in {"median": (0,), "mean": (1,), "max": (0,), "min": (x[:],)}.items():
        with pytest.raises(InputError, match="all 300 rows"):
            getattr(x, name)(*arguments)


def test_a_copy_in_another_process_maps_the_file_itself(tmp_path: Path) -> None:
    x = mapped(saved(tmp_path, ROWS))
    sent = pickle.dumps(x.float())
    assert len(sent) < 5000
    again = pickle.loads(sent)
    assert torch.equal(again[:], torch.as_tensor(ROWS).float())
    assert torch.equal(again.std(0), x.float().std(0))


def test_the_fields_of_a_structured_array_are_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.zeros(300, dtype=[("width", "f8"), ("count", "i4")])
    x["width"], x["count"] = ROWS[:, 0], 3 * ROWS[:, 1]
    path = saved(tmp_path, x)
    with pytest.raises(InputError, match=r"x.npy holds .*: give numbers"):
        as_data(path)
    monkeypatch.setattr(blocks, "MAX_BYTES_LOADED", 2**20)
    data = as_data(path)
    assert data.columns == ("width", "count")
    assert np.array_equal(data.values.numpy(), np.stack([x["width"], x["count"]], 1))
    assert main(["compare", str(path), "--model", "gmm", "--methods", "em", "--columns", "count", "--quiet"]) == 0


@pytest.mark.parametrize("kind", ["i2", "f2", "f4", "u1", "bool", "u2", ">f8", "i8"])
def test_numbers_of_every_kind_are_taken(kind: str, tmp_path: Path) -> None:
    x = (np.abs(ROWS) * 3).astype(kind)
    found = as_data(saved(tmp_path, x)).values
    assert isinstance(found, Mapped)
    assert found.dtype == torch.float64
    assert np.array_equal(found[:].numpy(), x.astype(float))


def test_slices_fortran_order_and_further_dimensions_are_taken(tmp_path: Path) -> None:
    mapped = np.load(saved(tmp_path, np.asfortranarray(ROWS)), mmap_mode="r")
    assert np.array_equal(as_data(mapped[20:200:3, 1:]).values[:].numpy(), ROWS[20:200:3, 1:])
    assert np.array_equal(as_data(mapped[::-1]).values[:].numpy(), ROWS[::-1])
    pictures = np.random.default_rng(0).random((40, 2, 4, 4)).astype("f4")
    found = as_data(saved(tmp_path, pictures, "p.npy")).values
    assert np.array_equal(found[:].numpy(), pictures)
    assert found.mean(0).shape == (2, 4, 4)


def test_parquet_and_zarr_are_copied_once_and_the_copies_go(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c"])
    folder = parquet(tmp_path, frame)
    array = zarr.create_array(str(tmp_path / "z.zarr"), shape=ROWS.shape, chunks=(70, 3), dtype="f8")
    array[:] = ROWS
    scratch = tmp_path / "scratch"
    found = [as_data(folder), as_data(ds.dataset(folder)), as_data(tmp_path / "z.zarr"), as_data(array)]
    assert len(list(scratch.iterdir())) == 4
    for data, columns in zip(found, [("a", "b", "c")] * 2 + [("x0", "x1", "x2")] * 2, strict=True):
        assert data.columns == columns
        assert np.array_equal(data.values[:].numpy(), ROWS)
    del found, data
    gc.collect()
    assert not list(scratch.iterdir())


def test_parts_may_have_their_columns_in_other_orders_and_single_precision_is_kept(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c"]).astype("f4")
    folder = parquet(tmp_path, frame, 2)
    frame.iloc[150:][["c", "a", "b"]].to_parquet(folder / "1.parquet")
    found = as_data(folder).values
    assert np.array_equal(found[:].numpy(), frame.to_numpy(float))
    assert isinstance(found, Mapped)
    assert found.pages.place.dtype == "<f4"
    chosen = opened_rows(folder, ["c", "a"])
    assert chosen.names == ("c", "a")
    assert np.array_equal(chosen[:].numpy(), frame[["c", "a"]].to_numpy(float))


def bad_parquet(folder: Path, **columns: Any) -> Path:
    (folder / "bad").mkdir()
    good = {"a": np.ones(3), "b": np.arange(3.0)}
    pq.write_table(pa.table(good), folder / "bad" / "0.parquet")
    pq.write_table(pa.table({**good, **columns}), folder / "bad" / "1.parquet")
    return folder / "bad"


def test_tables_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    pq.write_table(pa.table({"a": ["x", "y"], "b": [1.0, 2.0]}), text / "0.parquet")
    nested = tmp_path / "nested"
    nested.mkdir()
    pq.write_table(pa.table({"a": [[1.0], [2.0]]}), nested / "0.parquet")
    short = bad_parquet(tmp_path)
    pq.write_table(pa.table({"a": np.ones(3)}), short / "1.parquet")
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "0.parquet").write_bytes(b"no parquet")
    raw = tmp_path / os.fsdecode(b"raw\xff.parquet")
    raw.write_bytes((nested / "0.parquet").read_bytes())
    for path, what in {
        raw: "has a name that is not UTF-8, which pyarrow does not open: rename it",
        text: "column 'a' is of type string: turn it into numbers",
        nested: "column 'a' is of type list",
        short: "column 'b', row 3: is missing",
        odd: "no Parquet data set|cannot be read",
    }.items():
        refused(path, what)


def refused(x: Any, what: str) -> None:
    with pytest.raises(InputError, match=what) as error:
        pyrometer.em(GMM(2), x, starts=1, progress=False)
    assert "\n" not in str(error.value)


def test_a_table_of_no_rows_is_refused_by_the_command_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"a": np.empty(0), "b": np.empty(0)}), tmp_path / "none.parquet")
    assert main(["compare", str(tmp_path / "none.parquet"), "--guides", "auto_normal", "--quiet"]) == 2
    assert "is empty (0 rows" in capsys.readouterr().err


def test_files_that_are_damaged_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = saved(tmp_path, ROWS).read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-800])
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "several.npz", x=ROWS)
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    hole = ROWS.copy()
    hole[123, 1] = np.nan
    far = ROWS.copy()
    far[7, 2] = -np.inf
    constant = ROWS.copy()
    constant[:, 1] = 4.0
    for path, what in {
        tmp_path / "short.npy": "cannot be mapped",
        tmp_path / "empty.npy": "cannot be mapped",
        tmp_path / "several.npy": "cannot be mapped",
        tmp_path / "none.npy": "there is no file",
        saved(tmp_path, np.array([{"a": 1}, None], object), "o.npy"): "cannot be mapped",
        saved(tmp_path, np.array(3.0), "zero.npy"): "0 dimensions",
        saved(tmp_path, np.empty((0, 3)), "none_.npy"): "empty",
        saved(tmp_path, ROWS.astype(complex), "c.npy"): "complex128",
        saved(tmp_path, np.array(["a", "b"]), "text.npy"): "<U1",
        saved(tmp_path, hole, "nan.npy"): "column 'x1', row 123: is missing",
        saved(tmp_path, far, "inf.npy"): "column 'x2', row 7: is infinite",
        saved(tmp_path, constant, "constant.npy"): "column 'x1' is 4 in every row",
        saved(tmp_path, ROWS * 1e300, "far.npy"): "too large",
        saved(tmp_path, np.ones((9, 2, 2)) * ROWS[:9, :1, None], "three.npy"): "dimensions",
    }.items():
        refused(path, what)


def test_zarr_that_is_no_array_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("rows", shape=(5, 2), dtype="f8")[:] = 1.0
    refused(tmp_path / "g.zarr", "is a Zarr group: give the path of one of its arrays, .*rows")
    (tmp_path / "broken.zarr").mkdir()
    refused(tmp_path / "broken.zarr", "holds no Zarr array")
    monkeypatch.setitem(sys.modules, "zarr", None)
    refused(tmp_path / "g.zarr", "pip install 'pyrometer\\[zarr\\]'")


def test_a_file_that_changes_while_it_is_read_is_no_bus_error(tmp_path: Path) -> None:
    path = saved(tmp_path, ROWS)
    x = mapped(path)
    os.truncate(path, 1000)
    for ask in (lambda: x[5], lambda: list(x.blocks()), lambda: pickle.loads(pickle.dumps(x))):
        with pytest.raises(InputError, match="has changed since it was opened"):
            ask()
    gone = mapped(saved(tmp_path, ROWS, "gone.npy"))
    sent = pickle.dumps(gone)
    (tmp_path / "gone.npy").unlink()
    assert torch.equal(gone[:], torch.as_tensor(ROWS))  # its pages stay
    with pytest.raises(InputError, match="cannot be read any more"):
        pickle.loads(sent)


def test_a_disk_without_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = parquet(tmp_path, pd.DataFrame(ROWS, columns=["a", "b", "c"]))
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    refused(folder, f"{tmp_path / 'scratch'} has no place for .* set TMPDIR")
    assert not list((tmp_path / "scratch").iterdir())


def test_rows_are_held_out_at_random_once_each(tmp_path: Path) -> None:
    path = saved(tmp_path, np.arange(900.0).reshape(300, 3))
    kept, held = (opened_rows(path, (), (0.2, 3, out)) for out in (False, True))
    assert (len(kept), len(held)) == (240, 60)
    assert sorted(torch.cat([kept[:], held[:]])[:, 0].tolist()) == list(np.arange(0.0, 900.0, 3))
    assert not torch.equal(held[:], torch.arange(900.0).reshape(300, 3)[:60].double())


def test_ctrl_c_leaves_no_copy_behind(tmp_path: Path) -> None:
    parquet(tmp_path, pd.DataFrame(ROWS, columns=["a", "b", "c"]))
    code = """
import sys, time, pyrometer
from pyrometer.inference.mapped import blocks, opened
blocks.MAX_BYTES_LOADED = 0
x = opened.rows_in(sys.argv[1], "x")
print("ready", flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    words = [sys.executable, "-c", code, str(tmp_path / "parts")]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert len(list((tmp_path / "scratch").iterdir())) == 1
        child.send_signal(signal.SIGINT)
        child.wait(60)
    for _ in range(50):
        if not list((tmp_path / "scratch").iterdir()):
            break
        time.sleep(0.1)
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_a_reference_leads_to_rows_of_another_shape_too(kind: str, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).random((40, 2, 4, 4)).astype("f4")
    path = saved(tmp_path, pictures) if kind == "npy" else tmp_path / "x.zarr"
    if kind == "zarr":
        zarr.create_array(str(path), shape=pictures.shape, chunks=(7, 2, 4, 4), dtype="f4")[:] = pictures
    x = mapped(path).float().flatten(1)
    assert isinstance(x, Mapped)
    again = rows_again(json.loads(json.dumps(reference_to(x))))
    assert again.shape == (40, 32)
    assert torch.equal(again[:], x[:])


@pytest.mark.parametrize("less", [1, 8, 16, 1000, None])
def test_a_reference_to_a_file_that_was_cut_is_refused_in_one_line(less: int | None, tmp_path: Path) -> None:
    path = saved(tmp_path, ROWS)
    kept = reference_to(mapped(path))
    os.truncate(path, 0 if less is None else path.stat().st_size - less)
    with pytest.raises(InputError, match="does not hold the rows that were fitted any more"):
        rows_again(kept)


def test_a_reference_kept_before_it_told_the_shape_in_the_file_leads_to_the_rows(tmp_path: Path) -> None:
    x = mapped(saved(tmp_path, ROWS))
    kept = reference_to(x)
    del kept["pages"]["shape"]
    assert torch.equal(rows_again(kept)[:], x[:])
