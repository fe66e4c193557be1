"""KL warm-up: the divergence of q from the prior counts little at first, and then in full (Bowman et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

__all__ = ["kl_weighted"]


@contextmanager
def kl_weighted(step: Tensor | int, warmup: int) -> Iterator[None]:
    """Weigh every latent site, in guide and model, by (step + 1) / warmup, up to one. warmup: steps; 0 for none."""
    with _Weighed(step, warmup) if warmup else nullcontext():
        yield


class _Weighed(Messenger):
    def __init__(self, step: Tensor | int, warmup: int) -> None:
        super().__init__()
        share = (step + 1) / warmup
        self.weight = share.clamp(max=1.0) if isinstance(share, Tensor) else min(share, 1.0)

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and not isinstance(msg["fn"], _Subsample):
            msg["scale"] = msg["scale"] * self.weight
