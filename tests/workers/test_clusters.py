"""Dask and Ray with two workers each: the same numbers as in one process, whichever worker is lost on the way."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pyrometer
import pytest
from joblib.externals.loky import get_reusable_executor
from joblib.parallel import BACKENDS
from many_fits import WORK, alone, frail, runs, some_slow, table
from pandas.testing import assert_frame_equal
from pyrometer.inference.runtime.progress import watched
from pyrometer.inference.workers.many import WorkerLost, cores_for, in_workers
from pyrometer.models import GMM
from test_documents import CLUSTERS, SMOKE, small
from waiting import children, listening, until

END_SECONDS = 120.0  # of what a cluster leaves, on a machine at work
TRIALS = 3  # to start Ray
Cluster = Callable[[], AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Cluster]:
    """A Dask cluster of two processes, each of one thread, on this machine alone."""
    distributed = pytest.importorskip("distributed")
    import dask

    few = {"distributed.scheduler.allowed-failures": 1, "distributed.worker.daemon": True}
    how = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
    before = there_now()
    with (
        dask.config.set(few),
        tempfile.TemporaryDirectory() as folder,
        distributed.LocalCluster(**how, local_directory=folder) as cluster,
        distributed.Client(cluster),
    ):
        yield partial(joblib.parallel_config, "dask")
    left_nothing(before)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Cluster]:
    """Ray with two CPUs, without its dashboard."""
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    before, environment = there_now(), dict(os.environ)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # its sockets have at most 107 characters
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    for trial in range(TRIALS):
        try:
            ray.init(num_cpus=2, object_store_memory=100 * 2**20, _temp_dir=folder, **quiet)
            break
        except Exception as error:  # it waits half a minute for its parts; or no sockets or shared memory in a sandbox
            ray.shutdown()
            if trial == TRIALS - 1:
                shutil.rmtree(folder, ignore_errors=True)
                pytest.skip(f"Ray does not start here: {str(error).splitlines()[0]}")
    register_ray()
    try:
        yield partial(joblib.parallel_config, "ray", ray_remote_args={"max_retries": 1})
    finally:
        ray.shutdown()
        BACKENDS.pop("ray")
        os.environ.clear()
        os.environ.update(environment)
        left_nothing(before)
        shutil.rmtree(folder)


def there_now() -> tuple[set[int], set[str]]:
    """The processes that came from this one, idle ones of this machine's own ended, and the ports that it has open."""
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    return children(os.getpid()), listening(os.getpid())


def left_nothing(before: tuple[set[int], set[str]]) -> None:
    """No process is left of a cluster, and no port open that it had."""
    processes, ports = before
    there_now()
    assert until(lambda: children(os.getpid()) <= processes, END_SECONDS), children(os.getpid()) - processes
    assert listening(os.getpid()) <= ports


