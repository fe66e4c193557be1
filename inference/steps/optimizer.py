"""The optimizer of a training, from whatever names one or makes one."""

from __future__ import annotations

import copy
import inspect
from typing import Literal, TypeAlias

import torch
from pyro.optim import Adam, ClippedAdam, PyroOptim

from ...errors import InputError, is_one_of
from .pairing import AUTO

Optimizer: TypeAlias = str | type[torch.optim.Optimizer] | torch.optim.Optimizer | PyroOptim

CLIP = 10.0  # of a gradient's entry, ClippedAdam's own default
DECAYED = 0.01  # what is left of ClippedAdam's rate at the end


def optimizer_of(optimizer: Optimizer, lr: float, steps: int | Literal["auto"], rows: int = 1) -> PyroOptim:
    """A fresh PyroOptim. steps: over which ClippedAdam's rate falls; auto for a rate that does not.

    rows: of which a gradient is a sum where every row has latents of its own; only what is far beyond that is clipped.
    """
    if isinstance(optimizer, PyroOptim):
        return copy.deepcopy(optimizer)
    if isinstance(optimizer, torch.optim.Optimizer):  # of other tensors: its class and options are what is meant
        usual = {name: p.default for name, p in inspect.signature(type(optimizer)).parameters.items()}
        own = {name: value for name, value in optimizer.defaults.items() if value != usual.get(name, value)}
        return PyroOptim(type(optimizer), {"lr": optimizer.defaults["lr"], **own})
    if isinstance(optimizer, type):
        return PyroOptim(optimizer, {"lr": lr})
    if is_one_of(optimizer, "ClippedAdam"):
        decay = 1.0 if steps == AUTO else DECAYED ** (1 / steps)
        return ClippedAdam({"lr": lr, "lrd": decay, "clip_norm": CLIP * rows})
    if is_one_of(optimizer, "Adam"):
        return Adam({"lr": lr})
    known = "ClippedAdam, Adam, an optimizer or class of torch.optim, or a PyroOptim"
    raise InputError(f"optimizer={optimizer!r} is unknown: choose {known}")


def rate_falls(optimizer: Optimizer, steps: int | Literal["auto"]) -> bool:
    """Whether the rate of an optimizer falls by itself, to `DECAYED` of what it was."""
    return is_one_of(optimizer, "ClippedAdam") and steps != AUTO
