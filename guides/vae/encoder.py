"""Guides with one q(z | x) a row, and those that have it by an encoder."""

from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import conditional_affine_autoregressive
from torch import Tensor, nn

from ...display.objects import described
from ...errors import InputError
from ...models import VAE
from ...models.gaussians.moments import rows_of
from .families import Family, diagonal

__all__ = ["Encoder", "FlowEncoder", "RowGuide"]


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
            self.network = self.model.encoder_for(x, self.numbers)
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
