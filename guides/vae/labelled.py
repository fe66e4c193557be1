"""The guide of a VAE with labels: a classifier q(y | x), and an encoder q(z | x, y)."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...display.objects import described
from ...models.gaussians.moments import rows_of
from ...models.vae.labelled import LabelledVAE
from ...models.vae.networks import Centred, mlp
from .families import diagonal

__all__ = ["LabelledEncoder"]


class LabelledEncoder(nn.Module):
    """q(y | x) = Categorical(classifier(x)), q(z | x, y) = Normal(encoder(x, y)) (Kingma et al. 2014, eqs. 3 and 4).

    In training log q(y | x) of the known labels counts too, by the model's `weight` (eq. 9). y is enumerated, so that
    its gradient has no noise.
    """

    _repr_html_ = described

    amortized = True

    def __init__(self, model: LabelledVAE) -> None:
        super().__init__()
        self.model = model
        self.centred: Centred | None = None

    def build(self, x: Tensor) -> None:
        """Make the networks for rows like those of x, where that has not been done."""
        if self.centred is None:
            model, entries = self.model, x[0].numel()
            self.centred = Centred(x)
            if model.semi_supervised:
                self.classifier = mlp((entries, *model.hidden, model.classes)).to(x)
            self.encoder = mlp((entries + model.classes, *model.hidden, 2 * model.latent)).to(x)

    def forward(self, x: Tensor, labels: Tensor) -> None:
        """Run the guide on x, (N, ...), and labels (N,)."""
        self.build(x)
        pyro.module("guide", self)
        known, codes = self.model.read(x, labels)
        with pyro.plate("data", len(x), subsample_size=self.model.batch_size, dim=-1) as rows:
            seen, certain, y = (rows_of(each, rows) for each in (x, known, codes))
            if self.model.semi_supervised:
                free = self.class_logits(seen)
                told = torch.where(certain, dist.Categorical(logits=free).log_prob(y), 0.0)
                pyro.factor("told", -self.model.weight * told, has_rsample=True)
                q = dist.Categorical(logits=self.model.logits(certain, y, free))
                y = pyro.sample("y", q, infer={"enumerate": "parallel"})
            pyro.sample("z", self.given(seen, y), infer={"event_dims": ["latent"]})

    def class_logits(self, x: Tensor) -> Tensor:
        """Those of q(y | x): (M, K)."""
        assert self.centred is not None
        return self.classifier(self.centred(x).flatten(1))

    def given(self, x: Tensor, y: Tensor) -> dist.TorchDistribution:
        """q(z | x, y) of rows x (M, ...) and classes y (..., M): batch (..., M), event (latent,)."""
        assert self.centred is not None
        return diagonal().q(self.encoder(self.model.with_class(self.centred(x).flatten(1), y)), self.model.latent)

    def posterior(self, x: Tensor, rows: Tensor | None, labels: Tensor) -> dist.TorchDistribution:
        """q(z | x), or q(z | x, y) where y is known: batch (M,), event (latent,)."""
        self.build(x)
        known, codes = self.model.read(x, labels)
        if not self.model.semi_supervised:
            return self.given(x, codes)
        weights = dist.Categorical(logits=self.model.logits(known, codes, self.class_logits(x)))
        classes = torch.arange(self.model.classes, device=x.device).unsqueeze(-1).expand(-1, len(x))
        each = self.given(x, classes).base_dist
        parts = dist.Normal(each.loc.transpose(0, 1), each.scale.transpose(0, 1)).to_event(1)
        return dist.MixtureSameFamily(weights, parts)
