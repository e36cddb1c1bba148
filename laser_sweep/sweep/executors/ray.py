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
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.errors import RequestError
from laser_sweep.probe import Probe, ProbeResult
from laser_sweep.sweep.executors.queue import TrialQueue
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.protocols import Work, WorkResult, WorkUnit
from laser_sweep.trial import TrialResult

_POLL_SECONDS = 0.5
_CONNECTION_SECONDS = 5.0
_ROUNDING = 1e-6  # five workers with 0.2 of a GPU each fill it, whatever 1 // 0.2 is in floats
ActorHandle: TypeAlias = Any


class _RayWorker:
    """The actor: a Worker that runs one trial a call, so that a crash loses one trial and a drain waits for one."""

    def __init__(self, workloads: Sequence[Workload], cache: CacheSpec, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._worker = Worker(workloads, cache=cache)

    def ready(self) -> None:
        """Returns when the worker is up."""

    def run(self, work: Work) -> WorkResult:
        return self._worker.carry_out(work)


class RayExecutor:
    """Workers on Ray.

    A call is bound to its actor in Ray, so retries are ours: when a worker dies, the trial that it was running goes to
    another worker, at most `max_attempts` times in all, and a new worker takes the dead one's place.
    """

    def __init__(self, workloads: Sequence[Workload], cluster: ClusterSpec, cache: CacheSpec) -> None:
        self._workloads = workloads
        self._cache = cache
        self._cluster = cluster
        self._queue = TrialQueue([])
        self._workers: list[ActorHandle] = []
        self._started_ray = False
        self._payload: Any = None  # a reference to the workloads in Ray's object store
        self._resources: dict[str, float] = {}
        self._draining = False

    def run(self, units: Sequence[WorkUnit]) -> Iterator[WorkResult]:
        self._start_workers(sum(len(unit.trials) for unit in units))
        self._queue = TrialQueue(units, workers=len(self._workers))
        calls = _Calls()
        for worker in self._workers:
            calls.add(worker, None)
        while calls.trials() or (len(self._queue) and not self._draining):
            # A short wait, so that a signal handler gets its turn.
            for worker, trial, reference in calls.ended(_POLL_SECONDS):
                try:
                    result = ray.get(reference)
                except RayTaskError as error:
                    if isinstance(error.cause, RequestError):
                        raise RequestError(str(error.cause)) from None
                    if trial is None:
                        raise
                    result = calls.failed(trial, _first_line(error.as_instanceof_cause()))
                except RayError as error:
                    failure = self._lose(worker, trial, calls, error)
                    if failure is not None:
                        yield failure
                    continue
                calls.idle.append(worker)
                self._feed(calls)  # before the result goes to be stored, so that nobody waits for that
                if trial is not None:
                    yield replace(result, attempt=calls.attempts[trial.key])
            self._feed(calls)

    def _feed(self, calls: _Calls) -> None:
        """Gives idle workers their next trials."""
        while calls.idle and not self._draining:
            trial = self._queue.next(calls.idle[-1])
            if trial is None:
                break
            calls.add(calls.idle.pop(), trial)

    def _lose(self, dead: ActorHandle, trial: Work | None, calls: _Calls, error: RayError) -> WorkResult | None:
        """Puts a worker in the place of a dead one, whose trials go to others; a result where its trial is given up.

        Nobody waits for the new worker: after the loss of a machine there may be no room for it.
        """
        reason = _first_line(error)
        failure = None
        if trial is None:
            if calls.failed_starts() > self._cluster.max_attempts:
                raise RequestError(f"workers cannot start: {reason}")
        elif calls.attempts[trial.key] >= self._cluster.max_attempts:
            failure = calls.failed(trial, f"the worker died {self._cluster.max_attempts} times: {reason}")
        self._queue.put_back(dead, None if failure or self._draining else trial)
        ray.kill(dead)  # where it was only out of reach, it gives its place back
        worker = self._new_worker()
        self._workers[self._workers.index(dead)] = worker
        calls.add(worker, None)
        return failure

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
        return actor.remote(self._payload, self._cache, self._cluster.cpus_per_worker)


class _Calls:
    """The calls under way: a trial, or None for the first call to a worker, which ends when it is up."""

    def __init__(self) -> None:
        self.attempts: dict[str, int] = {}
        self.idle: list[ActorHandle] = []
        self._running: dict[Any, tuple[ActorHandle, Work | None]] = {}
        self._failed_starts = 0

    def add(self, worker: ActorHandle, trial: Work | None) -> None:
        if trial is None:
            self._running[worker.ready.remote()] = (worker, None)
        else:
            self.attempts[trial.key] = self.attempts.get(trial.key, 0) + 1
            self._running[worker.run.remote(trial)] = (worker, trial)

    def ended(self, timeout: float) -> list[tuple[ActorHandle, Work | None, Any]]:
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout)
        return [(*self._running.pop(reference), reference) for reference in ready]

    def trials(self) -> int:
        """How many trials are being run."""
        return sum(trial is not None for _, trial in self._running.values())

    def failed_starts(self) -> int:
        """Counts one more worker that never came up."""
        self._failed_starts += 1
        return self._failed_starts

    def failed(self, work: Work, reason: str) -> WorkResult:
        now, attempt = time.time(), self.attempts[work.key]
        if isinstance(work, Probe):
            return ProbeResult(
                probe=work, status="failed", error=reason, attempt=attempt, started_at=now, finished_at=now
            )
        return TrialResult(trial=work, status="failed", error=reason, attempt=attempt, started_at=now, finished_at=now)


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
