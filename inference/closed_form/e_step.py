"""The E-step: responsibilities of all rows and their moments, chunk by chunk, on every thread that torch may use.

Blocks are tensors of rows, (n, D) each, in float64; chunks are the parts of a block that fit into a thread's cache.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from ...models.gaussians.sufficient import ByComponent, Components, Kernel, Sums, Units, kernel_of
from ..mapped.tensor import Mapped
from ..runtime.isolation import one_thread
from ..workers.many import WorkerLost, cores_for, in_workers

Parts = tuple[Tensor, ...]
WorkerPool = Callable[[Callable[[Tensor], Parts], Iterable[Tensor]], Iterable[Parts]]  # the sum of fn for each block
CHUNK_NUMBERS = 700_000  # held at a time by a thread, so that they stay in its cache
CHUNK_ROWS = 16_384  # at most, in a chunk
SHARE_ROWS = 65_536  # of a block, for a worker: however many there are, the same numbers are added in the same order


def inline(fn: Callable[[Tensor], Parts], blocks: Iterable[Tensor]) -> Iterator[Parts]:
    """The sum of fn over the rows of each block, in the caller's thread."""
    return (_total(map(fn, block.split(SHARE_ROWS))) for block in blocks)


@contextmanager
def worker_pool(rows: Tensor | None = None, jobs: int | None = 1) -> Iterator[WorkerPool]:
    """As many workers as torch has threads, until the end of the block, where torch's own number is as it was.

    rows: all blocks end to end; where they lie in a file, `jobs` processes share them, and each maps it itself.
    """
    number = torch.get_num_threads()
    if isinstance(rows, Mapped) and cores_for(jobs):
        yield lambda fn, _: _by_workers(fn, rows, jobs)
        return
    if number == 1:
        yield inline
        return
    with one_thread(), ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as executor:

        def shared(fn: Callable[[Tensor], Parts], blocks: Iterable[Tensor]) -> Iterator[Parts]:
            for block in blocks:
                if block.is_cuda or len(block) <= SHARE_ROWS:
                    yield from inline(fn, [block])
                else:
                    yield _total(executor.map(fn, block.split(SHARE_ROWS)))

        yield shared


def _by_workers(fn: Callable[[Tensor], Parts], file: Mapped, jobs: int | None) -> list[Parts]:
    """The sum of fn over the rows of each block of a file, in their order."""
    spans = file.spans()
    found = dict(in_workers(_of_block, ((fn, file, *span) for span in spans), jobs))
    for lost in found.values():
        if isinstance(lost, WorkerLost):
            raise lost
    return [found[number] for number in range(len(spans))]


def _of_block(fn: Callable[[Tensor], Parts], file: Mapped, start: int, stop: int) -> Parts:
    """The sum of fn over the rows of a block, in a process of its own."""
    with one_thread():
        (found,) = inline(fn, [file.block(start, stop)])
    return found


class EStep(NamedTuple):
    """log_total: sum_n log sum_k exp(term_nk), nats. sums: the moments under the responsibilities."""

    log_total: Tensor
    sums: Sums


def e_step(blocks: Iterable[Tensor], components: Components, units: Units, pool: WorkerPool = inline) -> EStep:
    """Responsibilities exp(term_nk) / sum_j exp(term_nj) and their moments (Bishop 2006, eqs. 9.23 to 9.27)."""
    kernel = kernel_of(components, units)

    def parts(rows: Tensor) -> Parts:
        shares = kernel.terms(rows)
        log_total = _normalize(shares).sum()
        return log_total, *kernel.tally(rows, shares)

    log_total, counts, first, second = _total_over(blocks, kernel, parts, pool)
    return EStep(log_total, kernel.sums((counts, first, second)))


