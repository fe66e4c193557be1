"""The importance-weighted bound as an objective (Burda, Grosse and Salakhutdinov 2016)."""

import math
from typing import Any

import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from ...guides import Guide
from ...models.structure import Model
from ...models.trace import sites_of
from ..runtime.pyro_private import traces_of


class IWAE(Trace_ELBO):
    """sum_n log 1/K sum_k p(x_n, z_nk) / q(z_nk | x_n), for a model all of whose latent sites are local to a row.

    The mean over draws is taken row by row and inside the logarithm, and the scale of a minibatch outside, so that a
    minibatch's bound is unbiased for that of all rows. (`RenyiELBO` with alpha 0 takes one logarithm of all rows
    together, which is another bound, and a biased one under minibatches.) For `pyro.infer.SVI`, and for `svi`.

    particles : K. Every site must be under the plate `data`.
    """

    def __init__(self, particles: int = 5, max_plate_nesting: int = 1) -> None:
        super().__init__(num_particles=particles, max_plate_nesting=max_plate_nesting, vectorize_particles=True)

    def differentiable_loss(self, model: Model, guide: Guide, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the bound, nats, for the gradient."""
        joint, own = traces_of(self, model, guide, args, kwargs)
        weights, scale = torch.zeros(()), 1.0
        for sign, trace in ((1, joint), (-1, own)):
            trace.compute_log_prob()
            for node in sites_of(trace).values():
                weights = weights + sign * node["log_prob"]
                scale = node["scale"] if node["is_observed"] else scale
        each = (weights / scale).reshape(self.num_particles, -1).logsumexp(0) - math.log(self.num_particles)
        return -scale * each.sum()

    def loss(self, model: Model, guide: Guide, *args: Any, **kwargs: Any) -> float:
        """Minus the bound, nats."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Model, guide: Guide, *args: Any, **kwargs: Any) -> float:
        """Minus the bound, nats; its gradient is added to that of the parameters."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach())
