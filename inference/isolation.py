"""Run Pyro without leaving a trace: parameters, random state, dtype and validation are as they were afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch

__all__ = ["isolated"]


@contextmanager
def isolated(seed: int, dtype: torch.dtype, params: dict | None = None) -> Iterator[None]:
    """A param store, a generator seeded with `seed`, and a default dtype of one's own.

    params: a state of the param store to start from; None starts empty. Validation is off inside.
    """
    before = torch.get_default_dtype()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), pyro.get_param_store().scope(params), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
