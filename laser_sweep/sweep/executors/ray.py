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
from typing import Any

# Ray reads these when it is imported. Usage reports are the user's to allow; started by `uv run`, Ray would make every
# worker resolve the environment again.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayError, RayTaskError

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.worker import Worker, WorkerLost, Workload
from laser_sweep.errors import RequestError
from laser_sweep.sweep.executors.attempts import Attempts, Loss
from laser_sweep.sweep.executors.calls import ActorHandle, Call, Calls
from laser_sweep.sweep.executors.queue import TrialQueue
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.protocols import Claim, Work, WorkResult, WorkUnit

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.5
_NODES_SECONDS = 5.0  # how often is looked for nodes that have joined
_UP_SECONDS = 60.0  # after which it is said what may keep the first worker
_CONNECTION_SECONDS = 5.0
_ROUNDING = 1e-6  # five workers with 0.2 of a GPU each fill it, whatever 1 // 0.2 is in floats


class _RayWorker:
    """The actor: a Worker that runs one trial a call, so that a crash loses one trial and a drain waits for one."""

    def __init__(self, workloads: Sequence[Workload], cache: CacheSpec, threads: int, halved: bool) -> None:
        import torch

        torch.set_num_threads(threads)
        self._worker = Worker([load.halved() for load in workloads] if halved else workloads, cache=cache)

    def ready(self) -> None:
        """Returns when the worker is up."""

    def run(self, work: Work) -> WorkResult:
        return self._worker.carry_out(work)


