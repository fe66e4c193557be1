"""One pass over all rows, some at a time: the E-step, and all that the M-step needs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...models.sufficient import ByComponent, Components, Kernel, Sums, Units, kernel_of
from .threads import INLINE, Threads

__all__ = ["Expectation", "expectation", "log_sums", "log_totals", "terms", "weighted_sums"]

CHUNK = 700_000  # numbers held at a time by a thread, so that they stay in its cache
ROWS = 16_384  # at most, in a chunk
Parts = tuple[Tensor, ...]


class Expectation(NamedTuple):
    """log_total: sum_n log sum_k exp(term_nk), nats. sums: the moments under the responsibilities."""

    log_total: Tensor
    sums: Sums


def expectation(
    blocks: Iterable[Tensor], components: Components, units: Units, threads: Threads = INLINE
) -> Expectation:
    """Responsibilities exp(term_nk) / sum_j exp(term_nj) and their moments (Bishop 2006, eqs. 9.23 to 9.27).

    blocks: of rows, (n, D) each.
    """
    kernel = kernel_of(components, units)

    def parts(rows: Tensor) -> Parts:
        shares = kernel.terms(rows)
        log_total = _normalize(shares).sum()
        return log_total, *kernel.tally(rows, shares)

    log_total, counts, first, second = _over(blocks, kernel, parts, threads)
    return Expectation(log_total, kernel.sums((counts, first, second)))


def log_totals(
    blocks: Iterable[Tensor], components: Components, units: Units, groups: int, threads: Threads = INLINE
) -> Tensor:
    """sum_n log sum_k exp(term_nk) of so many mixtures of K components each, end to end: (groups,)."""
    kernel = kernel_of(components, units)

    def parts(rows: Tensor) -> Parts:
        return (kernel.terms(rows).unflatten(0, (groups, -1)).logsumexp(1).sum(-1),)

    return _over(blocks, kernel, parts, threads)[0]


def weighted_sums(blocks: Callable[[], Iterable[Tensor]], responsibilities: Tensor) -> Sums:
    """The moments under responsibilities that are given, (N, K); means first, scatters about them in a second pass."""
    counts, place, first = responsibilities.sum(0), 0, torch.zeros(())
    for x in blocks():
        first = first + responsibilities[place : place + len(x)].mT @ x
        place += len(x)
    locs = first / counts.clamp(min=torch.finfo(counts.dtype).tiny).unsqueeze(-1)
    whiteners = locs.new_zeros(*locs.shape, locs.shape[-1])
    kernel, place = ByComponent(Components(counts, locs, whiteners)), 0
    total: Parts = ()
    for x in blocks():
        for rows in x.split(ROWS):
            total = _added(total, kernel.tally(rows, responsibilities[place : place + len(rows)].mT))
            place += len(rows)
    return kernel.sums(total)  # type: ignore[arg-type]


def terms(blocks: Iterable[Tensor], components: Components, units: Units) -> Iterator[Tensor]:
    """The terms of each row, chunk by chunk: (K, n) each."""
    kernel = kernel_of(components, units)
    for x in blocks:
        for rows in _chunks(x, kernel):
            yield kernel.terms(rows)


def log_sums(blocks: Iterable[Tensor], components: Components, units: Units, groups: int = 1) -> Iterator[Tensor]:
    """log sum_k exp(term_nk) of each row, chunk by chunk: (groups, n) each.

    groups: the components are so many mixtures of K each, end to end.
    """
    for chunk in terms(blocks, components, units):
        yield chunk.unflatten(0, (groups, -1)).logsumexp(1)


def _over(blocks: Iterable[Tensor], kernel: Kernel, parts: Callable[[Tensor], Parts], threads: Threads) -> Parts:
    """The sum of `parts` over all chunks of all blocks, each block dealt out to the threads."""

    def share(x: Tensor) -> Parts:
        return _total(parts(rows) for rows in _chunks(x, kernel))

    return _total(part for x in blocks for part in threads.over(share, x))


def _total(parts: Iterable[Parts]) -> Parts:
    total: Parts = ()
    for part in parts:
        total = _added(total, part)
    return total


def _chunks(x: Tensor, kernel: Kernel) -> Iterator[Tensor]:
    """What the kernel makes of the rows of x, some at a time, all in one buffer."""
    size = min(len(x), ROWS, max(64, CHUNK // kernel.width))
    out = x.new_empty(size * kernel.width)
    for rows in x.split(size):
        yield kernel.rows(rows, out)


def _normalize(terms: Tensor) -> Tensor:
    """Terms (K, n) become responsibilities, in place; the log of their sums, (n,)."""
    top = terms.amax(0)
    total = terms.sub_(top).exp_().sum(0)
    terms.div_(total)
    return top.add_(total.log_())


def _added(total: Parts, part: Parts) -> Parts:
    return tuple(a + b for a, b in zip(total, part, strict=True)) if total else part
