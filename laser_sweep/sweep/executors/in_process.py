"""Runs trials in this process: for a debugger, a notebook, one trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.worker import Worker, WorkerLost, Workload
from laser_sweep.sweep.executors.attempts import Attempts, Loss
from laser_sweep.sweep.protocols import Claim, Work, WorkResult, WorkUnit


class InProcessExecutor:
    """One worker, no other process. Where it must not go on, another one takes its place and loads the model anew."""

    def __init__(self, workloads: Sequence[Workload], cache: CacheSpec, max_attempts: int = 3) -> None:
        self._workloads = workloads
        self._cache = cache
        self._max_attempts = max_attempts
        self._worker: Worker | None = None
        self._draining = False

    def run(self, units: Sequence[WorkUnit], claim: Claim) -> Iterator[WorkResult]:
        attempts = Attempts(self._max_attempts)
        for unit in units:
            for work in unit.trials:
                if claim(work):
                    yield self._carry_out(work, attempts)
                if self._draining:
                    return

    def drain(self) -> None:
        self._draining = True

    def close(self) -> None:
        self._worker = None

    def _carry_out(self, work: Work, attempts: Attempts) -> WorkResult:
        while True:
            if self._worker is None:
                self._worker = Worker(self._workloads, cache=self._cache)
            attempts.begin(work)
            try:
                return replace(self._worker.carry_out(work), attempt=attempts.count(work))
            except WorkerLost as lost:
                loss = Loss(lost.reason, lost.out_of_memory)
            # After the `except` clause, whose traceback holds the tensors that have filled the memory.
            self._worker = None
            if loss.out_of_memory:
                self._workloads = [workload.halved() for workload in self._workloads]
            failure = attempts.give_up(work, loss)
            if failure is not None:
                return failure
