"""A Ray cluster that is there already: joining it, leaving it up, and losing one of its machines."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.errors import RequestError
from laser_sweep.sweep.executors.spec import ClusterSpec

DRIVER = """
import json, os, signal, sys

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.engine.worker import Workload
from laser_sweep.sweep.executors.ray import RayExecutor
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.jobs import EvaluationSpec, Question, build_jobs
from laser_sweep.sweep.plan import work_units
from laser_sweep.sweep.search.space import Axes, Intervention

question = Question(
    sweep="s", model=ModelSpec(name="demo", path="package://demo/assets"),
    dataset=DatasetSpec(name="demo", format="prompt_answer", path="package://demo/assets/examples.parquet"),
    intervention=Intervention(name="laser", method="laser"),
    axes=Axes(tau=("each",), layer=("each",), rho=(0.1, 0.2)),
    evaluation=EvaluationSpec(limit=50, test_limit=50), seed=0, config_json="{}",
)
[job] = build_jobs([question])
workload = Workload(checkpoint=job.checkpoint, task=job.task)
executor = RayExecutor([workload], ClusterSpec(address="auto", workers=2), CacheSpec())
second_node, lost, workers = int(sys.argv[1]), False, set()
for _ in range(100):
    retried = False
    for result in executor.run(work_units(job.trials("val")), lambda work: True):
        print(json.dumps([result.trial.key, result.status, result.worker, result.attempt]), flush=True)
        workers.add(result.worker)
        retried |= result.attempt > 1
        if len(workers) == 2 and not lost:
            os.killpg(second_node, signal.SIGKILL)
            lost = True
    print("end of run", flush=True)
    if retried:
        break
executor.close()
print("left", flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_node(arguments: Sequence[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """`ray start` of one CPU, in a process group of its own."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", "--num-gpus=0"]
    ports = [f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats"]
    with log.open("wb") as output:
        node = subprocess.Popen(
            [*command, *ports, *arguments], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + 60
    while b"Ray runtime started" not in log.read_bytes():
        assert node.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return node


@dataclass
class Cluster:
    """Two machines of one CPU each, as far as Ray knows."""

    port: int
    environment: dict[str, str]
    head: subprocess.Popen[bytes]
    second: subprocess.Popen[bytes]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Others may run Ray on this machine: `auto` finds ours by RAY_ADDRESS, and we stop nothing but our own."""
    sockets = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's socket names must be short
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": sockets, "RAY_AUTH_MODE": "disabled", "RAY_enable_worker_prestart": "0"}
    nodes = []
    try:
        head = ["--head", f"--port={port}", "--include-dashboard=false"]
        nodes.append(start_node(head, environment, tmp_path / "head.log"))
        nodes.append(start_node([f"--address=127.0.0.1:{port}"], environment, tmp_path / "second.log"))
        yield Cluster(port, {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}, *nodes)
    finally:
        for node in nodes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait()
        shutil.rmtree(sockets, ignore_errors=True)


@pytest.mark.slow
def test_a_sweep_on_a_joined_cluster_survives_the_loss_of_a_machine_and_leaves_the_rest_up(cluster: Cluster) -> None:
    """A new worker in the place of the lost one finds no room: the trial must not wait for it."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(cluster.second.pid)],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = driver.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        driver.kill()
        output, errors = driver.communicate()
        raise AssertionError(f"the sweep hangs\n{output}\n{errors}") from None
    assert driver.returncode == 0, errors
    assert output.splitlines()[-1] == "left"
    runs = [[json.loads(line) for line in run.splitlines()] for run in output.split("end of run\n")[:-1]]
    for run in runs:
        assert len({key for key, *_ in run}) == len(run) == 12 * 2
        assert {status for _, status, *_ in run} == {"done"}
    assert len({worker for run in runs for _, _, worker, _ in run}) == 2
    [(_, _, survivor, attempt)] = [result for result in runs[-1] if result[3] > 1]
    assert attempt == 2
    assert survivor == runs[-1][-1][2]
    assert cluster.head.poll() is None
    socket.create_connection(("127.0.0.1", cluster.port), timeout=5).close()


@pytest.mark.timeout(60)
def test_an_address_where_no_cluster_listens_is_refused_at_once() -> None:
    import ray

    from laser_sweep.sweep.executors.ray import RayExecutor

    assert not ray.is_initialized()
    address = f"127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(RequestError, match=rf"cluster\.address={address} cannot be joined: .*; give local, auto"):
        list(RayExecutor([], ClusterSpec(address=address), CacheSpec()).run([], lambda work: True))
    assert time.monotonic() - started < 20
