"""The calls to workers that are under way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, TypeAlias

from laser_sweep.sweep.executors.attempts import Attempts
from laser_sweep.sweep.protocols import Work

ActorHandle: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Call:
    """A piece of work that a worker does, or None for its first call, which ends when it is up."""

    worker: ActorHandle
    work: Work | None
    reference: Any
    begun: float


class Calls:
    """What every worker is doing: a call each, but for those that are `idle`.

    `kept` is work for one worker alone, which it gets when it is up. `any_up` says whether any worker ever was.
    """

    def __init__(self, attempts: Attempts) -> None:
        self.attempts = attempts
        self.idle: list[ActorHandle] = []
        self.kept: dict[ActorHandle, Work] = {}
        self.any_up = False
        self._under_way: dict[Any, Call] = {}
        self._failed_starts = 0

    def start(self, worker: ActorHandle) -> None:
        """Waits for a new worker to be up."""
        self._add(worker, None, worker.ready.remote())

    def run(self, worker: ActorHandle, work: Work) -> None:
        self.attempts.begin(work)
        self._add(worker, work, worker.run.remote(work))

    def references(self) -> list[Any]:
        return list(self._under_way)

    def end(self, reference: Any) -> Call:
        return self._under_way.pop(reference)

    def overdue(self, seconds: float | None) -> list[Call]:
        """The work that has taken longer than `seconds`, which is waited for no more."""
        limit = float("-inf") if seconds is None else time.monotonic() - seconds
        late = [call for call in self._under_way.values() if call.work is not None and call.begun < limit]
        return [self._under_way.pop(call.reference) for call in late]

    def running(self) -> int:
        """How many pieces of work are under way."""
        return sum(call.work is not None for call in self._under_way.values())

    def started(self, worker: ActorHandle) -> None:
        """A worker is up, and without work."""
        self._failed_starts = 0
        self.any_up = True
        self.idle.append(worker)

    def failed_starts(self) -> int:
        """Counts one more worker that did not come up, since the last that did."""
        self._failed_starts += 1
        return self._failed_starts

    def _add(self, worker: ActorHandle, work: Work | None, reference: Any) -> None:
        self._under_way[reference] = Call(worker, work, reference, time.monotonic())
