"""Strings as rows of codes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError

__all__ = ["Alphabet", "alphabet_of"]

SHOWN = 30  # characters of a string in a message


@dataclass(frozen=True)
class Alphabet:
    """The characters that strings are made of, and how many of them at most.

    A string is a row of max_length + 1 codes: its characters' places in `characters`, then `end` to the last entry.
    """

    characters: str
    max_length: int

    @property
    def end(self) -> int:
        """The code of a string's end, and of all that follows."""
        return len(self.characters)

    @property
    def width(self) -> int:
        """The codes of a row."""
        return self.max_length + 1

    def codes(self, strings: Sequence[str], name: str = "x") -> Tensor:
        """The codes of strings, (N, width) int64. name: what messages call them.

        Raises InputError for an unknown character, an empty string, and one that is too long; rows count from 0.
        """
        places = {character: place for place, character in enumerate(self.characters)}
        rows = np.full((len(strings), self.width), self.end, dtype=np.int64)
        for row, string in enumerate(strings):
            self._check(string, places, f"{name}, row {row}")
            rows[row, : len(string)] = [places[character] for character in string]
        return torch.from_numpy(rows)

    def strings(self, codes: np.ndarray) -> list[str]:
        """The strings of rows of codes (N, width)."""
        return ["".join(self.characters[code] for code in row[row < self.end].astype(int)) for row in codes]

    def _check(self, string: str, places: dict[str, int], where: str) -> None:
        if not string:
            raise InputError(f"{where} is an empty string: drop it")
        shown = repr(string if len(string) <= SHOWN else f"{string[:SHOWN]}...")
        if len(string) > self.max_length:
            has = f"{where}: {shown} has {len(string)} characters, and max_length is {self.max_length}"
            raise InputError(f"{has}: drop it, or give the model a larger max_length")
        for character in string:
            if character not in places:
                unseen = f"{where}: {shown} holds {character!r}, a character not seen in training"
                known = f"and not in the alphabet {self.characters!r}"
                raise InputError(f"{unseen} {known}: drop it, or give the model an alphabet with it")


def alphabet_of(strings: Sequence[str], characters: str | None = None, max_length: int | None = None) -> Alphabet:
    """The sorted characters of strings, and the length of the longest, where these are not given."""
    found = "".join(sorted(set("".join(strings)))) if characters is None else characters
    return Alphabet(found, max(map(len, strings), default=1) if max_length is None else max_length)
