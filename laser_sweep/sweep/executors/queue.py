"""Which worker gets which trial next."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

from laser_sweep.sweep.protocols import WorkUnit
from laser_sweep.trial import Trial


class TrialQueue:
    """Hands out trials one at a time, so that each worker stays with its unit as long as it can.

    A worker without a unit takes the next one; when none is left it takes over the last half of the largest remaining
    unit, so that no worker finishes long after the others.
    """

    def __init__(self, units: Iterable[WorkUnit]) -> None:
        self._waiting: deque[deque[Trial]] = deque(deque(unit.trials) for unit in units)
        self._assigned: dict[Hashable, deque[Trial]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting)) + sum(map(len, self._assigned.values()))

    def next(self, worker: Hashable) -> Trial | None:
        """The next trial for a worker, None when there is nothing left."""
        mine = self._assigned.get(worker)
        if not mine:
            mine = self._assigned[worker] = self._waiting.popleft() if self._waiting else self._steal()
        return mine.popleft() if mine else None

    def put_back(self, worker: Hashable, trial: Trial | None) -> None:
        """A worker is gone: its unit waits for another one, the trial that it was running first."""
        rest = self._assigned.pop(worker, deque())
        if trial is not None:
            rest.appendleft(trial)
        if rest:
            self._waiting.appendleft(rest)

    def clear(self) -> None:
        self._waiting.clear()
        self._assigned.clear()

    def _steal(self) -> deque[Trial]:
        largest = max(self._assigned.values(), key=len, default=deque())
        stolen: deque[Trial] = deque()
        for _ in range((len(largest) + 1) // 2):
            stolen.appendleft(largest.pop())
        return stolen
