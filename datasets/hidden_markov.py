"""Strings from a hidden Markov model: the forward algorithm knows their log p(x)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series
from scipy.special import logsumexp

from ..errors import InputError, check_positive

__all__ = ["HiddenMarkovStrings", "grammar", "molecule_grammar"]


@dataclass(frozen=True, eq=False)
class HiddenMarkovStrings:
    """A chain of hidden states, each of which writes a character and then goes on or ends the string.

    s_1 ~ initial,  x_t | s_t ~ emission[s_t],  s_{t+1} | s_t ~ transition[s_t], whose rows sum to less than 1: what is
    left is the probability that the string ends. Strings have 1 to `max_length` characters: longer ones are drawn anew.

    initial: (S,). transition: (S, S). emission: (S, A). alphabet: A characters.
    """

    initial: NDArray
    transition: NDArray
    emission: NDArray
    alphabet: str
    max_length: int = 20

    def __post_init__(self) -> None:
        states, characters = len(self.initial), len(self.alphabet)
        shapes = (self.initial.shape, self.transition.shape, self.emission.shape)
        if shapes != ((states,), (states, states), (states, characters)):
            raise InputError(f"initial, transition and emission have shapes {shapes}: give (S,), (S, S) and (S, A)")
        whole = np.allclose(self.initial.sum(), 1) and np.allclose(self.emission.sum(1), 1)
        if not whole or (self.transition.sum(1) > 1 + 1e-9).any():
            raise InputError("initial and rows of emission must sum to 1, rows of transition to 1 at most: rescale")
        check_positive(max_length=self.max_length)

    @property
    def stop(self) -> NDArray[np.float64]:
        """The probability that the string ends after each state: (S,)."""
        return 1 - self.transition.sum(1)

    @cached_property
    def log_fits(self) -> float:
        """log of the probability that a string has `max_length` characters at most."""
        state, ended = self.initial, 0.0
        for _ in range(self.max_length):
            ended += float(state @ self.stop)
            state = state @ self.transition
        return float(np.log(ended))

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """n strings; NumPy's global generator is neither read nor moved."""
        check_positive(n=n)
        rng, found = np.random.default_rng(seed), list[str]()
        while len(found) < n:
            string = self._one(rng)
            found += [string] * (len(string) <= self.max_length)
        return found

    def log_prob(self, strings: list[str] | Series) -> NDArray[np.float64]:
        """log p(x) of each string, nats, by the forward algorithm (Rabiner 1989, eqs. 19 to 21); -inf where none is."""
        return np.array([self._forward(string) for string in strings])

    def valid(self, string: str) -> bool:
        """Whether the model can write this string at all."""
        return bool(np.isfinite(self._forward(string)))

    def _one(self, rng: np.random.Generator) -> str:
        string, state = "", rng.choice(len(self.initial), p=self.initial)
        while True:
            string += self.alphabet[rng.choice(len(self.alphabet), p=self.emission[state])]
            going = np.append(self.transition[state], max(self.stop[state], 0.0))
            state = rng.choice(len(going), p=going / going.sum())
            if state == len(self.initial) or len(string) > self.max_length:
                return string

    def _forward(self, string: str) -> float:
        codes = [self.alphabet.find(character) for character in string]
        if not 1 <= len(codes) <= self.max_length or min(codes) < 0:
            return -np.inf
        with np.errstate(divide="ignore"):
            log_transition, log_emission = np.log(self.transition), np.log(self.emission)
            log_state = np.log(self.initial) + log_emission[:, codes[0]]
            for code in codes[1:]:
                log_state = logsumexp(log_state[:, None] + log_transition, axis=0) + log_emission[:, code]
            return float(logsumexp(log_state + np.log(self.stop.clip(0)))) - self.log_fits


def molecule_grammar(max_length: int = 20) -> HiddenMarkovStrings:
    """Strings like those of small molecules, CC(N)=O for example, of three hidden kinds that differ in their atoms.

    A string begins and ends with an atom; "=" and ")" are followed by one, and brackets hold atoms alone and nothing
    nested. Which kind a string is of, mostly C, mostly N or mostly O, stays hidden from its first character to its
    last. S = 15: five states (atom, =, bracket opened, atom inside, bracket closed) for each kind.
    """
    alphabet = "()=CNO"
    kinds = np.array([[0.8, 0.1, 0.1], [0.15, 0.75, 0.1], [0.15, 0.1, 0.75]])
    going = np.zeros((5, 5))
    going[0, :3] = 0.58, 0.16, 0.14
    going[1, 0] = going[2, 3] = going[4, 0] = 1.0
    going[3, 3:] = 0.3, 0.7
    emission = np.zeros((3, 5, len(alphabet)))
    emission[:, [0, 3], 3:] = kinds[:, None]
    emission[:, 1, 2] = emission[:, 2, 0] = emission[:, 4, 1] = 1.0
    initial = np.kron([0.4, 0.3, 0.3], [1.0, 0, 0, 0, 0])
    return HiddenMarkovStrings(initial, np.kron(np.eye(3), going), emission.reshape(15, -1), alphabet, max_length)


def grammar(n: int = 2000, seed: int = 0) -> DataFrame:
    """n strings of `molecule_grammar`, at most 20 characters each: one column ``string``."""
    return DataFrame({"string": molecule_grammar().sample(n, seed)})
