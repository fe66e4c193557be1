"""Where a search or a chain begins: a point at which the density is finite."""

from functools import partial

import torch
from torch import Tensor

from ...errors import InputError
from ...models.structure import model_name
from ..runtime.isolation import seed_torch
from .log_density import Density

TRIES = 100  # at a finite starting point


def start_of(density: Density, seed: int) -> Tensor:
    """A flat unconstrained point of finite density: the model's own start, else a uniform one in [-2, 2]."""
    seed_torch(seed)
    init = getattr(density.model, "init", None)
    for attempt in range(TRIES):
        if init and attempt == 0:
            flat = density.unconstrain(density.data.run(partial(init, seed=seed)))
        else:
            flat = torch.rand_like(density.data.like.expand(density.dim)) * 4 - 2
        if density.log_density(flat).isfinite():
            return flat
    mend = "check the priors against the data's scale, or give the model an init(x, seed)"
    raise InputError(f"model {model_name(density.model)} has no finite density at {TRIES} starting points: {mend}")
