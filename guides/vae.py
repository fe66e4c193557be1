"""Guides of the VAE: q(z | x) by an encoder, by parameters of its own for each row, or by both in turn."""

import math
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import conditional_affine_autoregressive
from torch import Tensor, nn

from ..display.objects import described
from ..errors import InputError
from ..models import VAE
from ..models.gaussians.moments import rows_of
from ..models.pca import PCA, pca
from ..models.priors import Vamp
from .families import SMALLEST, Family, diagonal

__all__ = ["Encoder", "FlowEncoder", "Free", "SemiAmortized"]

SPEED = 10.0


class RowGuide(nn.Module):
    """A guide with one q(z | x) a row. A subclass says how many rows and what q is; the rest is the same for all.

    posterior(x, rows): q(z | x), batch (M,), event (latent,); x: (M, ...). rows (M,) tells which training rows these
    are, where the guide has parameters of their own for them. amortized: whether it has a q for rows that it was not
    trained on.
    """

    _repr_html_ = described

    amortized = True

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N, C, H, W)."""
        self.build(x)
        pyro.module("guide", self)
        with pyro.plate("data", len(x), subsample_size=self.model.batch_size, dim=-1) as rows:
            pyro.sample("z", self.in_training(rows_of(x, rows), rows), infer={"event_dims": ["latent"]})

    def extra_repr(self) -> str:
        return repr(self.model)

    def build(self, x: Tensor) -> None:
        """Make the networks for rows like those of x, where that has not been done."""

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> dist.TorchDistribution:
        """q(z | x) of rows x (M, ...): batch (M,), event (latent,)."""
        raise NotImplementedError

    def in_training(self, x: Tensor, rows: Tensor) -> dist.TorchDistribution:
        """What z is drawn from while the guide is trained."""
        return self.posterior(x, rows)


class Encoder(RowGuide):
    """q(z | x) = family(encoder(x)) (Kingma and Welling 2014, eq. 9).

    The encoder has the shape of the decoder, mirrored: linear, an mlp, or convolutions.
    """

    network: nn.Module | None

    def __init__(self, model: VAE, family: Family | None = None) -> None:
        super().__init__(model)
        self.family = family or diagonal()
        self.network = None

    @property
    def numbers(self) -> int:
        """How many the network gives a row."""
        return self.family.numbers(self.model.latent)

    def build(self, x: Tensor) -> None:
        if self.network is None:
            self.network = _encoder(self.model, x, self.numbers)
            if not any(value.requires_grad for value in self.parameters()):
                self.eval()  # in training Pyro warns of what is not trained

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> dist.TorchDistribution:
        return self.family.q(self.free(x), self.model.latent)

    def free(self, x: Tensor) -> Tensor:
        """The family's parameters for rows x (M, ...): (M, numbers)."""
        self.build(x)
        assert self.network is not None
        out = self.network(x)
        out = torch.cat(out, -1) if isinstance(out, tuple) else out
        if out.shape != (len(x), self.numbers):
            wanted = f"({len(x)}, {self.numbers}), locations of z first, then unconstrained scales"
            raise InputError(
                f"the encoder gives shape {tuple(out.shape)} for {len(x)} rows, and the guide needs {wanted}"
            )
        return out


class FlowEncoder(Encoder):
    """A diagonal normal by the encoder, bent by inverse autoregressive flows (Kingma et al. 2016).

    The flows see the encoder's last features, so that each row has its own. Draws and their density are cheap; the
    density of a point that was not drawn takes `latent` passes.
    """

    def __init__(self, model: VAE, flows: int = 2, context: int = 32, hidden: int = 64) -> None:
        super().__init__(model)
        self.flows, self.context, self.hidden = flows, context, hidden
        self.bends = nn.ModuleList()

    @property
    def numbers(self) -> int:
        return 2 * self.model.latent + self.context

    def build(self, x: Tensor) -> None:
        if self.network is None:
            super().build(x)
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


def _encoder(model: Any, x: Tensor, outputs: int) -> nn.Module:
    """A network from rows like those of x to so many numbers; that of the model's prior where this has one to share.

    Beside a linear decoder with one deviation, which begins at PCA, a linear one begins at its posterior.
    """
    if not isinstance(model, VAE):  # of strings, say
        return model.encoder_for(x, outputs)
    shared = model.learned_prior(x)
    if isinstance(shared, Vamp) and outputs == 2 * model.latent and not model.is_frozen:
        return shared.encoder
    network = model.encoder_for(x, outputs)
    if model.decoder == "linear" and model.likelihood == "gaussian" and model.encoder is None:
        with torch.no_grad():
            _begin_at_pca(cast(nn.Sequential, network), pca(x.flatten(1), model.latent))
    return network


def _begin_at_pca(network: nn.Sequential, found: PCA) -> None:
    """Put a linear encoder's locations and scales, which all families have first, at the posterior of PCA."""
    layer, (weights, scale) = cast(nn.Linear, network[-1]), found.posterior()
    latent = len(scale)
    layer.weight.zero_()
    layer.bias.zero_()
    layer.weight[:latent].copy_(weights * found.unit)
    layer.bias[latent : 2 * latent].copy_((scale - SMALLEST).expm1().log())  # through softplus
