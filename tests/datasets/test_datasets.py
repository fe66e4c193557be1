"""What ships is what the literature says, what is made is what its definition says, and a bad file is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
from pyrometer import datasets
from pyrometer.errors import InputError
from scipy import stats


def test_faithful_has_the_moments_printed_everywhere() -> None:
    x = datasets.load("faithful")
    assert x.shape == (272, 2)
    assert list(x.columns) == ["eruptions", "waiting"]
    assert x.mean().to_numpy() == pytest.approx([3.487783, 70.89706], abs=1e-5)
    assert x.var().to_numpy() == pytest.approx([1.302728, 184.8233], abs=1e-4)
    assert x.corr().iloc[0, 1] == pytest.approx(0.9008112, abs=1e-6)


def test_galaxies_are_roeders_82_with_26960_in_row_78() -> None:
    velocity = datasets.load("galaxies")["velocity"]
    assert len(velocity) == 82
    assert velocity.is_monotonic_increasing
    assert (velocity.iloc[0], velocity.iloc[77], velocity.iloc[-1]) == (9172, 26960, 34279)
    assert velocity.sum() - 26960 + 26690 == 1707910  # R's MASS copy: mean 20828.17


@pytest.mark.parametrize(("name", "shape"), [("digits", (1797, 64)), ("iris", (150, 4)), ("wine", (178, 13))])
def test_scikit_learn_tables_hold_numeric_features_and_no_target(name: str, shape: tuple[int, int]) -> None:
    x = datasets.load(name)
    assert x.shape == shape
    assert all(kind.kind == "f" for kind in x.dtypes)
    assert "target" not in x.columns


def test_digits_keep_their_raw_grey_levels() -> None:
    x = datasets.load("digits")
    assert (x.to_numpy().min(), x.to_numpy().max()) == (0, 16)


@pytest.mark.parametrize("name", [name for name in datasets.DATASETS if name != "mnist"])
def test_every_load_is_a_fresh_copy(name: str) -> None:
    before, spoilt = datasets.load(name), datasets.load(name)
    spoilt.iloc[:, :] = "C" if name == "grammar" else 0
    pd.testing.assert_frame_equal(datasets.load(name), before)


@pytest.mark.parametrize("maker", [datasets.blobs, datasets.univariate_blobs])
def test_makers_repeat_by_seed_and_leave_the_global_generator_alone(maker: Callable[..., pd.DataFrame]) -> None:
    before = np.random.get_state()  # noqa: NPY002 - the global generator is what is tested
    first, again, other = maker(seed=3), maker(seed=3), maker(seed=4)
    after = np.random.get_state()  # noqa: NPY002
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)
    assert repr(before) == repr(after)


def test_blobs_whiten_to_standard_normals_given_their_component() -> None:
    x = datasets.blobs(n=4000, components=4, features=3, seed=1)
    z, locs, covariances = (np.asarray(x.attrs[key]) for key in ("z", "locs", "covariances"))
    factors = np.linalg.cholesky(covariances)[z]
    noise = np.linalg.solve(factors, (x.to_numpy() - locs[z])[:, :, None])[:, :, 0]
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-6
    errors = np.abs(np.cov(noise.T) - np.eye(3)) * np.sqrt(4000)
    assert errors.max() < 5 * np.sqrt(2)


def test_blobs_draw_means_of_the_given_spread_and_covariances_that_are_the_identity_on_average() -> None:
    x = datasets.blobs(n=1, components=20_000, features=2, spread=3.0)
    locs, covariances = np.asarray(x.attrs["locs"]), np.asarray(x.attrs["covariances"])
    assert abs(locs.std() / 3 - 1) < 5 / np.sqrt(2 * locs.size)
    assert np.abs(covariances.mean(0) - np.eye(2)).max() < 5 * np.sqrt(2 / 6 / 20_000)


def test_blobs_fill_their_components_by_their_weights() -> None:
    x = datasets.blobs(n=20_000, components=5, seed=2)
    weights = np.asarray(x.attrs["weights"])
    shares = np.bincount(x.attrs["z"], minlength=5) / len(x)
    assert weights.sum() == pytest.approx(1)
    assert np.all(np.abs(shares - weights) < 5 * np.sqrt(weights * (1 - weights) / len(x)))


def test_univariate_blobs_have_unit_variance_uniform_weights_and_means_of_the_given_spread() -> None:
    x = datasets.univariate_blobs(n=20_000, components=4, sigma=20.0, seed=0)
    residual = x["x0"].to_numpy() - np.asarray(x.attrs["locs"])[np.asarray(x.attrs["z"]), 0]
    assert x.attrs["weights"] == [0.25] * 4
    assert abs(residual.mean()) < 5 / np.sqrt(20_000)
    assert abs(residual.var() - 1) < 5 * np.sqrt(2 / 20_000)
    locs = np.asarray(datasets.univariate_blobs(n=1, components=20_000, sigma=3.0).attrs["locs"])
    assert abs(locs.std() / 3 - 1) < 5 / np.sqrt(2 * 20_000)


def test_truth_of_blobs_survives_concat_and_parquet(tmp_path: Path) -> None:
    x = datasets.blobs(n=10)
    assert len(pd.concat([x, x])) == 20
    x.to_parquet(tmp_path / "x.parquet")
    assert json.dumps(x.attrs)
    pd.testing.assert_frame_equal(datasets.load(tmp_path / "x.parquet"), x)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"components": 0}, {"features": -1}])
def test_blobs_name_the_size_that_makes_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        datasets.blobs(**wrong)


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("file", ["x.csv", "x.CSV", "x.parquet"])
def test_a_users_table_comes_back_as_written(kind: type, file: str, tmp_path: Path) -> None:
    x = pd.DataFrame({"b": [1.5, 2.0], "a": [3, 4]})
    write = x.to_parquet if file.endswith("parquet") else x.to_csv
    write(tmp_path / file, index=False)
    pd.testing.assert_frame_equal(datasets.load(kind(tmp_path / file)), x)


def test_unnamed_row_labels_become_the_index_not_a_feature(tmp_path: Path) -> None:
    x = pd.DataFrame({"a": [1.5, 2.0]}, index=["r", "s"])
    x.to_csv(tmp_path / "x.csv")
    pd.testing.assert_frame_equal(datasets.load(tmp_path / "x.csv"), x)


def test_a_file_without_column_names_does_not_lose_its_first_row(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("3.6,79\n1.8,54\n")
    with pytest.raises(InputError, match=r"first line .* holds numbers"):
        datasets.load(tmp_path / "x.csv")


def test_pandas_own_numbered_columns_are_names(tmp_path: Path) -> None:
    pd.DataFrame(np.eye(3)).to_csv(tmp_path / "x.csv")
    assert list(datasets.load(tmp_path / "x.csv").columns) == ["0", "1", "2"]


def test_a_path_wins_over_a_name_only_when_it_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("iris").write_text("a\n1\n")
    assert datasets.load("iris").shape == (150, 4)
    with pytest.raises(InputError, match="save the table as"):
        datasets.load(Path("iris"))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        datasets.load("old_faithful")
    assert all(name in str(caught.value) for name in ["old_faithful", *datasets.DATASETS])


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a;b\n1,5;-2,25\n3,0;4,5\n", {"a": [1.5, 3.0], "b": [-2.25, 4.5]}),
        ("\ufeffName;Größe\r\nAnna;1,70\r\nBernd;-1,85\r\n", {"Name": ["Anna", "Bernd"], "Größe": [1.7, -1.85]}),
        ("a\tb\n1.5\t2\n-3\t4\n", {"a": [1.5, -3.0], "b": [2, 4]}),
        ("a\tb\n1,5\t2\n3\t4,25\n", {"a": [1.5, 3.0], "b": [2.0, 4.25]}),
        ("a|b\n1|2\n", {"a": [1], "b": [2]}),
        ('name,x\n"Doe, J",1\n"Roe; R",-2\n', {"name": ["Doe, J", "Roe; R"], "x": [1, -2]}),
        ("weight, kg;height\n1,5;2,5\n", {"weight, kg": [1.5], "height": [2.5]}),
        ('a;b\n"1,5";"2"\n', {"a": [1.5], "b": [2]}),
        ("a;b\n1.5;2.25\n", {"a": [1.5], "b": [2.25]}),
        ("a;b\n0,125;2\n1,234;2\n", {"a": [0.125, 1.234], "b": [2, 2]}),
        ("day;x\n01.02.2020;1,5\n", {"day": ["01.02.2020"], "x": [1.5]}),
        ("a\n1\n2\n", {"a": [1, 2]}),
    ],
)
def test_columns_are_separated_and_decimals_written_in_any_one_way(
    text: str, columns: dict[str, list[object]], tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode())
    assert datasets.load(tmp_path / "x.csv").to_dict("list") == columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b\n1.234,56;2\n3,5;4\n", "thousands separators"),
        ("a;b\n1.234.567;2,5\n", "thousands separators"),
        ("a\tb\n1,500\t2\n3,250\t4\n", "thousands separators"),
        ("a;b\n1.5;2,5\n", "'1.5', .* others have a decimal comma, as '2,5'"),
        ("a;b\n1.234;2,5\n", "others have a decimal comma"),
        ("a,b\n1,5,2,5\n", "names 2 of the 4 fields of the next: .* decimal points"),
        ("a,b\n1,5,2\n1,2\n", "names 2 of the 3 fields"),
        ("a,b\n1,2\n1,5,2\n", "is not a table"),
        ("a\n1,5\n2,5\n", "names 1 of the 2 fields"),
        ('a,b\n"1,5","2"\n', "write decimal points, or separate the columns by semicolons"),
        ("a,b;c\n1,2;3\n", "separated by commas or semicolons"),
        ("1;2,5\n3,5;4,5\n", "holds numbers"),
    ],
)
def test_a_file_that_can_be_read_in_two_ways_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        datasets.load(tmp_path / "x.csv")
    assert "x.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


JUNK = bytes(range(256)) * 20


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("missing.csv", None, "there is no file"),
        ("missing.parquet", None, "there is no file"),
        ("x.csv", b"", "is empty"),
        ("x.parquet", b"", "is empty"),
        ("x.csv", b"\n\n", "is not a table"),
        ("x.csv", JUNK, "is not a table"),
        ("x.csv", b"\xff\xd8\xff\xe0 no text", "is not a table"),
        ("x.csv", b"a,b\n1,2\n1,2,3,4\n", "is not a table"),
        ("x.parquet", JUNK, "is not a table"),
        ("x.xlsx", b"anything", "save the table as"),
        ("table", b"anything", "save the table as"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(
    file: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / file
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        datasets.load(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_not_a_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        datasets.load(tmp_path)


class StandIn(NamedTuple):
    """What `fetch_openml` gives back, with two pictures."""

    data: pd.DataFrame
    target: pd.Series


def fetched(name: str, version: int, as_frame: bool) -> StandIn:
    assert (name, version, as_frame) == ("mnist_784", 1, True)
    pictures = np.zeros((2, 784), dtype=int)
    pictures[0, 100:103] = (51, 102, 255)
    target = pd.Series(["7", "0"], dtype="category", name="class")
    return StandIn(pd.DataFrame(pictures, columns=[f"pixel{i + 1}" for i in range(784)]), target)


def test_mnist_is_fetched_from_openml_with_its_labels_and_scaled_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetched)
    assert datasets.load("mnist").shape == (2, 784)
    assert datasets.load("mnist").iloc[0, 102] == 255
    assert datasets.pixels("mnist").iloc[0, 100:103].tolist() == [0.2, 0.4, 1.0]
    assert datasets.labels("mnist").tolist() == [7, 0]


def test_mnist_without_a_network_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", unreachable)
    with pytest.raises(InputError, match=r"mnist could not be fetched \(.*\): it needs a network, digits does not$"):
        datasets.load("mnist")


def test_pixels_lie_between_0_and_1_and_labels_belong_to_the_rows() -> None:
    x = datasets.pixels("digits")
    assert (x.to_numpy().min(), x.to_numpy().max()) == (0, 1)
    np.testing.assert_allclose(x * 16, datasets.load("digits"))
    means = x.groupby(datasets.labels("digits")).mean().to_numpy()
    assert means.shape == (10, 64)
    distances = ((x.to_numpy()[:, None] - means) ** 2).sum(-1)
    assert (distances.argmin(1) == datasets.labels("digits")).mean() > 0.9
    assert set(datasets.labels("iris")) == {"setosa", "versicolor", "virginica"}
    for ask, what in ((datasets.pixels, "no set of pictures"), (datasets.labels, "no labels")):
        with pytest.raises(InputError, match=what):
            ask("faithful")
