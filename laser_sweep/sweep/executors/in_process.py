"""Runs trials in this process: for a debugger, a notebook, one trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.sweep.protocols import WorkResult, WorkUnit


class InProcessExecutor:
    """One worker, no other process."""

    def __init__(self, workloads: Sequence[Workload], cache: CacheSpec) -> None:
        self._workloads = workloads
        self._cache = cache
        self._worker: Worker | None = None
        self._draining = False

    def run(self, units: Sequence[WorkUnit]) -> Iterator[WorkResult]:
        if self._worker is None:
            self._worker = Worker(self._workloads, cache=self._cache)
        for unit in units:
            for work in unit.trials:
                yield self._worker.carry_out(work)
                if self._draining:
                    return

    def drain(self) -> None:
        self._draining = True

    def close(self) -> None:
        self._worker = None