def log_totals(
    blocks: Iterable[Tensor], components: Components, units: Units, groups: int, pool: WorkerPool = inline
) -> Tensor:
    """sum_n log sum_k exp(term_nk) of so many mixtures of K components each, end to end: (groups,)."""
    kernel = kernel_of(components, units)

    def parts(rows: Tensor) -> Parts:
        return (kernel.terms(rows).unflatten(0, (groups, -1)).logsumexp(1).sum(-1),)

    return _total_over(blocks, kernel, parts, pool)[0]


def weighted_sums(blocks: Iterable[Tensor], responsibilities: Tensor) -> Sums:
    """The moments under responsibilities that are given, (N, K); means first, scatters about them in a second pass.

    blocks: iterated over twice.
    """

    def paired() -> Iterator[tuple[Tensor, Tensor]]:
        place = 0
        for x in blocks:
            yield x, responsibilities[place : place + len(x)]
            place += len(x)

    counts, first = responsibilities.sum(0), sum(shares.mT @ x for x, shares in paired())
    locs = first / counts.clamp(min=torch.finfo(counts.dtype).tiny).unsqueeze(-1)
    kernel = ByComponent(Components(counts, locs, locs.new_zeros(*locs.shape, locs.shape[-1])))
    chunks = (zip(x.split(CHUNK_ROWS), shares.split(CHUNK_ROWS), strict=True) for x, shares in paired())
    total = _total(kernel.tally(rows, shares.mT) for chunk in chunks for rows, shares in chunk)
    return kernel.sums(total)  # type: ignore[arg-type]


def terms(blocks: Iterable[Tensor], components: Components, units: Units) -> Iterator[Tensor]:
    """The terms of each row, chunk by chunk: (K, n) each."""
    kernel = kernel_of(components, units)
    for x in blocks:
        for rows in _chunks(x, kernel):
            yield kernel.terms(rows)


def whiteners(covariances: Tensor) -> Tensor:
    """C^-1 of the Cholesky factors C of covariances: (K, D, D)."""
    trils = torch.linalg.cholesky(covariances)
    eye = torch.eye(trils.shape[-1], dtype=trils.dtype, device=trils.device).expand_as(trils)
    return torch.linalg.solve_triangular(trils, eye, upper=False)


def weighted_normals(log_weights: Tensor, locs: Tensor, whiteners: Tensor) -> Components:
    """log weights_k + log Normal(x | locs_k, (W_k^T W_k)^-1), W_k a triangular whitener: (..., K), of draws too."""
    log_dets = whiteners.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return Components(log_weights + log_dets - locs.shape[-1] / 2 * math.log(2 * math.pi), locs, whiteners)


def normal_components(weights: Tensor, locs: Tensor, covariances: Tensor) -> Components:
    """log weights_k + log Normal(x | locs_k, covariances_k): (K,), (K, D), (K, D, D)."""
    return weighted_normals(weights.log(), locs, whiteners(covariances))


def _total_over(blocks: Iterable[Tensor], kernel: Kernel, parts: Callable[[Tensor], Parts], pool: WorkerPool) -> Parts:
    """The sum of `parts` over all chunks of all blocks, each block shared out among the workers."""

    def share(x: Tensor) -> Parts:
        return _total(map(parts, _chunks(x, kernel)))

    return _total(pool(share, blocks))


def _total(parts: Iterable[Parts]) -> Parts:
    return reduce(lambda total, part: tuple(map(torch.add, total, part)), parts)


def _chunks(x: Tensor, kernel: Kernel) -> Iterator[Tensor]:
    """What the kernel makes of the rows of x, some at a time, all in one buffer."""
    size = min(len(x), CHUNK_ROWS, max(64, CHUNK_NUMBERS // kernel.width))
    out = x.new_empty(size * kernel.width)
    for rows in x.split(size):
        yield kernel.rows(rows, out)


def _normalize(terms: Tensor) -> Tensor:
    """Terms (K, n) become responsibilities, in place; the log of their sums, (n,)."""
    top = terms.amax(0)
    total = terms.sub_(top).exp_().sum(0)
    terms.div_(total)
    return top.add_(total.log_())
