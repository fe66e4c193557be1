"""Losses and gradients of all shares as one: by DistributedDataParallel, and of compiled steps by one flat sum."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from pyro.infer import ELBO, SVI, TraceGraph_ELBO
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...errors import InputError
from ...models.structure import one_line
from ..runtime.pyro_private import graph_losses, stored_params
from .group import BrokenGroup
from .share import Share, fingerprint

Gradient = Callable[..., Any]  # inputs -> loss (), a gradient each


class NotFinite(Exception):
    """Of the loss of some share, so that there is no gradient."""


@dataclass
class Averaging:
    """What takes the place of a share's own losses and gradients; all processes call the same in the same order.

    Nothing here raises for what fails in one process, as a factorization may: the loss is NaN then, in all of them.
    failure: what it was in this one.
    """

    share: Share
    failure: str = ""
    parallel: DistributedDataParallel | None = field(default=None, repr=False)

    def take_over(self, svi: SVI, elbo: ELBO) -> None:
        """Let Pyro's SVI have the losses and gradients of all shares, by that estimator."""
        svi.loss = partial(self._loss, elbo.loss)
        svi.loss_and_grads = partial(self._loss_and_grads, differentiable(elbo))

    def gradient(self, own: Gradient) -> Gradient:
        """A compiled gradient of all shares: one sum of one flat vector, loss and gradients end to end."""

        def of_all(*inputs: Tensor) -> tuple[Tensor, ...]:
            try:
                parts = [part.detach() for part in own(*inputs)]
            except Exception as error:
                self.failure = one_line(error)
                # The first inputs are the parameters; the last two say which rows, and which step.
                parts = [torch.full_like(part, math.nan) for part in (inputs[0].new_zeros(()), *inputs[:-2])]
            flat = self.share.mean(torch.cat([part.reshape(-1) for part in parts]))
            pieces = flat.split([part.numel() for part in parts])
            return tuple(piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True))

        return of_all

    def check_equal(self, params: dict[str, Tensor], step: int) -> None:
        """Raise BrokenGroup where parameters or random states are not bit for bit those of all other processes."""
        if not self.share.group.alike(fingerprint(params)):
            apart = f"the processes have other parameters or noise than one another after step {step}"
            raise BrokenGroup(f"{apart}: give all of them the same versions, data and programs, and start them again")

    def _loss(self, own: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        return self.of_all(lambda: torch.as_tensor(own(*args, **kwargs), dtype=torch.float64)).item()

    def of_all(self, loss: Callable[[], Tensor]) -> Tensor:
        """The mean of a loss () over all shares; NaN where it fails in one."""
        try:
            value = loss().detach()
        except Exception as error:
            self.failure = one_line(error)
            value = torch.tensor(math.nan, dtype=torch.float64)
        first = next(iter(stored_params().values()), value)
        return self.share.mean(value.to(first.device, torch.float64))

    def _loss_and_grads(self, own: Callable[..., Tensor], *args: Any, **kwargs: Any) -> float:
        """What Pyro's step asks for: the loss, and gradients left with the parameters."""
        own = partial(own, *args, **kwargs)
        if self.parallel is None:
            self.parallel = self._parallel(own)
        try:
            loss, total = self.parallel(own)
        except NotFinite:
            return math.nan
        with self.share.group.unbroken():
            loss.backward()
        return total

    def _parallel(self, loss: Callable[[], Tensor]) -> DistributedDataParallel:
        """The loss as a module of the parameters in Pyro's store; noise is left as it was found."""
        params = {name: value for name, value in stored_params().items() if value.requires_grad}
        with torch.random.fork_rng(), torch.enable_grad():
            try:
                found = torch.autograd.grad(loss(), list(params.values()), allow_unused=True)
                unused = any(gradient is None for gradient in found)
            except Exception:  # which the first step meets again
                unused = True
        unused = any(self.share.group.every(unused))
        with self.share.group.unbroken():
            module = _Loss(params, self)
            return DistributedDataParallel(
                module, process_group=self.share.group.handle, find_unused_parameters=unused, broadcast_buffers=False
            )


class _Loss(nn.Module):
    """A loss as a module, which DistributedDataParallel asks for: its parameters are the very tensors in the store."""

    def __init__(self, params: dict[str, Tensor], averaging: Averaging) -> None:
        super().__init__()
        vars(self)["_parameters"] = {name.replace(".", "/"): value for name, value in params.items()}
        self.averaging = averaging

    def forward(self, loss: Callable[[], Tensor]) -> tuple[Tensor, float]:
        """What is to be differentiated, and the loss of all shares. DistributedDataParallel takes a plain mean."""
        share, own = self.averaging.share, torch.tensor(math.nan)

        def kept() -> Tensor:
            nonlocal own
            own = loss()
            return own

        total = self.averaging.of_all(kept).item()
        if not math.isfinite(total):
            raise NotFinite
        return own * (share.weight * share.group.processes), total


def differentiable(elbo: ELBO) -> Callable[..., Tensor]:
    """An estimator's loss () whose gradient is that of its `loss_and_grads`."""
    if isinstance(elbo, TraceGraph_ELBO):
        return partial(_of_graph, elbo)
    found = getattr(elbo, "differentiable_loss", None)
    if found is None:
        what = f"{type(elbo).__name__} has no differentiable_loss, which several processes need"
        raise InputError(f"{what}: choose another estimator, or take one process")
    return found


def _of_graph(elbo: TraceGraph_ELBO, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
    loss, surrogate = graph_losses(elbo, model, guide, args, kwargs)
    return surrogate + (loss - surrogate).detach()
