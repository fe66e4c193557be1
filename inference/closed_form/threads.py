"""As many threads as torch may use, each running torch on one: none waits for another within an operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["INLINE", "Threads", "threads"]

T = TypeVar("T")
FEWEST = 8_192  # rows; fewer are not worth dealing out


@dataclass(frozen=True)
class Threads:
    """number: of threads. pool: None runs everything where it is called."""

    number: int = 1
    pool: ThreadPoolExecutor | None = None

    def over(self, fn: Callable[[Tensor], T], x: Tensor) -> Iterable[T]:
        """fn of the rows of x, dealt out in equal parts."""
        if self.pool is None or x.is_cuda or len(x) < FEWEST:
            return [fn(x)]
        return self.pool.map(fn, x.split(-(-len(x) // self.number)))


INLINE = Threads()


@contextmanager
def threads() -> Iterator[Threads]:
    """Threads to be used until the end of the block, where torch's own number is as it was."""
    number = torch.get_num_threads()
    if number == 1:
        yield INLINE
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Threads(number, pool)
    finally:
        torch.set_num_threads(number)
