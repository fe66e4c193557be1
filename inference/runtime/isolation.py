"""Run Pyro without leaving a trace: parameters, random state, dtype and validation are as they were afterwards."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Condition, RLock

import numpy as np
import pyro
import torch

from ...errors import check_seed
from ...models.program import permissive

ALONE = RLock()  # Pyro's and torch's state is one for all threads: who changes it keeps the others waiting
TURN = Condition(ALONE)
SMALL = 200_000  # numbers; an operation on fewer is over before a second thread has begun


@contextmanager
def untouched(params: dict | None = None) -> Iterator[None]:
    """Afterwards all is as it was: the generators of torch, NumPy and Python, the param store, the default dtype.

    params: a state of the param store to start from; None starts empty. One thread at a time.
    """
    with ALONE, torch.random.fork_rng(range(torch.cuda.device_count())), pyro.get_param_store().scope(params):
        dtype, of_numpy, of_python = torch.get_default_dtype(), np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)


@contextmanager
def isolated(seed: int, dtype: torch.dtype, params: dict | None = None, promote: bool = False) -> Iterator[None]:
    """A param store, generators seeded with `seed`, and a default dtype of one's own.

    params: as `untouched` has them. promote: whether what mixes float32 and float64 is done in float64. Validation is
    off inside. One thread at a time.
    """
    seed = check_seed(seed, 2**63)
    with untouched(params), pyro.validation_enabled(False), permissive(promote):
        seed_torch(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        torch.set_default_dtype(dtype)
        yield


def seed_torch(seed: int) -> None:
    """torch.manual_seed, which where there is no accelerator writes down the stack three times for one to come."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def is_alone() -> bool:
    """Whether this thread keeps the others waiting."""
    return bool(ALONE._is_owned())  # type: ignore[attr-defined] # as Condition asks it


def let_others(seconds: float) -> None:
    """Wait for so long, while other threads may change what is everybody's: each leaves it as it was."""
    with ALONE:
        TURN.wait(seconds)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, in here and in threads that begin in here; afterwards as many as before."""
    with ALONE:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def one_thread_if_small(numbers: int) -> AbstractContextManager[None]:
    """One torch thread for few numbers, where threads only wait for one another; as it was for large."""
    return one_thread() if numbers < SMALL else nullcontext()
