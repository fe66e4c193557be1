"""Adam in place, by torch's fused kernel: called directly, for `torch.optim` takes ten times as long to come to it."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor


@dataclass
class Adam:
    """Adam (Kingma and Ba 2015); with a clip Pyro's ClippedAdam: gradients clamped, the rate decaying.

    clip: the largest absolute value of a gradient's entry; None does not clamp. decay: of the rate, a step. units: of
    each parameter, in which it is moved and clipped: a factor of each entry, or a matrix that its steps go through;
    empty for 1. means, squares: moments of each parameter, empty
    before the first step. taken: steps.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = None
    decay: float = 1.0
    units: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)
    taken: int = 0

    def step(self, params: list[Tensor], gradients: list[Tensor]) -> None:
        """Move the parameters, contiguous ones, down their gradients."""
        if not self.taken:
            self.means, self.squares = ([torch.zeros_like(value) for value in params] for _ in range(2))
        self.taken += 1
        (first, second), eps = self.betas, self.eps
        if self.units:
            gradients = [
                _through(unit, gradient, turned=True) for gradient, unit in zip(gradients, self.units, strict=True)
            ]
        gradients = [gradient.contiguous() for gradient in gradients]
        if self.clip is not None:
            gradients = [gradient.clamp(-self.clip, self.clip) for gradient in gradients]
            eps /= math.sqrt(1 - second**self.taken)  # Pyro's corrects the root after eps was added to it
        steps = [torch.tensor(float(self.taken))] * len(gradients)
        plain: dict[str, Any] = {"weight_decay": 0.0, "amsgrad": False, "maximize": False, "eps": eps}
        lr = self.lr * self.decay**self.taken
        moved = [torch.zeros_like(value) for value in params] if self.units else params
        torch._fused_adam_(
            moved, gradients, self.means, self.squares, [], steps, lr=lr, beta1=first, beta2=second, **plain
        )
        for value, step, unit in zip(params, moved, self.units, strict=False):
            value.add_(_through(unit, step))


def _through(unit: Tensor, vector: Tensor, turned: bool = False) -> Tensor:
    """Entry by entry, or by a matrix, which may be turned over."""
    if unit.shape == vector.shape:
        return unit * vector
    return (unit.T if turned else unit) @ vector


def adam_of(optimizer: PyroOptim) -> Adam | None:
    """The same optimizer at its start, or None where it is neither of the two, or has other options."""
    kind, given = optimizer.pt_optim_constructor, optimizer.pt_optim_args
    if kind not in (ClippedAdam, torch.optim.Adam) or not isinstance(given, dict) or optimizer.pt_clip_args:
        return None
    options = {"lr": 1e-3, **({"clip_norm": 10.0, "lrd": 1.0} if kind is ClippedAdam else {})}
    if given.keys() - {*options, "betas", "eps"}:
        return None
    ours = {"clip_norm": "clip", "lrd": "decay"}
    return Adam(**{ours.get(name, name): value for name, value in {**options, **given}.items()})
