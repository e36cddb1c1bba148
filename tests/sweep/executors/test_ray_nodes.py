"""Ray nodes that come, go and hold several GPUs, as `ray.cluster_utils` has them on one machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.tasks.example import Task
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.plan import work_units

pytestmark = pytest.mark.slow


def telling(task: Task, notes: Path) -> Task:
    """The same data set by another name, which notes the environment of every worker that looks at its examples."""

    class Telling(Task):  # of no module, so that it travels to the workers by value
        def split(self, *arguments: Any) -> Any:
            seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "MARK")}
            (notes / str(os.getpid())).write_text(f"{seen['CUDA_VISIBLE_DEVICES']} {seen['MARK']}")
            return super().split(*arguments)

    return Telling("telling", task.examples)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without room for workers."""
    import laser_sweep.sweep.executors.ray  # noqa: F401, I001 - it sets what Ray reads when it is imported
    import ray
    from ray.cluster_utils import Cluster

    directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's socket names must be short
    monkeypatch.setenv("RAY_TMPDIR", directory)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def executor(cluster: Any, workload: Callable[..., object]) -> Iterator[Callable[..., Any]]:
    import ray

    from laser_sweep.sweep.executors.ray import RayExecutor

    made: list[RayExecutor] = []

    def make(job: Job, **settings: Any) -> RayExecutor:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        made.append(RayExecutor([workload(job)], ClusterSpec(**settings), CacheSpec(factors_gb=0)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def node_of(worker: str) -> str:
    """The raylet that has started a worker."""
    return Path(f"/proc/{worker.rpartition('-')[2]}/stat").read_text().rpartition(")")[2].split()[1]


def test_each_worker_sees_its_own_gpus_and_the_variables_that_the_cluster_settings_give_it(
    cluster: Any, executor: Callable[..., Any], demo_job: Callable[..., Job], tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=2, num_gpus=4)
    job = demo_job(tau=["fc_in", "fc_out"], layer=["each"], rho=[0.1, 0.2])
    job = replace(job, task=telling(job.task, tmp_path))
    runner = executor(job, gpus_per_worker=2, env={"MARK": "set by cluster.env"})
    for _ in range(20):  # one may be up so much earlier that it does all the work of a run
        assert {result.status for result in runner.run(work_units(job.trials("val")), lambda work: True)} == {"done"}
        notes = [note for note in tmp_path.iterdir() if note.name != str(os.getpid())]  # this process looks, too
        if len(notes) == 2:
            break
    devices, marks = zip(*(note.read_text().split(" ", 1) for note in notes), strict=True)
    assert sorted(device for pair in devices for device in pair.split(",")) == ["0", "1", "2", "3"]
    assert [len(pair.split(",")) for pair in devices] == [2, 2]
    assert set(marks) == {"set by cluster.env"}


def test_a_node_that_joins_in_mid_sweep_gets_a_worker(
    cluster: Any, executor: Callable[..., Any], demo_job: Callable[..., Job]
) -> None:
    cluster.add_node(num_cpus=1)
    rhos = [number / 20 for number in range(1, 13)]
    job = demo_job(tau=["each"], layer=["each"], rho=rhos, limit=None)
    runner = executor(job)
    workers: set[str] = set()
    for result in runner.run(work_units(job.trials("val")), lambda work: True):
        assert result.status == "done"
        if not workers:
            cluster.add_node(num_cpus=1)
        workers.add(result.worker)
        if len(workers) == 2:
            runner.drain()
    assert len({node_of(worker) for worker in workers}) == 2


def test_a_node_that_comes_in_the_place_of_a_lost_one_takes_over(
    cluster: Any, executor: Callable[..., Any], demo_job: Callable[..., Job]
) -> None:
    """The sweep waits without a worker until there is room again."""
    lost = cluster.add_node(num_cpus=1)
    job = demo_job(tau=["fc_in", "fc_out"], layer=["each"], rho=[0.1, 0.2])
    results = []
    for result in executor(job).run(work_units(job.trials("val")), lambda work: True):
        results.append(result)
        if len(results) == 1:
            cluster.remove_node(lost, allow_graceful=False)
            cluster.add_node(num_cpus=1)
    assert sorted(result.trial.key for result in results) == sorted(trial.key for trial in job.trials("val"))
    assert {result.status for result in results} == {"done"}
    assert len({result.worker for result in results}) == 2
    assert sum(result.attempt == 2 for result in results) == 1