@pytest.fixture(params=["dask", "ray"], scope="module")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Either."""
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return found


@pytest.mark.parametrize("name", some_slow("choose", "calibrate"))
def test_a_cluster_gives_what_one_process_gives_and_its_progress_arrives(name: str, cluster: Cluster) -> None:
    seen = list[int]()
    with cluster(), watched(lambda what, number, total: seen.append(number)):
        assert cores_for(None) == 2
        assert_frame_equal(WORK[name](None, progress=True), alone(name), check_exact=True)
    assert len(set(seen)) >= 3
    assert seen == sorted(seen)


def test_a_worker_that_is_killed_in_the_middle_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    with cluster():
        found = dict(
            in_workers(frail(tmp_path, lambda number, run: number == 2 and run == 1), [(n,) for n in range(6)], None)
        )
    assert found == {number: number * number for number in range(6)}
    assert runs(tmp_path)[2] == 2


def test_a_call_that_kills_every_worker_costs_itself_alone(cluster: Cluster, tmp_path: Path) -> None:
    with cluster():
        square = frail(tmp_path, lambda number, run: number == 0)
        found = dict(in_workers(square, [(number,) for number in range(3)], None))
    lost = found.pop(0)
    assert found == {1: 1, 2: 4}
    assert isinstance(lost, WorkerLost)
    assert str(lost).endswith(": memory is the usual cause: fewer jobs, or smaller ones")


def test_one_is_here_whatever_the_cluster(cluster: Cluster) -> None:
    with cluster():
        assert cores_for(1) == 0
        assert dict(in_workers(os.getpid, [()], 1)) == {0: os.getpid()}
        with joblib.parallel_config(n_jobs=1):
            assert cores_for(None) == 0


def test_what_a_worker_raises_and_says_arrives(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        print("before")
        raise pyrometer.InputError("x has no rows")

    with cluster(), pytest.raises(pyrometer.InputError, match=r"^x has no rows$"):
        list(in_workers(fails, [()], None))
    assert capfd.readouterr().out == "before\n"


def test_a_dask_cluster_in_threads_of_this_process_is_safe(dask_cluster: Cluster, tmp_path: Path) -> None:
    import distributed

    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5000, 2)))
    blocks = partial(np.load, tmp_path / "x.npy", mmap_mode="r")
    classic = partial(pyrometer.em, GMM(2), max_steps=3, starts=1, progress=False)

    how: Any = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(**how) as threads,
        distributed.Client(threads, set_as_default=False) as client,
        joblib.parallel_config("dask", client=client),
    ):
        assert_frame_equal(WORK["svi"](None), alone("svi"), check_exact=True)
        assert (classic(blocks()).losses == classic(blocks(), jobs=1).losses).all()  # it waits for what needs its lock


def test_a_cluster_that_is_gone_is_one_line(dask_cluster: Cluster) -> None:
    import distributed

    how: Any = {"n_workers": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**how) as threads:
        client = distributed.Client(threads, set_as_default=False)
        context = joblib.parallel_config("dask", client=client)
        client.close()
    try:
        with pytest.raises(pyrometer.InputError, match=r"^the Dask client is closed: connect"):
            table(None)
    finally:
        context.unregister()


def test_a_cluster_that_closes_in_the_middle_is_one_line(dask_cluster: Cluster) -> None:
    import distributed

    how: Any = {"n_workers": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(**how) as threads,
        distributed.Client(threads, set_as_default=False) as client,
        joblib.parallel_config("dask", client=client),
    ):
        results = in_workers(time.sleep, [(0.0,), (0.5,), (0.5,), (0.5,)], None)
        next(results)
        client.close()
        found = [result for _, result in results]
    assert {str(lost) for lost in found if lost} == {"the Dask cluster was closed before it was done"}


def test_ray_that_is_not_connected_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    import ray
    from ray.util.joblib import register_ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    before = BACKENDS.get("ray")
    register_ray()
    try:
        with (
            joblib.parallel_config("ray"),
            pytest.raises(pyrometer.InputError, match=r"^no Ray cluster is connected"),
        ):
            table(None)
    finally:
        BACKENDS.pop("ray")
        BACKENDS.update({} if before is None else {"ray": before})


class SLURMCluster:
    """Takes what dask-jobqueue 0.9's takes, by name, and is a cluster that is there."""

    OPTIONS = {  # of SLURMCluster: of its jobs (SLURMJob, Job), and of the cluster (JobQueueCluster)
        *("queue", "project", "account", "walltime", "job_cpu", "job_mem", "cores", "memory", "processes", "nanny"),
        *("interface", "death_timeout", "local_directory", "worker_extra_args", "job_extra_directives", "python"),
        *("job_script_prologue", "job_directives_skip", "log_directory", "shebang", "job_name", "config_name"),
        *("n_workers", "silence_logs", "asynchronous", "security", "scheduler_options", "scheduler_cls", "loop"),
        *("shared_temp_directory", "dashboard_address", "host", "protocol", "name"),
    }

    def __init__(self, **options: Any) -> None:
        assert options.keys() <= self.OPTIONS
        assert options["processes"] == options["cores"]  # one thread each
        assert re.fullmatch(r"\d+:\d\d:\d\d", options["walltime"])
        dask_utils = pytest.importorskip("dask.utils")
        assert dask_utils.parse_bytes(options["memory"]) > 2**30

    def scale(self, n: int | None = None, jobs: int = 0, memory: str | None = None, cores: int | None = None) -> None:
        """As many jobs, each with its workers."""
        assert jobs > 0


def address_of(client: Any) -> str:
    """Of the scheduler of a cluster that is there."""
    return str(client.scheduler.address)


def run_page(code: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that an example of the page ends with; its fits are short."""
    monkeypatch.setattr(pyrometer, "compare", small(pyrometer.compare, **SMOKE, reference="cavi", compile=False))
    few = small(pyrometer.choose_components, components=range(1, 3), starts=1, draws=60, folds=2, progress=False)
    monkeypatch.setattr(pyrometer, "choose_components", few)
    found: dict[str, Any] = {}
    exec(compile(code, "many_fits.md", "exec"), found)
    return found


def test_the_page_has_an_example_of_each() -> None:
    heads = ["jobs=2", "LocalCluster(", "SLURMCluster(", "ray.init("]
    assert [head in code for head, code in zip(heads, CLUSTERS, strict=True)] == [True] * 4


def test_the_page_s_jobs_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(run_page(CLUSTERS[0], monkeypatch)["comparison"]) == ["cavi", "mean_field", "auto_mvn"]


def test_the_page_s_dask_runs(dask_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    address, whole = address_of(distributed.get_client()), distributed.LocalCluster

    @contextmanager
    def local_cluster(**options: Any) -> Iterator[str]:
        assert options == {"n_workers": 2, "threads_per_worker": 1}
        assert options.keys() <= inspect.signature(whole).parameters.keys()
        yield address

    monkeypatch.setattr(distributed, "LocalCluster", local_cluster)
    assert list(run_page(CLUSTERS[1], monkeypatch)["comparison"]) == ["cavi", "mean_field", "auto_mvn"]


def test_the_page_s_slurm_runs(dask_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    stands_in = ModuleType("dask_jobqueue")
    stands_in.SLURMCluster = SLURMCluster  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_jobqueue", stands_in)
    address, client = address_of(distributed.get_client()), distributed.Client

    def connected(cluster: Any) -> Any:
        assert isinstance(cluster, SLURMCluster)
        return client(address)

    monkeypatch.setattr(distributed, "Client", connected)
    assert list(run_page(CLUSTERS[2], monkeypatch)["selection"].table.index) == [1, 2]


@pytest.mark.slow
def test_the_page_s_ray_runs(ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "init", lambda: None)  # it is
    assert list(run_page(CLUSTERS[3], monkeypatch)["comparison"]) == ["cavi", "mean_field", "auto_mvn"]
