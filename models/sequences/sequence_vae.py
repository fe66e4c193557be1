"""The variational auto-encoder of strings: a latent vector a string, and a recurrent network that writes it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...display.objects import described
from ...errors import InputError, check_positive
from ..gaussians.moments import rows_of
from ..program import in_training
from ..vae.networks import check_device, load_params
from .alphabet import Alphabet, alphabet_of
from .distribution import StringDistribution
from .networks import SequenceDecoder, SequenceEncoder

__all__ = ["SequenceVAE"]


@dataclass(frozen=True)
class SequenceVAE:
    """A latent vector for each string (Bowman et al. 2016; of molecules Gomez-Bombarelli et al. 2018).

    z_n ~ Normal(0, I),   x_nt | x_n1, ..., x_n(t-1), z_n ~ Categorical(decoder(x_n1, ..., x_n(t-1), z_n))

    x: strings, at the data's door made codes (N, max_length + 1), as `Alphabet` has them. Sites: z (N, latent), x. A
    decoder that is told every character before can do without z, and then q(z | x) collapses onto the prior; word
    dropout, which in training hides some of them, and KL warm-up (`train(..., warmup=20)`) are what Bowman et al. do.

    Parameters
    ----------
    latent : entries of z.
    embedding, hidden : numbers that a character becomes, and units of the decoder's and the encoder's recurrent layer.
    word_dropout : the share of the characters before that the decoder is not shown while it is trained.
    alphabet : the characters that strings may hold; None takes those of the first strings that are fitted.
    max_length : of a string, in characters; None takes the longest of these.
    batch_size : strings a minibatch; None takes all of them.
    dtype : of codes and networks. device : where they are; None is the CPU.
    known, networks : what was found in the first strings, and the decoder made for it.
    """

    _repr_html_ = described

    latent: int = 16
    embedding: int = 32
    hidden: int = 128
    word_dropout: float = 0.25
    alphabet: str | None = None
    max_length: int | None = None
    batch_size: int | None = None
    dtype: torch.dtype = torch.float32
    device: str | torch.device | None = None
    known: list[Alphabet] = field(default_factory=list, compare=False)
    networks: dict[Alphabet, SequenceDecoder] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_positive(latent=self.latent, embedding=self.embedding, hidden=self.hidden)
        check_positive(**{n: v for n in ("max_length", "batch_size") if (v := getattr(self, n)) is not None})
        if not 0 <= self.word_dropout < 1:
            raise InputError(f"word_dropout={self.word_dropout!r} must be a share, from 0 to below 1")
        if self.alphabet is not None and (not self.alphabet or len(set(self.alphabet)) < len(self.alphabet)):
            raise InputError(f"alphabet={self.alphabet!r} must be one or more characters, each of them once")
        if self.device is not None:
            check_device(self.device)
        if self.alphabet is not None and self.max_length is not None and not self.known:
            self.known.append(Alphabet(self.alphabet, self.max_length))

    def __call__(self, x: Tensor) -> None:
        """Run the program on codes (N, width)."""
        decoder = pyro.module("decoder", self.network(x))
        with pyro.plate("data", len(x), subsample_size=self.batch_size, dim=-1) as rows:
            z = pyro.sample("z", self.prior(x), infer={"event_dims": ["latent"]})
            seen = rows_of(x, rows)
            blanks = torch.rand_like(seen) < self.word_dropout if self.word_dropout and in_training() else None
            pyro.sample("x", StringDistribution(decoder, z, blanks), obs=seen)

    def prior(self, x: Tensor) -> dist.TorchDistribution:
        """p(z), in the dtype and on the device of x: event (latent,)."""
        return dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1)

    def codes(self, strings: Sequence[str], name: str = "x") -> Tensor:
        """Strings as the program takes them: (N, width). The first ones tell the alphabet and the greatest length.

        name: what messages call them. Raises InputError for a character that is unknown, an empty string, or one that
        is too long.
        """
        if not self.known:
            self.known.append(alphabet_of(strings, self.alphabet, self.max_length))
        return self.known[0].codes(strings, name).to(dtype=self.dtype, device=self.device or "cpu")

    def as_given(self, rows: np.ndarray) -> list[str]:
        """The strings of rows of codes (N, width)."""
        return self._known().strings(rows)

    def network(self, x: Tensor) -> SequenceDecoder:
        """The decoder: made at the first call, and then the same."""
        alphabet = self._known()
        if alphabet not in self.networks:
            made = SequenceDecoder(alphabet, self.latent, self.embedding, self.hidden)
            self.networks[alphabet] = made.to(x)
        return self.networks[alphabet]

    def encoder_for(self, x: Tensor, outputs: int) -> nn.Module:
        """A network for a guide, from codes (M, width) to so many numbers a string."""
        return SequenceEncoder(self._known(), self.embedding, self.hidden, outputs).to(x)

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x, z) of each string in nats, nothing hidden: z (..., M, latent), x (M, width) -> (..., M)."""
        return self.prior(x).log_prob(z) + StringDistribution(self.network(x), z).log_prob(x)

    @property
    def numbers_a_row(self) -> int:
        """How many numbers it takes to compute log p(x | z) of a string."""
        alphabet = self._known()
        return alphabet.width * (4 * self.hidden + self.embedding + self.latent + 3 * alphabet.end)

    def frozen(self) -> SequenceVAE:
        """A copy whose decoder is no longer trained, so that guides fitted to it share one p(x | z); of all rows."""
        copied = replace(copy.deepcopy(self), batch_size=None, word_dropout=0.0)
        for network in copied.networks.values():
            network.requires_grad_(False).eval()
        return copied

    def restored(self, params: Mapping[str, Tensor], x: Tensor) -> SequenceVAE:
        """A copy with the decoder at these params, by their names in Pyro's store."""
        copied = copy.deepcopy(self)
        load_params(copied.network(x), "decoder", params)
        return copied

    def _known(self) -> Alphabet:
        if not self.known:
            raise InputError(
                "this SequenceVAE has seen no strings yet: give it alphabet and max_length, or fit it first"
            )
        return self.known[0]