class RayExecutor:
    """Workers on Ray.

    A call is bound to its actor in Ray, so retries are ours: when a worker is lost, the trial that it was running goes
    to another one, at most `max_attempts` times in all, and a new worker takes the lost one's place. One that runs out
    of memory is replaced by one with half the batch, which gets its trial. Where `workers` is auto, nodes that join
    get workers, too.
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
        self._warned = False

    def run(self, units: Sequence[WorkUnit], claim: Claim) -> Iterator[WorkResult]:
        num_trials = sum(len(unit.trials) for unit in units)
        self._start_workers(num_trials)
        self._queue = TrialQueue(units, workers=len(self._workers))
        calls = Calls(Attempts(self._cluster.max_attempts))
        for worker in self._workers:
            calls.start(worker)
        begun = looked = time.monotonic()
        while calls.running() or ((len(self._queue) or calls.kept) and not self._draining):
            # A short wait, so that a signal handler gets its turn.
            ready, _ = ray.wait(calls.references(), num_returns=1, timeout=_POLL_SECONDS)
            for call in map(calls.end, ready):
                result = self._result(call, calls)
                if isinstance(result, Loss):
                    failure = self._lose(call, calls, result)
                    if failure is not None:
                        yield failure
                    continue
                calls.started(call.worker)
                self._feed(calls, claim)  # before the result goes to be stored, so that nobody waits for that
                if result is not None:
                    yield result
            for call in calls.overdue(self._cluster.trial_timeout_s):
                reason = f"it took longer than cluster.trial_timeout_s={self._cluster.trial_timeout_s:g}"
                failure = self._lose(call, calls, Loss(reason))
                if failure is not None:
                    yield failure
            if time.monotonic() - looked > _NODES_SECONDS and not self._draining:
                looked = time.monotonic()
                for worker in self._start_workers(len(self._queue) + len(self._workers)):
                    calls.start(worker)
                if looked - begun > _UP_SECONDS and not calls.any_up and not self._warned:
                    self._warn_of_no_worker(looked - begun)
            self._feed(calls, claim)

    def _result(self, call: Call, calls: Calls) -> WorkResult | Loss | None:
        """What a call that has ended says; None where it only says that its worker is up."""
        try:
            result = ray.get(call.reference)
        except RayTaskError as error:
            if isinstance(error.cause, RequestError):
                raise RequestError(str(error.cause)) from None
            if isinstance(error.cause, WorkerLost):
                return Loss(error.cause.reason, error.cause.out_of_memory)
            if call.work is None:
                raise
            return calls.attempts.failed(call.work, _first_line(error.as_instanceof_cause()))
        except OutOfMemoryError as error:  # Ray has ended the worker before the host's memory was full
            return Loss(_first_line(error), out_of_memory=True)
        except RayError as error:
            return Loss(f"its worker died: {_detail(error)}")
        return None if call.work is None else replace(result, attempt=calls.attempts.count(call.work))

    def _feed(self, calls: Calls, claim: Claim) -> None:
        """Gives idle workers their next trials."""
        waiting = list(calls.idle)
        while waiting and not self._draining:
            worker = waiting.pop()
            work = calls.kept.pop(worker, None) or self._queue.next(worker)
            while work is not None and not claim(work):
                work = self._queue.next(worker)
            if work is not None:
                calls.idle.remove(worker)
                calls.run(worker, work)

    def _lose(self, call: Call, calls: Calls, loss: Loss) -> WorkResult | None:
        """Puts a worker in the place of a lost one, whose trials go to others; a result where its trial is given up.

        Nobody waits for the new worker: after the loss of a machine there may be no room for it.
        """
        failure, work = None, call.work
        if work is None:
            if calls.failed_starts() > self._cluster.max_attempts:
                raise RequestError(f"workers cannot start: {loss.reason}")
            work = calls.kept.pop(call.worker, None)
        else:
            failure = calls.attempts.give_up(work, loss)
        ray.kill(call.worker)  # where it was only out of reach, it gives its place back
        worker = self._new_worker(halved=loss.out_of_memory)
        again = None if failure or self._draining else work
        if loss.out_of_memory and again is not None:
            calls.kept[worker] = again
            again = None
        self._queue.put_back(call.worker, again)
        self._workers[self._workers.index(call.worker)] = worker
        calls.start(worker)
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

    def _start_workers(self, num_trials: int) -> list[ActorHandle]:
        """Starts as many workers as there is room and work for, and returns those that are new."""
        if self._payload is None:
            self._connect()
            self._resources = self._worker_resources()
            self._payload = ray.put(list(self._workloads))
        count = min(self._worker_count(), max(1, num_trials))
        new = [self._new_worker() for _ in range(count - len(self._workers))]
        self._workers += new
        return new

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
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= amount for name, amount in needed.items()) for node in nodes):
            raise RequestError(
                f"cluster.cpus_per_worker={self._cluster.cpus_per_worker} cluster.gpus_per_worker={gpus:g} "
                "fits no node; "
                f"the cluster has {available.get('CPU', 0):g} CPUs and {available.get('GPU', 0):g} GPUs in all"
            )
        return needed

    def _worker_count(self) -> int:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fits = sum(
            min(int(node.get(name, 0) / amount + _ROUNDING) for name, amount in self._resources.items() if amount)
            for node in nodes
        )
        if self._cluster.workers == "auto":
            return max(1, fits)
        if self._cluster.workers > fits and not self._workers:
            raise RequestError(f"cluster.workers={self._cluster.workers} do not fit: the cluster has room for {fits}")
        return self._cluster.workers

    def _warn_of_no_worker(self, seconds: float) -> None:
        """Ray does not say whether a worker waits for its place or takes long to load its model."""
        self._warned = True
        free, there = ray.available_resources(), ray.cluster_resources()
        settings = {"CPU": "cpus_per_worker", "GPU": "gpus_per_worker"}
        room = ", ".join(
            f"{free.get(kind, 0):g} of {there.get(kind, 0):g} {kind}s are free, cluster.{settings[kind]}={amount:g}"
            for kind, amount in self._resources.items()
            if amount
        )
        _log.warning("no worker is up after %.0f s: they load the model, or wait for room (%s)", seconds, room)

    def _new_worker(self, *, halved: bool = False) -> ActorHandle:
        actor = ray.remote(_RayWorker).options(
            num_cpus=self._resources["CPU"],
            num_gpus=self._resources["GPU"],
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"TOKENIZERS_PARALLELISM": "false", **self._cluster.env}},
        )
        return actor.remote(self._payload, self._cache, self._cluster.cpus_per_worker, halved)


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


def _detail(error: RayError) -> str:
    """Why a worker died, of the many lines in which Ray says so."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line.partition("Worker exit detail: ")[2] for line in lines if "Worker exit detail: " in line]
    return (told or lines[-1:] or [type(error).__name__])[0].partition(" There are some potential root causes")[0]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
