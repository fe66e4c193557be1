"""Guides of the VAE: q(z | x) by an encoder, by parameters of its own for each row, or by both in turn."""

from __future__ import annotations

import math
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import conditional_affine_autoregressive
from torch import Tensor, nn

from ..models import VAE
from ..models.decoders import convolutions, mlp
from ..models.moments import rows_of
from .families import Family, diagonal

__all__ = ["Encoder", "FlowEncoder", "Free", "SemiAmortized"]


class RowGuide(nn.Module):
    """A guide with one q(z | x) a row. A subclass says how many rows and what q is; the rest is the same for all.

    posterior(x, rows): q(z | x), batch (M,), event (latent,); x: (M, ...). rows (M,) tells which training rows these
    are, where the guide has parameters of their own for them.
    """

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N, C, H, W)."""
        self.build(x)
        pyro.module("guide", self)
        with pyro.plate("data", len(x), subsample_size=self.model.batch_size, dim=-1) as rows:
            pyro.sample("z", self.posterior(rows_of(x, rows), rows), infer={"event_dims": ["latent"]})

    def build(self, x: Tensor) -> None:
        """Make the networks for rows like those of x, where that has not been done."""

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> dist.TorchDistribution:
        """q(z | x) of rows x (M, ...): batch (M,), event (latent,)."""
        raise NotImplementedError


class Encoder(RowGuide):
    """q(z | x) = family(encoder(x)) (Kingma and Welling 2014, eq. 9).

    The encoder has the shape of the decoder, mirrored: linear, an mlp, or convolutions.
    """

    network: nn.Sequential | None

    def __init__(self, model: VAE, family: Family | None = None) -> None:
        super().__init__(model)
        self.family = family or diagonal()
        self.network = None

    def build(self, x: Tensor) -> None:
        if self.network is None:
            self.network = _encoder(self.model, x, self.family.numbers(self.model.latent))

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> dist.TorchDistribution:
        return self.family.q(self.free(x), self.model.latent)

    def free(self, x: Tensor) -> Tensor:
        """The family's parameters for rows x (M, ...): (M, numbers)."""
        self.build(x)
        assert self.network is not None
        return self.network(x)


class FlowEncoder(Encoder):
    """A diagonal normal by the encoder, bent by inverse autoregressive flows (Kingma et al. 2016).

    The flows see the encoder's last features, so that each row has its own. Draws and their density are cheap; the
    density of a point that was not drawn takes `latent` passes.
    """

    def __init__(self, model: VAE, flows: int = 2, context: int = 32, hidden: int = 64) -> None:
        super().__init__(model)
        self.flows, self.context, self.hidden = flows, context, hidden
        self.bends = nn.ModuleList()

    def build(self, x: Tensor) -> None:
        if self.network is None:
            self.network = _encoder(self.model, x, 2 * self.model.latent + self.context)
            if self.model.latent > 1:
                make = lambda: conditional_affine_autoregressive(  # noqa: E731
                    self.model.latent, self.context, hidden_dims=[self.hidden], stable=True
                )
                self.bends = nn.ModuleList(make() for _ in range(self.flows)).to(x)

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> dist.TorchDistribution:
        free, context = self.free(x).split([2 * self.model.latent, self.context], -1)
        base = diagonal().q(free, self.model.latent)
        bends = [cast(Any, bend).condition(context) for bend in self.bends]
        return dist.TransformedDistribution(base, bends) if bends else base


class Free(RowGuide):
    """A normal of its own for each training row: no amortization (Hoffman et al. 2013)."""

    def __init__(self, model: VAE, family: Family | None = None) -> None:
        super().__init__(model)
        self.family = family or diagonal()
        self.each: nn.Parameter | None = None

    def build(self, x: Tensor) -> None:
        if self.each is None:
            self.each = nn.Parameter(0.01 * torch.randn(len(x), self.family.numbers(self.model.latent)).to(x))

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> dist.TorchDistribution:
        assert self.each is not None
        return self.family.q(self.each if rows is None else self.each[rows], self.model.latent)


class SemiAmortized(Encoder):
    """The encoder's q(z | x), then a few steps for each row up its own ELBO (Kim et al. 2018; Marino et al. 2018).

    steps: of Adam with rate lr, the noise of `draws` draws held fixed. What the steps add is taken for a constant: the
    encoder learns from where they end, the decoder from the refined q.
    """

    def __init__(
        self, model: VAE, family: Family | None = None, steps: int = 10, lr: float = 0.05, draws: int = 4
    ) -> None:
        super().__init__(model, family)
        self.steps, self.lr, self.draws = steps, lr, draws

    def free(self, x: Tensor) -> Tensor:
        start = super().free(x)
        return start + (self._refined(start.detach(), x) - start).detach()

    def _refined(self, start: Tensor, x: Tensor) -> Tensor:
        free, mean, square = start, torch.zeros_like(start), torch.zeros_like(start)
        noise = torch.randn(self.draws, *start.shape[:-1], self.model.latent, dtype=x.dtype, device=x.device)
        for step in range(1, self.steps + 1):
            with torch.enable_grad():
                free = free.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(-self._elbo(free, x, noise).sum(), free)
            mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient.square()
            change = (mean / (1 - 0.9**step)) / ((square / (1 - 0.99**step)).sqrt() + 1e-8)
            free = free.detach() - self.lr * change
        return free

    def _elbo(self, free: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        """One ELBO a row, averaged over the draws: (M,)."""
        loc, scale = _loc_and_tril(self.family.q(free, self.model.latent))
        z = loc + (scale @ noise.unsqueeze(-1)).squeeze(-1)
        log_q = -noise.square().sum(-1) / 2 - scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.model.latent / 2 * math.log(2 * math.pi)
        return (self.model.log_joint(z, x) - log_q + constant).mean(0)


def _loc_and_tril(q: dist.TorchDistribution) -> tuple[Tensor, Tensor]:
    if isinstance(q, dist.MultivariateNormal):
        return q.loc, q.scale_tril
    return q.mean, torch.diag_embed(q.stddev)


def _encoder(model: VAE, x: Tensor, outputs: int) -> nn.Sequential:
    """A network from rows like those of x to so many numbers, shaped as the model's decoder is."""
    row = x.shape[1:]
    if model.decoder == "conv":
        return convolutions(row, outputs).to(x)
    hidden = () if model.decoder == "linear" else model.hidden
    return nn.Sequential(nn.Flatten(), *mlp((row.numel(), *hidden, outputs))).to(x)
