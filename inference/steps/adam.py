"""Adam on one flat vector: as a pure function for a graph, and in place, by torch's fused kernel, for many numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor
from torch.optim.adam import adam


class State(NamedTuple):
    """Where a training is.

    flat: unconstrained parameters (P,). mean, square: moments (P,). step: steps taken, (). schedule: the rate and its
    decay a step, (2,); here and not in the graph, so that fits of all lengths share it.
    """

    flat: Tensor
    mean: Tensor
    square: Tensor
    step: Tensor
    schedule: Tensor


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015); with a clip also Pyro's ClippedAdam: gradients clamped, the rate decaying.

    clip: the largest absolute value of a gradient's entry; None does not clamp. decay: of the rate, a step.
    """

    lr: float = field(compare=False)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = None
    decay: float = field(default=1.0, compare=False)

    def start(self, flat: Tensor) -> State:
        """The state before the first step."""
        schedule = torch.tensor([self.lr, self.decay], dtype=torch.float64, device=flat.device)
        return State(flat, torch.zeros_like(flat), torch.zeros_like(flat), schedule.new_zeros(()), schedule)

    def step(self, state: State, gradient: Tensor) -> State:
        """The state after one step down the gradient, (P,)."""
        first, second = self.betas
        step = state.step + 1
        gradient = gradient if self.clip is None else gradient.clamp(-self.clip, self.clip)
        mean = first * state.mean + (1 - first) * gradient
        square = second * state.square + (1 - second) * gradient * gradient
        lr, decay = state.schedule
        rate = lr * decay**step / (1 - first**step)
        correction = (1 - second**step).sqrt()
        if self.clip is None:
            change = mean / (square.sqrt() / correction.to(mean) + self.eps) * rate.to(mean)
        else:  # Pyro's corrects the root after eps was added to it
            change = mean / (square.sqrt() + self.eps) * (rate * correction).to(mean)
        return State(state.flat - change, mean, square, step, state.schedule)

    def descend(self, state: State, gradients: Sequence[Tensor]) -> None:
        """The same step in place, one pass over the state where `step` makes a dozen copies of it.

        gradients: of the parameters, one after another; together (P,).
        """
        first, second = self.betas
        step = float(state.step) + 1
        if self.clip is not None:
            gradients = [gradient.clamp(-self.clip, self.clip) for gradient in gradients]
        lr, decay = state.schedule.tolist()
        eps = self.eps if self.clip is None else self.eps / math.sqrt(1 - second**step)  # see `step`
        sizes = [gradient.numel() for gradient in gradients]
        flat, mean, square = ([*value.split(sizes)] for value in (state.flat, state.mean, state.square))
        gradients = [gradient.reshape(-1) for gradient in gradients]
        steps = [state.step.clone() for _ in sizes]
        plain: dict[str, Any] = {"weight_decay": 0.0, "amsgrad": False, "maximize": False, "fused": True}
        adam(flat, gradients, mean, square, [], steps, lr=lr * decay**step, beta1=first, beta2=second, eps=eps, **plain)
        state.step.add_(1)


def adam_of(optimizer: PyroOptim) -> Adam | None:
    """The same optimizer as a pure function, or None where it is neither of the two, or has other options."""
    kind, given = optimizer.pt_optim_constructor, optimizer.pt_optim_args
    if kind not in (ClippedAdam, torch.optim.Adam) or not isinstance(given, dict) or optimizer.pt_clip_args:
        return None
    options = {"lr": 1e-3, **({"clip_norm": 10.0, "lrd": 1.0} if kind is ClippedAdam else {})}
    if given.keys() - {*options, "betas", "eps"}:
        return None
    ours = {"clip_norm": "clip", "lrd": "decay"}
    return Adam(**{ours.get(name, name): value for name, value in {**options, **given}.items()})


def joined(parts: Iterable[Tensor]) -> Tensor:
    """Tensors as one flat vector, end to end: (P,)."""
    return torch.cat([part.reshape(-1) for part in parts])
