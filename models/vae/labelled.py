"""A VAE that is told what a row shows: of every row, or of a few of them, the rest summed over."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ...errors import InputError
from ..gaussians.moments import rows_of
from .vae import VAE

__all__ = ["LabelledVAE"]

IMPOSSIBLE = -1e6  # log probability of a class that is known to be another: finite, for 0 times infinity is NaN

MISSING = 2**20  # in place of a class


class LabelledVAE(VAE):
    """A decoder of z and a class y: conditional (Sohn, Lee and Yan 2015), or semi-supervised (Kingma et al. 2014, M2).

    z_n ~ p(z),   x_n | y_n, z_n ~ p(x | decoder(z_n, y_n)),   and semi-supervised y_n ~ Categorical(1 / K)

    x: (N, ...), labels: (N,) numbers of classes from 0; NaN, or below 0, where a label is missing. Sites: y, semi-
    supervised only, which is certain where it is known and else left to enumeration; z; x. Missing labels ask for
    semi_supervised. What `VAE(labels=K)` makes, with the VAE's parameters.
    """

    def _check_labels(self) -> None:
        if not isinstance(self.labels, int) or self.labels < 2:
            raise InputError(f"labels={self.labels!r} must be the number of classes, 2 or more")

    @property
    def classes(self) -> int:
        """K, how many a row may be of."""
        assert self.labels is not None
        return self.labels

    @property
    def inputs(self) -> int:
        """What the decoder takes: z, and a 1 for the class."""
        return self.latent + self.classes

    def __call__(self, x: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        """Run the program on x, (N, ...), and labels (N,)."""
        pyro.module("decoder", self.network(x))
        self.register_prior(x)
        known, codes = self.read(x, labels)
        with pyro.plate("data", len(x), subsample_size=self.batch_size, dim=-1) as rows:
            y = rows_of(codes, rows)
            if self.semi_supervised:
                certain = rows_of(known, rows)
                y = pyro.sample("y", dist.Categorical(logits=self.logits(certain, y, x.new_zeros(self.classes))))
                pyro.factor("label", torch.where(certain, -math.log(self.classes), 0.0).to(x))
            z = pyro.sample("z", self.p_z(x), infer={"event_dims": ["latent"]})
            pyro.sample("x", self.likelihood_of(x, self.with_class(z, y)), obs=rows_of(x, rows))

    def read(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each label is known, (N,), and the class, (N,), 0 where it is not."""
        if labels.shape != x.shape[:1]:
            raise InputError(f"labels has shape {tuple(labels.shape)} for {len(x)} rows of x: give one a row")
        known = labels >= 0
        if self.semi_supervised:
            return known, torch.where(known, labels, torch.zeros_like(labels)).long()
        return torch.ones_like(known), torch.where(known, labels, torch.full_like(labels, MISSING)).long()

    def logits(self, known: Tensor, codes: Tensor, free: Tensor) -> Tensor:
        """Log probabilities of the classes (M, K): certain where they are known, else those that are free, (M, K)."""
        return torch.where(known.unsqueeze(-1), IMPOSSIBLE * (1 - self.one_hot(codes, free)), free)

    def one_hot(self, codes: Tensor, like: Tensor) -> Tensor:
        """A 1 at each class: (...) -> (..., K), in the dtype and on the device of like."""
        try:
            return torch.eye(self.classes, dtype=like.dtype, device=like.device)[codes]
        except IndexError as error:
            row = int((codes >= self.classes).nonzero()[0, 0])
            if codes[row] == MISSING:
                raise InputError(f"labels: that of row {row} is missing: say semi_supervised=True") from error
            known = f"the model has classes 0 to {self.classes - 1}"
            raise InputError(f"labels: that of row {row} is {int(codes[row])}, and {known}") from error

    def with_class(self, z: Tensor, y: Tensor) -> Tensor:
        """z (..., L) and a 1 for the class y (...) side by side: (..., L + K)."""
        hot = self.one_hot(y, z)
        shape = torch.broadcast_shapes(z.shape[:-1], hot.shape[:-1])
        return torch.cat([z.expand(*shape, -1), hot.expand(*shape, -1)], -1)


VAE.with_labels = LabelledVAE
