"""Runs trials on Ray: long-lived workers, each with one model, fed one trial at a time."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

# Ray reads these when it is imported. Usage reports are the user's to allow; started by `uv run`, Ray would make every
# worker resolve the environment again.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.errors import RequestError
from laser_sweep.sweep.executors.queue import TrialQueue
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.protocols import WorkUnit
from laser_sweep.trial import Trial, TrialResult

_POLL_SECONDS = 0.5
_CONNECTION_SECONDS = 5.0
_ROUNDING = 1e-6  # five workers with 0.2 of a GPU each fill it, whatever 1 // 0.2 is in floats
ActorHandle: TypeAlias = Any


class _RayWorker:
    """The actor: a Worker that runs one trial a call, so that a crash loses one trial and a drain waits for one."""

    def __init__(self, workloads: Sequence[Workload], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._worker = Worker(workloads)

    def run(self, trial: Trial) -> TrialResult:
        return next(self._worker.run([trial]))


class RayExecutor:
    """Workers on Ray.

    A call is bound to its actor in Ray, so retries are ours: when a worker dies, the trial that it was running goes to
    another worker, at most `max_attempts` times in all, and a new worker takes the dead one's place.
    """

    def __init__(self, workloads: Sequence[Workload], cluster: ClusterSpec) -> None:
        self._workloads = workloads
        self._cluster = cluster
        self._queue = TrialQueue([])
        self._workers: list[ActorHandle] = []
        self._started_ray = False
        self._payload: Any = None  # a reference to the workloads in Ray's object store
        self._resources: dict[str, float] = {}
        self._draining = False

    def run(self, units: Sequence[WorkUnit]) -> Iterator[TrialResult]:
        self._queue = TrialQueue(units)
        self._start_workers(len(self._queue))
        attempts: dict[str, int] = {}
        running: dict[Any, tuple[ActorHandle, Trial]] = {}
        for worker in self._workers:
            self._dispatch(worker, running, attempts)
        while running:
            # A short wait, so that a signal handler gets its turn.
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                worker, trial = running.pop(reference)
                try:
                    result: TrialResult = ray.get(reference)
                except RayActorError as error:
                    worker = self._replace(worker)
                    if attempts[trial.key] < self._cluster.max_attempts:
                        self._queue.put_back(worker, trial)
                        reason = None
                    else:
                        reason = f"the worker died {attempts[trial.key]} times: {_first_line(error)}"
                except RayTaskError as error:
                    cause = error.as_instanceof_cause()
                    if isinstance(error.cause, RequestError):
                        raise RequestError(str(error.cause)) from None
                    reason = _first_line(cause)
                else:
                    yield replace(result, attempt=attempts[trial.key])
                    reason = None
                if reason is not None:
                    now = time.time()
                    yield TrialResult(
                        trial=trial,
                        status="failed",
                        error=reason,
                        attempt=attempts[trial.key],
                        started_at=now,
                        finished_at=now,
                    )
                self._dispatch(worker, running, attempts)

    def drain(self) -> None:
        self._draining = True
        self._queue.clear()

    def close(self) -> None:
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []
        if self._started_ray:
            ray.shutdown()
            self._started_ray = False

    def _dispatch(
        self, worker: ActorHandle, running: dict[Any, tuple[ActorHandle, Trial]], attempts: dict[str, int]
    ) -> None:
        trial = None if self._draining else self._queue.next(worker)
        if trial is not None:
            attempts[trial.key] = attempts.get(trial.key, 0) + 1
            running[worker.run.remote(trial)] = (worker, trial)

    def _start_workers(self, num_trials: int) -> None:
        if self._payload is None:
            self._connect()
            self._resources = self._worker_resources()
            self._payload = ray.put(list(self._workloads))
        count = min(self._worker_count(), max(1, num_trials))
        while len(self._workers) < count:
            self._workers.append(self._new_worker())

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        try:
            _check_listening(self._cluster.address)
            with _keeping_sigterm_handler():
                ray.init(
                    address=self._cluster.address,
                    include_dashboard=False if self._cluster.address == "local" else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except (OSError, ValueError, RuntimeError, GetTimeoutError) as error:
            raise RequestError(
                f"cluster.address={self._cluster.address} cannot be joined: {_first_line(error)}; "
                "give local, auto (a cluster started here with `ray start`), or host:port"
            ) from None
        self._started_ray = True

    def _worker_resources(self) -> dict[str, float]:
        gpus = self._cluster.gpus_per_worker
        available = ray.cluster_resources()
        if gpus == "auto":
            gpus = 1 if available.get("GPU", 0) >= 1 else 0
        needed = {"CPU": float(self._cluster.cpus_per_worker), "GPU": float(gpus)}
        if not any(
            all(node["Resources"].get(name, 0) >= amount for name, amount in needed.items()) for node in ray.nodes()
        ):
            raise RequestError(
                f"cluster.cpus_per_worker={self._cluster.cpus_per_worker} cluster.gpus_per_worker={gpus:g} "
                "fits no node; "
                f"the cluster has {available.get('CPU', 0):g} CPUs and {available.get('GPU', 0):g} GPUs in all"
            )
        return needed

    def _worker_count(self) -> int:
        available = ray.cluster_resources()
        fits = min(
            int(available.get(name, 0) / amount + _ROUNDING) for name, amount in self._resources.items() if amount
        )
        if self._cluster.workers == "auto":
            return max(1, fits)
        if self._cluster.workers > fits:
            raise RequestError(f"cluster.workers={self._cluster.workers} do not fit: the cluster has room for {fits}")
        return self._cluster.workers

    def _new_worker(self) -> ActorHandle:
        actor = ray.remote(_RayWorker).options(
            num_cpus=self._resources["CPU"],
            num_gpus=self._resources["GPU"],
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"TOKENIZERS_PARALLELISM": "false", **self._cluster.env}},
        )
        return actor.remote(self._payload, self._cluster.cpus_per_worker)

    def _replace(self, dead: ActorHandle) -> ActorHandle:
        """Starts a worker in the place of a dead one, whose remaining trials go back to the queue."""
        self._queue.put_back(dead, None)
        worker = self._new_worker()
        self._workers[self._workers.index(dead)] = worker
        return worker


def _check_listening(address: str) -> None:
    """Raises OSError where nothing listens at host:port, which Ray would go on calling for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_CONNECTION_SECONDS).close()


@contextmanager
def _keeping_sigterm_handler() -> Iterator[None]:
    """`ray.init` installs a handler that exits at once; a sweep's own lets the running trials end."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
