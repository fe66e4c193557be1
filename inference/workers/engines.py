"""What many calls are handed to: processes of this machine, a Dask cluster or Ray, as joblib's context says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...errors import InputError
from .processes import end_with, held, start_trackers
from .task import is_under_way, work

IDLE_SECONDS = 300.0  # after which processes without work end
QUEUED = 100  # calls that a cluster is given beyond those it can begin, from which it knows how far to grow
MEMORY = "memory is the usual cause: fewer jobs, or smaller ones"


class Engine(Protocol):
    """What takes calls. limit: how many at once. tries: of a call whose worker is lost, until it is given up."""

    limit: int
    tries: int

    def cores(self) -> int:
        """How many calls can be under way at once."""

    def submit(self, packet: bytes) -> Future[bytes]:
        """Have a packet worked at; a future of the packet that comes back."""

    def why_lost(self, error: BaseException) -> str:
        """What to say of an error that is the worker's and not the call's; empty where it is the call's."""

    def stop(self, running: Iterable[Future[bytes]]) -> None:
        """End what is under way."""


@dataclass
class Loky:
    """Processes of this machine. A process that is lost takes the others along: what they had is tried again."""

    limit: int
    tries: int = 3
    executor: Any = None

    def cores(self) -> int:
        """As many as were asked for."""
        return self.limit

    def submit(self, packet: bytes) -> Future[bytes]:
        """Have a packet worked at, in processes that begin where they are not there."""
        from joblib.externals.loky import get_reusable_executor

        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        how: dict[str, Any] = {"timeout": IDLE_SECONDS, "initializer": end_with, "initargs": (os.getpid(),)}
        start_trackers()
        with held():
            try:
                self.executor = get_reusable_executor(self.limit, env=one, **how)
                return self.executor.submit(work, packet)
            except BrokenExecutor as error:  # a moment ago
                future: Future[bytes] = Future()
                future.set_exception(error)
                return future

    def why_lost(self, error: BaseException) -> str:
        """A process that ended, by the system or by force."""
        return f"its process was ended {self.tries} times: {MEMORY}" if isinstance(error, BrokenExecutor) else ""

    def stop(self, running: Iterable[Future[bytes]]) -> None:
        """End the processes."""
        if self.executor is not None:
            self.executor.shutdown(wait=True, kill_workers=True)


@dataclass
class Dask:
    """A Dask cluster, which itself tries again elsewhere what a lost worker had."""

    client: Any
    limit: int
    tries: int = 1
    executor: Any = field(init=False)

    def __post_init__(self) -> None:
        if self.client.status != "running":
            raise InputError(f"the Dask client is {self.client.status}: connect one to a cluster that runs")
        self.executor = self.client.get_executor(pure=False)

    def cores(self) -> int:
        """Threads of all workers there are by now."""
        return sum(self.client.ncores().values())

    def submit(self, packet: bytes) -> Future[bytes]:
        """Have a packet worked at by any worker, now or as soon as there is one."""
        return self.executor.submit(work, packet)

    def why_lost(self, error: BaseException) -> str:
        """A task that too many workers were lost with, or a cluster that is gone."""
        if isinstance(error, CancelledError):
            return "the Dask cluster was closed before it was done"
        return f"Dask lost every worker that tried it: {MEMORY}" if type(error).__name__ == "KilledWorker" else ""

    def stop(self, running: Iterable[Future[bytes]]) -> None:
        """Cancel what has not begun; what has, Dask lets end."""
        if self.client.status == "running":
            self.executor.shutdown(wait=False)


@dataclass
class Ray:
    """A Ray cluster, which itself tries again elsewhere what a lost worker had. options: of its tasks."""

    limit: int
    options: dict[str, Any]
    tries: int = 1
    running: dict[Future[bytes], Any] = field(default_factory=dict)

    def cores(self) -> int:
        """CPUs of the cluster by now."""
        import ray

        return int(ray.cluster_resources().get("CPU", 1))

    def submit(self, packet: bytes) -> Future[bytes]:
        """Have a packet worked at by any worker, now or as soon as there is one."""
        import ray

        reference = ray.remote(work).options(**self.options).remote(packet)
        future: Future[bytes] = reference.future()
        self.running[future] = reference
        future.add_done_callback(lambda done: self.running.pop(done, None))
        return future

    def why_lost(self, error: BaseException) -> str:
        """A worker, or a node, that was lost too often."""
        from ray.exceptions import RayError, RayTaskError

        lost = isinstance(error, RayError) and not isinstance(error, RayTaskError)
        return f"Ray lost every worker that tried it ({type(error).__name__}): {MEMORY}" if lost else ""

    def stop(self, running: Iterable[Future[bytes]]) -> None:
        """End what is under way by force."""
        import ray

        for reference in [self.running[future] for future in running if future in self.running]:
            ray.cancel(reference, force=True)


def engine_for(jobs: int | None) -> Engine | None:
    """What many calls are handed to; None where they run here, one after another. See `check_jobs` for what jobs are.

    None for jobs is what `joblib.parallel_config` around the call says, all of a backend that is named without a
    number, and 1 without any; -1 is all of it too. Within a call of many, the answer is always None. Raises InputError.
    """
    if jobs == 1 or is_under_way() or (jobs is None and "joblib" not in sys.modules):
        return None
    from joblib.parallel import get_active_backend

    (backend, told), (again, _) = get_active_backend(), get_active_backend()
    named = backend is again  # what nobody has named is made anew each time
    jobs = (told or (-1 if named else 1)) if jobs is None else jobs
    if jobs == 1 or getattr(backend, "uses_threads", False):  # which Pyro's one state lets work in turns only
        return None
    kind = type(backend).__name__
    if kind not in ENGINES:
        raise InputError(f"joblib's backend {kind} is not one that work can be sent to: choose loky, dask or ray")
    return ENGINES[kind](backend, jobs)


def _loky(_: Any, jobs: int) -> Engine | None:
    from joblib import cpu_count

    number = jobs if jobs > 0 else max(cpu_count() + 1 + jobs, 1)
    return Loky(number) if number > 1 else None


def _dask(backend: Any, jobs: int) -> Engine:
    dask = Dask(backend.client, jobs)
    dask.limit = jobs if jobs > 0 else dask.cores() + QUEUED
    return dask


def _ray(backend: Any, jobs: int) -> Engine:
    import ray

    if not ray.is_initialized():
        raise InputError("no Ray cluster is connected: call ray.init(), with address='auto' for one that runs, before")
    found = Ray(jobs, backend.ray_remote_args or {})
    found.limit = jobs if jobs > 0 else found.cores() + QUEUED
    return found


ENGINES = {"LokyBackend": _loky, "MultiprocessingBackend": _loky, "DaskDistributedBackend": _dask, "RayBackend": _ray}
