"""Variational EM by gradients: steps on q(z) and steps on the model's parameters take turns."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.optim import PyroOptim

from ...guides import Guide, GuideFactory
from ...models import GMM
from ..data.as_data import DataLike
from ..fit.fit import Fit
from .svi import svi


def vem(
    model: GMM,
    guide: str | GuideFactory | Guide,
    x: DataLike,
    *,
    steps: int = 2000,
    e_steps: int = 1,
    lr: float = 0.02,
    batch_size: int | None = None,
    name: str | None = None,
    **options: Any,
) -> Fit:
    """Variational EM: gradient steps on q(z), then one on weights, locs and covariances, and again.

    Neal and Hinton (1998): both climb one bound, log p(x) - KL(q(z) || p(z | x)). With `responsibilities` for a guide
    q has parameters for each row; with `amortized` it is a network, and with batch_size this is amortised stochastic
    variational EM: draw a batch, step the encoder, step the model.

    Parameters
    ----------
    guide : responsibilities, amortized, or any guide of z for a GMM.
    steps : of both kinds together.
    e_steps : steps on q(z) for each step on the model.
    lr : falls to 1 % of itself along the way.
    batch_size : rows a step; all of them by default.
    options : those of `svi`, starts, draws, seed and progress for example.

    Returns
    -------
    Fit
        That of `svi`.
    """
    name = name or (f"vem_{guide}" if isinstance(guide, str) else "vem")
    turn = {"lr": lr, "decay": 0.01 ** (1 / steps), "e_steps": e_steps}
    optimizer = PyroOptim(TurnTakingAdam, lambda param: {**turn, "is_model": param in model.dims})
    return svi(model, guide, x, steps=steps, optimizer=optimizer, batch_size=batch_size, name=name, **options)


class TurnTakingAdam(torch.optim.Adam):
    """Adam that moves in its own turns only: of each e_steps + 1 steps the last is the model's.

    is_model: whether these parameters are the model's. decay: of the rate, a step, moved or not.
    """

    def __init__(self, params: Any, lr: float, decay: float, e_steps: int, is_model: bool) -> None:
        super().__init__(params, lr=lr)
        self.decay, self.e_steps, self.is_model, self.taken = decay, e_steps, is_model, 0

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move if it is this one's turn."""
        if (self.taken % (self.e_steps + 1) == self.e_steps) == self.is_model:
            super().step(closure)
        self.taken += 1
        for group in self.param_groups:
            group["lr"] *= self.decay
