"""The processes that one fit is shared by: those that torchrun started, or of a process group that the user made."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...models.structure import one_line
from .launched import launched, launched_rank

TIMEOUT = timedelta(minutes=10)  # until a process that does not answer is given up
SHARED_FROM = 2  # processes

_joined = count()  # the rendezvous of each call, all of which go through one store


class BrokenGroup(InputError):
    """Another process is gone, or has other numbers than this one: nothing can be shared any more."""


@dataclass(frozen=True)
class Group:
    """The processes of one call, each of which makes the same calls of these methods in the same order.

    rank: this one's number, from 0. processes: how many there are. handle: torch's ProcessGroup, None of one process.
    """

    rank: int = 0
    processes: int = 1
    handle: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place of a tensor of one shape in all."""
        with self.unbroken():
            torch.distributed.all_reduce(value, group=self.handle)
        return value

    def every(self, value: Any) -> list[Any]:
        """What each process has, by rank."""
        values = [value] * self.processes
        if self.handle is not None:
            with self.unbroken():
                torch.distributed.all_gather_object(values, value, group=self.handle)
        return values

    def of_first(self, value: Any) -> Any:
        """What the first process has."""
        return self.every(value if self.first else None)[0]

    def by_first(self, fn: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of files gives in the first process; what it refuses there, all of them refuse."""
        found, refused = None, ""
        if self.first:
            try:
                found = fn(*arguments)
            except InputError as error:
                refused = str(error)
        found, refused = self.of_first((found, refused))
        if refused:
            raise InputError(refused)
        return found

    def alike(self, number: Tensor) -> bool:
        """Whether a whole number () is the same in all processes."""
        ends = torch.stack([number, -number])
        with self.unbroken():
            torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX, group=self.handle)
        return bool(ends[0] == -ends[1])

    def check_same(self, **given: Any) -> None:
        """Raise InputError, in all processes, where one of them was given something else than the first."""
        first, *others = self.every(given)
        for rank, other in enumerate(others, 1):
            for name in first.keys() | other.keys():
                if first.get(name) != other.get(name):
                    mend = "give every process the same data and options, and each takes its share of the rows"
                    raise InputError(f"process {rank} was given another {name} than process 0: {mend}")

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Raise BrokenGroup, one line, where another process does not answer."""
        try:
            yield
        except RuntimeError as error:
            minutes = TIMEOUT.total_seconds() / 60
            what = f"another of the {self.processes} processes has ended, or did not answer for {minutes:g} minutes"
            mend = "start all of them again; train goes on from its checkpoint by resume=True"
            raise BrokenGroup(f"process {self.rank}: {what} ({one_line(error)}): {mend}") from error


def processes() -> int:
    """How many processes there are that a fit of this one would be shared by; 1 where it is alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return launched()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks, or alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return launched_rank() == 0


def check_alone(what: str) -> None:
    """Raise InputError where several processes were started for what each of them would do from end to end."""
    number = processes()
    if number > 1:
        mend = "start it without torchrun; svi and train are what several share"
        raise InputError(f"{what} is done by one process, and these are {number}: {mend}")


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The processes that share what is done in here; a group of one where there are no others.

    device: of the tensors that are summed. Every process joins; a process group that was not there before is gone
    afterwards. Raises BrokenGroup where the others do not come.
    """
    number = processes()
    if number < SHARED_FROM:
        yield Group()
        return
    with Group(launched_rank(), number).unbroken():
        handle, ours = _handle(device)
    try:
        yield Group(torch.distributed.get_rank(handle), torch.distributed.get_world_size(handle), handle)
    finally:
        if ours:
            torch.distributed.destroy_process_group(handle)


def _handle(device: torch.device) -> tuple[Any, bool]:
    """A process group that can sum tensors on that device, and whether it was made here."""
    dist = torch.distributed
    if not dist.is_initialized():
        backend = "gloo" if device.type == "cpu" else f"cpu:gloo,{device.type}:nccl"
        store, rank, size = next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))
        apart = dist.PrefixStore(f"pyrometer/{next(_joined)}", store)
        dist.init_process_group(backend, store=apart, rank=rank, world_size=size, timeout=TIMEOUT)
        return dist.group.WORLD, True
    if device.type == "cpu" and "cpu" not in dist.get_backend_config():
        return dist.new_group(backend="gloo", timeout=TIMEOUT), True
    return dist.group.WORLD, False
