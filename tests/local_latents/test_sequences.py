"""A VAE of strings, held to strings whose log p(x) is known, to quadrature over z, and to what it says of itself."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyrometer
import pytest
import torch
from matplotlib.text import Text
from pyrometer import score_strings, train
from pyrometer.errors import InputError
from pyrometer.guides import catalogue
from pyrometer.inference.local_latents.ais import Budget
from pyrometer.inference.local_latents.marginal import estimate
from pyrometer.inference.local_latents.row_fit import RowFit
from pyrometer.inference.local_latents.string_scores import StringScores, _samples, mean_kl
from pyrometer.inference.plots.latent.decoded import plot_plane
from pyrometer.inference.plots.latent.reconstructions import plot_interpolation
from pyrometer.models import SequenceVAE
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")

GRAMMAR = pyrometer.datasets.molecule_grammar(max_length=8)
STRINGS, TEST = GRAMMAR.sample(400, seed=0), GRAMMAR.sample(200, seed=1)
SMALL = SequenceVAE(2, embedding=8, hidden=24, alphabet="()=CNO", max_length=8)
OPTIONS: dict[str, Any] = {"batch_size": 64, "lr": 1e-2, "draws": 2, "progress": False}


@pytest.fixture(scope="module")
def fit() -> RowFit:
    """A model of strings of at most 8 characters."""
    return train(SMALL, "encoder", STRINGS, x_test=TEST, epochs=30, warmup=10, **OPTIONS)


def held_to_the_truth(fit: RowFit, grammar: pyrometer.datasets.HiddenMarkovStrings, test: list[str]) -> None:
    """IWAE(500) is within a nat a string of the exact log p(x), and not above it; samples obey the grammar."""
    gap = grammar.log_prob(test) - fit.log_likelihood(test, "iwae_500")["estimate"].to_numpy()
    error = gap.std() / math.sqrt(len(gap))
    assert -3 * error < gap.mean() < 1
    assert np.mean([grammar.valid(string) for string in fit.sample(500)]) > 0.8


def test_the_bound_is_near_the_exact_log_p_and_not_above_it(fit: RowFit) -> None:
    held_to_the_truth(fit, GRAMMAR, TEST)


@pytest.mark.slow
def test_two_thousand_strings_of_twenty_characters_are_learnt_to_within_a_nat() -> None:
    grammar = pyrometer.datasets.molecule_grammar()
    model, test = SequenceVAE(8, hidden=64), grammar.sample(300, seed=1)
    fit = train(model, "encoder", grammar.sample(2000), x_test=test, epochs=40, warmup=10, lr=2e-3, progress=False)
    held_to_the_truth(fit, grammar, test)
    assert not judged(fit).collapsed
    kinds = [replace(grammar, initial=np.kron(np.eye(3)[kind], [1.0, 0, 0, 0, 0])).log_prob(test) for kind in range(3)]
    likeliest = (np.stack(kinds) + np.log([[0.4], [0.3], [0.3]])).argmax(0)  # the hidden kind, by the exact posterior
    told = (
        LogisticRegression().fit(fit.encode(test)[:150], likeliest[:150]).score(fit.encode(test)[150:], likeliest[150:])
    )
    assert told > 0.9
    plain = SequenceVAE(8, hidden=64, word_dropout=0.0)
    collapsed = train(plain, "encoder", grammar.sample(2000), x_test=test, epochs=40, lr=2e-3, progress=False)
    scores = score_strings(collapsed, test[:50], samples=100, ais_rows=2)
    assert scores.kl < 0.05
    assert scores.verdict.startswith("collapsed: ")
    held_to_the_truth(collapsed, grammar, test)  # which z says nothing of, as the decoder sees every character before


def test_estimators_and_gaps_agree_with_quadrature_over_z() -> None:
    model, rows = SequenceVAE(1, hidden=8, dtype=torch.float64), ["aaaa", "bbbb", "ab", "ba"]
    fit = train(model, "encoder", [*rows, *["aaaa", "bbbb", "ab"] * 20], epochs=20, **OPTIONS)
    target, grid = fit.target(rows), torch.linspace(-8, 8, 801, dtype=torch.float64)
    with torch.no_grad():
        log_joint = target.density.log_joint(grid.reshape(-1, 1, 1).expand(-1, 4, -1))
    exact = log_joint.logsumexp(0).numpy() + math.log(16 / 800)
    budget = Budget(draws=2000, chains=64, temperatures=40, leapfrogs=3)
    for method in ("importance", "ais"):
        found = estimate(target, method, budget)
        assert (np.abs(found.value - exact) < 5 * found.se + 1e-3).all(), method
        assert found.se.max() < 0.2
    nuts = {"warmup": 200, "draws": 300, "chains": 2}
    gaps = fit.gaps(range(4), evidence="importance", budget=budget, steps=200, nuts=nuts)
    assert (np.abs(gaps["log_p"] - exact) < 5 * gaps["log_p_se"] + 1e-3).all()
    assert (gaps["elbo"] <= exact + 5 * gaps["elbo_se"]).all()
    assert (gaps["elbo_best"] > gaps["elbo"] - 5 * np.hypot(gaps["elbo_se"], gaps["elbo_best_se"])).all()
    weights = log_joint.softmax(0)
    mean = (weights * grid.unsqueeze(1)).sum(0)
    sd = ((weights * grid.unsqueeze(1) ** 2).sum(0) - mean**2).sqrt()
    bias = (target.q.mean[:, 0].detach() - mean).abs() / sd  # what NUTS over z finds by its draws
    error = 5 / np.sqrt(gaps["ess_bulk"].to_numpy())
    assert (np.abs(gaps["bias"].to_numpy() - bias.numpy()) < error * (1 + bias.numpy())).all()


def repeated(seed: int) -> list[str]:
    """Strings of one character throughout: once it is known, nothing is left to learn."""
    rng = np.random.default_rng(seed)
    return [str(character) * 6 for character in rng.choice(list("abcd"), 200)]


def test_a_collapsed_training_is_called_collapsed_and_another_is_not() -> None:
    noise = ["".join(np.random.default_rng(i).choice(list("ab"), 6)) for i in range(200)]  # z has nothing to say
    plain = SequenceVAE(2, embedding=4, hidden=8, word_dropout=0.0)
    collapsed = judged(train(plain, "encoder", noise, epochs=25, **OPTIONS))
    assert collapsed.collapsed
    assert collapsed.verdict.startswith("collapsed: ")
    assert "KL(q(z | x) | prior) is 0.0" in collapsed.verdict
    blind = SequenceVAE(2, embedding=4, hidden=16, word_dropout=0.9)
    informed = train(blind, "encoder", repeated(0), epochs=25, warmup=10, **OPTIONS)
    used = judged(informed)
    assert not used.collapsed
    assert used.verdict.startswith("in use: ")
    assert used.kl > 0.5
    again = informed.reconstruct(repeated(1))
    assert np.mean([old[0] == new[0] for old, new in zip(repeated(1), again, strict=True)]) > 0.6  # of four characters


def judged(fit: RowFit) -> StringScores:
    """What scores say of z, the others left out."""
    return StringScores(pd.DataFrame(), mean_kl(fit.target()), fit.active_units())


BUDGET = Budget(chains=2, temperatures=5, leapfrogs=1)


def test_the_divergence_is_that_of_two_normals(fit: RowFit) -> None:
    q = fit.target(TEST).q
    loc, sd = q.mean, q.stddev
    exact = float((0.5 * (loc**2 + sd**2 - 1) - sd.log()).sum(-1).mean())
    assert mean_kl(fit.target(TEST)) == pytest.approx(exact, abs=0.05)


def test_scores_are_what_they_say(fit: RowFit) -> None:
    scores = score_strings(fit, TEST[:40], valid=GRAMMAR.valid, samples=100, ais_rows=3, budget=BUDGET).table["value"]
    bound = fit.log_likelihood(TEST[:40], "iwae_500")["estimate"]
    characters = sum(len(string) + 1 for string in TEST[:40])
    assert scores["iwae"] == pytest.approx(bound.mean(), abs=0.01)
    assert scores["iwae_bits"] == pytest.approx(-scores["iwae"] * 40 / math.log(2) / characters)
    again = fit.reconstruct(TEST[:40])
    assert scores["rebuilt"] == np.mean([a == b for a, b in zip(TEST[:40], again, strict=True)])
    assert 0 < scores["characters"] <= 1
    drawn = fit.sample(100)
    assert scores["valid"] == np.mean([GRAMMAR.valid(string) for string in drawn])


def test_samples_are_counted_among_those_that_passed_before() -> None:
    found = _samples(["a", "a", "b", "c", "(", "("], ["b", "z"], lambda string: string != "(")
    assert {name: score[0] for name, score in found.items()} == {"valid": 4 / 6, "unique": 3 / 4, "novel": 2 / 3}
    assert _samples(["a", "a"], ["a"], None)["unique"][0] == 0.5
    with pytest.raises(InputError, match=r"valid fails on 'a' \(ZeroDivisionError"):
        _samples(["a"], [], lambda string: bool(1 / 0))


def test_it_writes_rebuilds_and_interpolates_strings(fit: RowFit) -> None:
    assert fit.rows()[:3] == STRINGS[:3]
    assert fit.sample(5, seed=1) == fit.sample(5, seed=1) != fit.sample(5, seed=2)
    for rows in (fit.reconstruct(TEST[:4]), fit.reconstruct(TEST[:4], beam=5), fit.decode([[0.0, 1.0]] * 4)):
        assert len(rows) == 4
        assert all(isinstance(string, str) and 1 <= len(string) <= 8 for string in rows)
    path = fit.interpolate(TEST[0], TEST[1], steps=5, beam=3)
    ends = [fit.reconstruct([string], beam=3)[0] for string in TEST[:2]]
    assert [path[0], path[-1]] == ends
    assert len(path) == 5
    z = torch.as_tensor(fit.encode(TEST[:30]))
    log_p = [
        target.density.log_joint(z) - target.density.prior.log_prob(z)
        for target in (fit.target(fit.decode(z, beam=beam)) for beam in (1, 10))
    ]
    assert bool(log_p[1].sum() >= log_p[0].sum())  # what a wider search finds is likelier


def test_a_list_a_column_and_a_file_of_strings_are_trained_alike(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("\n".join(STRINGS[:64]))
    frame = pd.DataFrame({"name": range(64), "string": STRINGS[:64]})
    losses = [
        train(SequenceVAE(2, embedding=4, hidden=8), "encoder", x, epochs=1, **OPTIONS).losses
        for x in (STRINGS[:64], frame["string"], frame[["string"]], tmp_path / "x.txt", str(tmp_path / "x.txt"))
    ]
    assert all(np.array_equal(losses[0], each) for each in losses)


def test_strings_stand_as_text_in_pictures(fit: RowFit) -> None:
    written = [each.get_text() for each in fit.plot().findobj(Text)]
    for strings in (STRINGS[:10], fit.reconstruct()[:10], fit.sample(48)):
        assert any(all(string in text for string in strings) for text in written)
    across = plot_interpolation(fit, [(TEST[0], TEST[1])], steps=3).findobj(Text)
    way = [TEST[0], *fit.interpolate(TEST[0], TEST[1], 3), TEST[1]]
    assert any(text.get_text().split() == way for text in across)
    with pytest.raises(InputError, match="a latent plane is of pictures"):
        plot_plane(fit)


@pytest.mark.parametrize("name", [name for name in catalogue(SMALL) if not name.startswith("auto")])
def test_every_guide_is_trained_and_tells_its_q(name: str) -> None:
    fit = train(SMALL, name, STRINGS[:64], epochs=3, **OPTIONS)
    assert fit.losses[-1] < fit.losses[0]
    assert fit.encode().shape == (64, 2)
    assert np.isfinite(fit.log_likelihood(method="importance", draws=20)["estimate"]).all()


def test_compiled_or_not_the_steps_are_the_same_word_dropout_included() -> None:
    short, rest = [string for string in STRINGS if len(string) <= 3][:64], {**OPTIONS, "batch_size": 32}
    model = SequenceVAE(2, embedding=4, hidden=8)
    fits = [train(model, "encoder", short, epochs=51, warmup=20, compile=how, **rest) for how in ("auto", False)]
    assert [fit.compiled for fit in fits] == ["script", "eager"]
    np.testing.assert_allclose(fits[0].losses[:40], fits[1].losses[:40], rtol=1e-3)
    told = train(SequenceVAE(2, embedding=4, hidden=8, word_dropout=0.0), "encoder", short, epochs=2, warmup=20, **rest)
    assert told.losses[0] < fits[0].losses[0]  # the same weights, shown every character


def test_a_training_of_strings_is_resumed_and_one_of_another_alphabet_is_not(tmp_path: Path) -> None:
    model = SequenceVAE(2, embedding=4, hidden=8)
    whole = train(model, "encoder", STRINGS[:64], epochs=4, **OPTIONS)
    train(model, "encoder", STRINGS[:64], epochs=2, checkpoint=tmp_path, **OPTIONS)
    resumed = train(model, "encoder", STRINGS[:64], epochs=4, checkpoint=tmp_path, resume=True, **OPTIONS)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    assert resumed.sample(5) == whole.sample(5)
    other = [string.replace("C", "S") for string in STRINGS[:64]]
    fresh = SequenceVAE(2, embedding=4, hidden=8)
    with pytest.raises(InputError, match="is of another training"):
        train(fresh, "encoder", other, epochs=4, checkpoint=tmp_path, resume=True, **OPTIONS)


def test_a_fit_of_strings_is_saved_and_read_back(fit: RowFit, tmp_path: Path) -> None:
    fit.save(tmp_path)
    again: Any = pyrometer.load(tmp_path, SMALL)
    assert again.reconstruct(TEST[:5]) == fit.reconstruct(TEST[:5])
    np.testing.assert_allclose(again.encode(TEST[:5]), fit.encode(TEST[:5]), rtol=1e-5)
    with pytest.raises(InputError, match="give it alphabet and max_length"):
        pyrometer.load(tmp_path, SequenceVAE(2, embedding=8, hidden=24))


def test_what_does_not_go_with_strings_is_refused_in_one_line(fit: RowFit) -> None:
    with pytest.raises(InputError, match="which have no missing entries to complete"):
        fit.complete(TEST[:2], np.ones((2, 9), bool))
    with pytest.raises(InputError, match="binarize is of pixels, and model SequenceVAE is of strings"):
        pyrometer.train(SMALL, "encoder", TEST, binarize="fixed", epochs=1, progress=False)
    with pytest.raises(InputError, match="beam=0 must be a whole number"):
        fit.decode([[0.0, 1.0]], beam=0)
    with pytest.raises(InputError, match="x_new, row 0: 'CSC' holds 'S', a character not seen in training"):
        fit.encode(["CSC"])
    digits = pyrometer.datasets.pixels("digits")[:64]
    pictures = train(pyrometer.models.VAE(2, hidden=(8,)), "encoder", digits, epochs=1, **OPTIONS)
    with pytest.raises(InputError, match="is not of strings: give a fit of a SequenceVAE"):
        score_strings(pictures)
