"""The model of strings is a distribution over strings: its probabilities sum to one, and its draws obey them."""

from itertools import product
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyrometer.errors import InputError
from pyrometer.inference.steps.minibatches import Minibatches
from pyrometer.models import SequenceVAE
from pyrometer.models.sequences.alphabet import Alphabet, alphabet_of
from pyrometer.models.sequences.distribution import StringDistribution
from pyrometer.models.sequences.networks import SequenceEncoder
from torch import Tensor

ALPHABET = Alphabet("ab", 3)
EVERY = ["".join(string) for length in (1, 2, 3) for string in product("ab", repeat=length)]
CODES = ALPHABET.codes(EVERY).double()
WHOLE: Any = 0.5


@pytest.fixture
def model() -> SequenceVAE:
    """One of large weights, so that its strings are far from equally probable."""
    torch.manual_seed(2)
    made = SequenceVAE(2, embedding=3, hidden=5, alphabet="ab", max_length=3, word_dropout=0.5, dtype=torch.float64)
    for value in made.network(CODES).parameters():
        value.data.mul_(3.0)
    return made


def p_of(model: SequenceVAE, z: Tensor) -> StringDistribution:
    return StringDistribution(model.network(CODES), z)


def test_the_probabilities_of_all_strings_sum_to_one(model: SequenceVAE) -> None:
    log_probs = p_of(model, torch.randn(4, 1, 2).double()).log_prob(CODES)
    assert log_probs.shape == (4, len(EVERY))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(4).double())
    assert float(log_probs.detach().std()) > 0.5


def test_a_string_is_as_probable_as_its_characters_one_after_the_other(model: SequenceVAE) -> None:
    decoder, z = model.network(CODES), torch.randn(len(EVERY), 2).double()
    total, before, state = torch.zeros(len(EVERY)).double(), torch.full((len(EVERY),), decoder.start), None
    for place in range(4):
        log_probs, state = decoder.step(place, before, z, state)
        going = torch.tensor([place <= len(string) for string in EVERY])
        total += torch.where(going, log_probs.gather(1, CODES[:, place : place + 1].long())[:, 0], 0.0)
        before = CODES[:, place].long()
    torch.testing.assert_close(p_of(model, z).log_prob(CODES), total)


def test_strings_are_drawn_as_often_as_they_are_probable(model: SequenceVAE) -> None:
    torch.manual_seed(3)
    number, q = 20_000, p_of(model, torch.tensor([[0.5, -1.0]]).double())
    drawn = ALPHABET.strings(q.sample((number,))[:, 0].numpy())
    share = np.array([drawn.count(string) for string in EVERY]) / number
    p = q.log_prob(CODES).exp().detach().numpy()
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / number) + 1e-12).all()


def test_a_wide_beam_finds_the_likeliest_string_and_greedy_search_the_likeliest_next_character(
    model: SequenceVAE,
) -> None:
    torch.manual_seed(4)
    q = p_of(model, 2 * torch.randn(40, 2).double())
    every = StringDistribution(q.decoder, q.z.unsqueeze(1)).log_prob(CODES)
    best = [EVERY[i] for i in every.argmax(-1)]
    assert ALPHABET.strings(q.most_likely(beam=20).numpy()) == best
    greedy = ALPHABET.strings(q.most_likely().numpy())
    assert greedy != best  # or this tells nothing of the beam
    p = every.exp().tolist()
    assert [step_by_step(dict(zip(EVERY, row, strict=True))) for row in p] == greedy


def step_by_step(p: dict[str, float]) -> str:
    """The likeliest next character, or the end, again and again. p: of every string."""
    string = ""
    while len(string) < 3:
        after = {c: sum(value for s, value in p.items() if s.startswith(string + c)) for c in "ab"}
        best = max(after, key=lambda c: after[c])
        if p.get(string, 0.0) > after[best]:
            break
        string += best
    return string


def test_characters_are_hidden_in_training_and_nowhere_else(model: SequenceVAE) -> None:
    z = torch.randn(len(EVERY), 2).double()

    def log_prob() -> Tensor:
        with pyro.get_param_store().scope():
            trace = poutine.trace(poutine.condition(model, {"z": z})).get_trace(CODES)
        return trace.nodes["x"]["fn"].log_prob(CODES)

    told = p_of(model, z).log_prob(CODES)
    torch.testing.assert_close(log_prob(), told)
    torch.testing.assert_close(model.log_joint(z, CODES), told + torch.distributions.Normal(0, 1).log_prob(z).sum(-1))
    with Minibatches((), 0).messenger(torch.zeros(0), 0):
        torch.manual_seed(1)
        hidden = log_prob()
    torch.manual_seed(1)
    blanks = torch.rand_like(CODES) < 0.5
    torch.testing.assert_close(hidden, StringDistribution(model.network(CODES), z, blanks).log_prob(CODES))
    assert not torch.allclose(hidden, told)


def test_a_decoder_that_is_shown_nothing_knows_only_z_and_the_place(model: SequenceVAE) -> None:
    z, blanks = torch.randn(1, 2).double(), torch.ones(len(EVERY), 4, dtype=torch.bool)
    log_probs = model.network(CODES).log_probs(z, CODES.long(), blanks)
    torch.testing.assert_close(log_probs, log_probs[:1].expand_as(log_probs))


def test_an_encoder_reads_no_further_than_the_end_of_a_string() -> None:
    torch.manual_seed(0)
    encoder = SequenceEncoder(ALPHABET, 3, 5, 4).double()
    longer = Alphabet("ab", 9).codes(EVERY).double()
    torch.testing.assert_close(encoder(longer), encoder(CODES))
    assert len({tuple(row.tolist()) for row in encoder(CODES).round(decimals=6)}) == len(EVERY)


def test_strings_become_codes_and_codes_strings() -> None:
    strings = ["CCO", "N", "C=O"]
    alphabet = alphabet_of(strings)
    assert alphabet == Alphabet("=CNO", 3)
    assert alphabet.strings(alphabet.codes(strings).numpy()) == strings
    assert alphabet.codes(["N"]).tolist() == [[2, 4, 4, 4]]


@pytest.mark.parametrize(
    ("strings", "says"),
    [
        (["ab", "ac"], "mine, row 1: 'ac' holds 'c', a character not seen in training"),
        (["ab", ""], "mine, row 1 is an empty string: drop it"),
        (["abab"], "mine, row 0: 'abab' has 4 characters, and max_length is 3"),
    ],
)
def test_unfit_strings_are_refused_in_one_line(strings: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        SequenceVAE(alphabet="ab", max_length=3).codes(strings, "mine")
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"latent": 0}, "latent=0 must be a whole number"),
        ({"hidden": WHOLE}, "hidden=0.5 must be a whole number"),
        ({"max_length": 0}, "max_length=0 must be a whole number"),
        ({"word_dropout": 1.0}, "word_dropout=1.0 must be a share"),
        ({"alphabet": "aba"}, "alphabet='aba' must be one or more characters, each of them once"),
        ({"device": "abacus"}, "device='abacus' cannot be used"),
    ],
)
def test_unfit_options_are_refused_in_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        SequenceVAE(**options)
    assert "\n" not in str(caught.value)


def test_a_model_that_has_seen_no_strings_says_what_it_needs() -> None:
    with pytest.raises(InputError, match="has seen no strings yet"):
        SequenceVAE()(torch.zeros(2, 4))
