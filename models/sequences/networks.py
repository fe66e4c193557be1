"""Recurrent networks over the characters of a string: one that writes it, one that reads it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .alphabet import Alphabet

__all__ = ["SequenceDecoder", "SequenceEncoder"]


class SequenceDecoder(nn.Module):
    """p(x_t | x_1, ..., x_{t-1}, z) by a gated recurrent unit (Bowman et al. 2016, section 3).

    The unit starts from z, and sees z and the character before at every step. A string ends after its first character
    at the earliest, and after `max_length` of them at the latest.
    """

    allowed: Tensor  # (width, characters + 1), 0 where a code may stand and minus infinity where it may not

    def __init__(self, alphabet: Alphabet, latent: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.alphabet = alphabet
        self.start, self.blank = alphabet.end, alphabet.end + 1  # what comes before the first; what is not shown
        self.embedding = nn.Embedding(alphabet.end + 2, embedding)
        self.first = nn.Linear(latent, hidden)
        self.gru = nn.GRU(embedding + latent, hidden, batch_first=True)
        self.out = nn.Linear(hidden, alphabet.end + 1)
        allowed = torch.zeros(alphabet.width, alphabet.end + 1)
        allowed[0, -1] = allowed[-1, :-1] = -torch.inf
        self.register_buffer("allowed", allowed, persistent=False)

    def log_probs(self, z: Tensor, codes: Tensor, blanks: Tensor | None = None) -> Tensor:
        """log p(x_t = k | x_<t, z), nats: (..., width, characters + 1).

        z: (..., L). codes: (..., width) int64, of which those before the last are read. blanks: (..., width), True
        where the character before is not shown.
        """
        before = torch.cat([torch.full_like(codes[..., :1], self.start), codes[..., :-1]], -1)
        if blanks is not None:
            before = before.masked_fill(blanks, self.blank)
        lead = torch.broadcast_shapes(z.shape[:-1], codes.shape[:-1])
        z = z.expand(*lead, -1).reshape(-1, z.shape[-1])
        seen = self.embedding(before).expand(*lead, -1, -1).flatten(0, -3) if lead else self.embedding(before)[None]
        states, _ = self.gru(self._inputs(seen, z), self.first(z).tanh().unsqueeze(0))
        return (self.out(states) + self.allowed).log_softmax(-1).reshape(*lead, *self.allowed.shape)

    def step(self, place: int, before: Tensor, z: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """log p of the code at a place, (R, characters + 1), after the codes before (R,), and the next state (1, R, H).

        z: (R, L). state: None at the first place.
        """
        state = self.first(z).tanh().unsqueeze(0) if state is None else state
        out, state = self.gru(self._inputs(self.embedding(before).unsqueeze(1), z), state)
        return (self.out(out.squeeze(1)) + self.allowed[place]).log_softmax(-1), state

    def _inputs(self, seen: Tensor, z: Tensor) -> Tensor:
        """Embedded characters (R, T, E) and z (R, L) side by side: (R, T, E + L)."""
        return torch.cat([seen, z.unsqueeze(1).expand(-1, seen.shape[1], -1)], -1)


class SequenceEncoder(nn.Module):
    """From codes (M, width) to (M, outputs): a gated recurrent unit reads a string to its end.

    What it knows at the end and its mean over all characters go through a linear layer.
    """

    def __init__(self, alphabet: Alphabet, embedding: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.end = alphabet.end
        self.embedding = nn.Embedding(alphabet.end + 1, embedding)
        self.gru = nn.GRU(embedding, hidden, batch_first=True)
        self.out = nn.Linear(2 * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x: (M, width)."""
        codes = x.long()
        states, _ = self.gru(self.embedding(codes))
        written = codes < self.end
        length = written.sum(-1, keepdim=True)
        at_end = states.gather(1, length.unsqueeze(-1).expand(-1, 1, states.shape[-1])).squeeze(1)
        mean = (states * written.unsqueeze(-1)).sum(1) / length
        return self.out(torch.cat([at_end, mean], -1))
