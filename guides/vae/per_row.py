"""Guides with parameters, or steps, of its own for each row: no amortization, or not all of it."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...models import VAE
from .encoder import Encoder, RowGuide
from .families import Family, diagonal

__all__ = ["Free", "SemiAmortized"]

SPEED = 10.0


class Free(RowGuide):
    """A normal of its own for each training row: no amortization (Hoffman et al. 2013).

    A row's numbers are seen once an epoch, where a network's are at every step: they go SPEED times as fast.
    """

    amortized = False

    def __init__(self, model: VAE, family: Family | None = None) -> None:
        super().__init__(model)
        self.family = family or diagonal()
        self.each: nn.Parameter | None = None

    def build(self, x: Tensor) -> None:
        if self.each is None:
            start = 0.01 * torch.randn(len(x), self.family.numbers(self.model.latent))
            self.each = nn.Parameter((start / SPEED).to(x))

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> dist.TorchDistribution:
        assert self.each is not None
        return self.family.q(SPEED * (self.each if rows is None else self.each[rows]), self.model.latent)


class SemiAmortized(Encoder):
    """The encoder's q(z | x), then a few steps for each row up its own ELBO (Kim et al. 2018; Krishnan et al. 2018).

    The steps go along the natural gradient (Khan and Lin 2017), with expectations under q by a cubature of 2 x `latent`
    points, turned at random at every step: exact where log p(x, z) is quadratic. In training a row in two, by chance,
    is left as the encoder has it, and from these rows the encoder learns; the decoder learns from all.
    """

    def __init__(self, model: VAE, steps: int = 5, rate: float = 0.5) -> None:
        super().__init__(model)
        self.steps, self.rate = steps, rate

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> dist.TorchDistribution:
        start = super().posterior(x)
        return dist.Normal(*self._refined(x, start.mean.detach(), start.stddev.detach())).to_event(1)

    def in_training(self, x: Tensor, rows: Tensor) -> dist.TorchDistribution:
        start = super().posterior(x)
        loc, scale = self._refined(x, start.mean.detach(), start.stddev.detach())
        learns = torch.rand_like(loc[:, :1]) < 0.5
        return dist.Normal(torch.where(learns, start.mean, loc), torch.where(learns, start.stddev, scale)).to_event(1)

    def _refined(self, x: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of a diagonal normal, after the steps: (M, L) each."""
        for _ in range(self.steps):
            points = _cubature(loc)
            with torch.enable_grad():
                here, log_scale = loc.detach().requires_grad_(), scale.log().detach().requires_grad_()
                z = here + log_scale.exp() * points
                elbo = self.model.log_joint(z, x).mean(0) + log_scale.sum(-1)
                up, wider = torch.autograd.grad(elbo.sum(), (here, log_scale))
            reach = scale
            scale = scale / (1 - self.rate * wider.clamp(max=1)).sqrt()  # the precision goes to its expectation
            loc = loc + (self.rate * scale.square() * up).clamp(-reach, reach)
        return loc.detach(), scale.detach()


def _cubature(loc: Tensor) -> Tensor:
    """Points whose mean is 0 and whose covariance is I, turned at random: (2 L, 1, L) for loc (M, L)."""
    latent = loc.shape[-1]
    turn, _ = torch.linalg.qr(torch.randn(latent, latent, dtype=loc.dtype, device=loc.device))
    half = math.sqrt(latent) * turn.unsqueeze(1)
    return torch.cat([half, -half])
