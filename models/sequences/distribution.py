"""p(x | z) of strings: each character given those before it."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from .networks import SequenceDecoder

__all__ = ["StringDistribution"]


class StringDistribution(TorchDistribution):
    """p(x | z) = prod_t p(x_t | x_1, ..., x_{t-1}, z), up to the end of the string.

    z: (..., L): batch (...), event (width,), rows of codes as `Alphabet` has them. blanks: (..., width), True where the
    character before is not shown to the decoder, which has no say in what is drawn.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.independent(constraints.nonnegative_integer, 1)

    def __init__(self, decoder: SequenceDecoder, z: Tensor, blanks: Tensor | None = None) -> None:
        super().__init__(z.shape[:-1], Size((decoder.alphabet.width,)), validate_args=False)
        self.decoder, self.z, self.blanks = decoder, z, blanks

    def expand(self, batch_shape: Any, _instance: Any = None) -> StringDistribution:
        """The same over a larger batch."""
        return StringDistribution(self.decoder, self.z.expand(*batch_shape, -1), self.blanks)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats: (..., width) -> (...)."""
        codes, end = value.long(), self.decoder.alphabet.end
        log_probs = self.decoder.log_probs(self.z, codes, self.blanks)
        each = log_probs.gather(-1, codes.expand(log_probs.shape[:-1]).unsqueeze(-1)).squeeze(-1)
        over = torch.cat([torch.zeros_like(codes[..., :1]), codes[..., :-1]], -1) == end
        return each.masked_fill(over, 0.0).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Codes, in the dtype of z: (*sample_shape, ..., width)."""
        decoder, lead = self.decoder, (*Size(sample_shape), *self.batch_shape)
        z = self.z.expand(*lead, -1).reshape(-1, self.z.shape[-1])
        code, state, found = torch.full_like(z[:, 0], decoder.start, dtype=torch.long), None, list[Tensor]()
        with torch.no_grad():
            for place in range(decoder.alphabet.width):
                log_probs, state = decoder.step(place, code, z, state)
                noise = -(-torch.rand_like(log_probs).log()).log()  # Gumbel's: the highest sum is a draw
                drawn = (log_probs + noise).argmax(-1)
                code = torch.where(code == decoder.alphabet.end, code, drawn) if place else drawn
                found.append(code)
        return torch.stack(found, -1).reshape(*lead, -1).to(z.dtype)

    def most_likely(self, beam: int = 1) -> Tensor:
        """Codes of a likely string by beam search, so many kept at each step: 1 is greedy. (..., width)."""
        decoder, end = self.decoder, self.decoder.alphabet.end
        z = self.z.reshape(-1, self.z.shape[-1])
        number = len(z)
        z = z.repeat_interleave(beam, 0)
        total = z.new_full((number, beam), -torch.inf)
        total[:, 0] = 0.0
        code, state = torch.full_like(z[:, 0], decoder.start, dtype=torch.long), None
        found = code.new_zeros(number, beam, 0)
        nothing = z.new_full((end + 1,), -torch.inf)
        nothing[end] = 0.0  # an ended string goes on as it is
        with torch.no_grad():
            for place in range(decoder.alphabet.width):
                log_probs, state = decoder.step(place, code, z, state)
                if place:
                    log_probs = torch.where((code == end).unsqueeze(-1), nothing, log_probs)
                every = (total.unsqueeze(-1) + log_probs.reshape(number, beam, -1)).flatten(1)
                total, best = every.topk(beam)
                parent, next_code = best // (end + 1), best % (end + 1)
                found = found.gather(1, parent.unsqueeze(-1).expand(-1, -1, place))
                found = torch.cat([found, next_code.unsqueeze(-1)], -1)
                rows = (parent + beam * torch.arange(number, device=z.device).unsqueeze(-1)).flatten()
                code, state = next_code.flatten(), state[:, rows]
        return found[:, 0].reshape(*self.batch_shape, -1).to(z.dtype)
