"""Strings of a hidden Markov model have the probabilities that summing over its states gives, and files are read."""

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from pyrometer import datasets
from pyrometer.datasets import HiddenMarkovStrings
from pyrometer.errors import InputError

SMALL = HiddenMarkovStrings(
    np.array([0.6, 0.4]), np.array([[0.5, 0.2], [0.1, 0.3]]), np.array([[0.7, 0.3, 0.0], [0.1, 0.2, 0.7]]), "abc", 4
)
EVERY = ["".join(string) for length in range(1, 5) for string in product("abc", repeat=length)]


def by_paths(model: HiddenMarkovStrings, string: str) -> float:
    """p(string), its length not limited: the sum over every path of hidden states."""
    total = 0.0
    for path in product(range(len(model.initial)), repeat=len(string)):
        each = model.initial[path[0]] * model.stop[path[-1]]
        for before, after in pairwise(path):
            each *= model.transition[before, after]
        for state, character in zip(path, string, strict=True):
            each *= model.emission[state, model.alphabet.index(character)]
        total += each
    return total


def test_the_forward_algorithm_sums_over_every_path_and_short_strings_make_one() -> None:
    sums = np.array([by_paths(SMALL, string) for string in EVERY])
    np.testing.assert_allclose(np.exp(SMALL.log_prob(EVERY)), sums / sums.sum(), rtol=1e-12)
    assert np.exp(SMALL.log_prob(EVERY)).sum() == pytest.approx(1, abs=1e-12)
    assert np.isneginf(SMALL.log_prob(["", "d", "aaaaa"])).all()


def test_strings_are_drawn_as_often_as_they_are_probable() -> None:
    number, strings = 20_000, SMALL.sample(20_000, seed=1)
    share = np.array([strings.count(string) for string in EVERY]) / number
    p = np.exp(SMALL.log_prob(EVERY))
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / number) + 1e-12).all()
    assert strings[:50] == SMALL.sample(50, seed=1) != SMALL.sample(50, seed=2)


def test_what_the_grammar_of_molecules_writes_is_what_its_rules_allow() -> None:
    model, strings = datasets.molecule_grammar(), datasets.load("grammar")["string"]
    assert len(strings) == 2000
    assert strings.str.len().max() <= 20
    assert strings.str.fullmatch(r"[CNO](\([CNO]+\)[CNO]|=?[CNO])*").all()
    assert all(map(model.valid, strings))
    assert not any(map(model.valid, ["", "C=", "C(", "C()C", "C(C", "C(=O)C", "S", "C(C)", "C" * 21]))


def test_text_and_smiles_files_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a b\r\nc\r\n")
    (tmp_path / "x.smi").write_text("CCO ethanol\nC\tmethane")
    assert datasets.read_strings(tmp_path / "x.txt").tolist() == ["a b", "c"]
    assert datasets.load(tmp_path / "x.smi")["string"].tolist() == ["CCO", "C"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"ab\n\ncd\n", "x.txt, line 2 is empty: remove it"),
        (b"", "x.txt is empty: give one string a line"),
        (b"\xff\xfe\x00", "x.txt cannot be read as UTF-8 text"),
        (None, "there is no file"),
    ],
)
def test_a_file_of_no_strings_is_refused_in_one_line(content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        datasets.read_strings(tmp_path / "x.txt")
    assert "\n" not in str(caught.value)


def test_a_hidden_markov_model_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="give \\(S,\\), \\(S, S\\) and \\(S, A\\)"):
        HiddenMarkovStrings(np.ones(1), np.zeros((2, 2)), np.ones((1, 1)), "a")
    with pytest.raises(InputError, match="must sum to 1"):
        HiddenMarkovStrings(np.ones(1), np.full((1, 1), 1.5), np.ones((1, 1)), "a")
