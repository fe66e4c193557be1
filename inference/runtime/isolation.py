"""Run Pyro without leaving a trace: parameters, random state, dtype and validation are as they were afterwards."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pyro
import torch

from ...models.program import permissive

SMALL = 200_000  # numbers; an operation on fewer is over before a second thread has begun


@contextmanager
def isolated(seed: int, dtype: torch.dtype, params: dict | None = None, promote: bool = False) -> Iterator[None]:
    """A param store, a generator seeded with `seed`, and a default dtype of one's own.

    params: a state of the param store to start from; None starts empty. promote: whether what mixes float32 and float64
    is done in float64. Validation is off inside.
    """
    before = torch.get_default_dtype()
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices), pyro.get_param_store().scope(params), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            with permissive(promote):
                yield
        finally:
            torch.set_default_dtype(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, in here and in threads that begin in here; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread_if_small(numbers: int) -> AbstractContextManager[None]:
    """One torch thread for few numbers, where threads only wait for one another; as it was for large."""
    return one_thread() if numbers < SMALL else nullcontext()
