"""Which worker gets which trial next."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from laser_sweep.sweep.protocols import WorkUnit
from laser_sweep.trial import Trial


@dataclass(slots=True, eq=False)
class _Share:
    """What is left of a unit, or of a part of it."""

    trials: deque[Trial]
    trial_cost: float
    entry_cost: float

    @property
    def cost(self) -> float:
        return len(self.trials) * self.trial_cost

    @property
    def place(self) -> tuple[object, object]:
        """What a worker must hold to be at home: the model, and the states of the examples."""
        first = self.trials[0]
        return first.model, first.evaluation


class TrialQueue:
    """Hands out trials one at a time, so that each worker stays with its unit as long as it can.

    A worker without a unit takes one of the model and examples that it holds, the next layer above its last one, as its
    states advance to there; elsewhere the longest unit that waits, so that no worker finishes long after the others.
    When none waits it takes over the last part of a unit that another one works on, as far as both then finish sooner:
    it must compute the states for itself.
    """

    def __init__(self, units: Iterable[WorkUnit]) -> None:
        self._waiting = [_Share(deque(unit.trials), unit.trial_cost, unit.entry_cost) for unit in units]
        self._urgent: list[_Share] = []
        """Untouched models, on which all gains wait, and what dead workers left."""
        for share in [share for share in self._waiting if share.trials and share.trials[0].untouched]:
            self._waiting.remove(share)
            self._urgent.append(share)
        self._assigned: dict[Hashable, _Share] = {}
        self._at: dict[Hashable, tuple[tuple[object, object], float]] = {}
        """Model and examples of the last unit of each worker, and how far up its states are."""

    def __len__(self) -> int:
        return sum(len(share.trials) for share in (*self._urgent, *self._waiting, *self._assigned.values()))

    def next(self, worker: Hashable) -> Trial | None:
        """The next trial for a worker, None when there is nothing that it should do."""
        share = self._assigned.get(worker)
        if share is None or not share.trials:
            share = self._take(worker)
            if share is None:
                return None
            self._assigned[worker] = share
            self._at[worker] = share.place, share.entry_cost
        return share.trials.popleft()

    def put_back(self, worker: Hashable, trial: Trial | None) -> None:
        """A worker is gone: its unit waits for another one, the trial that it was running first."""
        self._at.pop(worker, None)
        share = self._assigned.pop(worker, None)
        if share is None:
            return
        if trial is not None:
            share.trials.appendleft(trial)
        if share.trials:
            self._urgent.insert(0, share)

    def clear(self) -> None:
        self._waiting.clear()
        self._urgent.clear()
        self._assigned.clear()

    def _take(self, worker: Hashable) -> _Share | None:
        if self._urgent:
            return self._urgent.pop(0)
        if not self._waiting:
            return self._steal()
        place, height = self._at.get(worker, (None, 0.0))
        above = [share for share in self._waiting if share.place == place and share.entry_cost >= height]
        if above:
            chosen = min(above, key=lambda share: share.entry_cost)
        else:
            chosen = max(self._waiting, key=lambda share: (share.place == place, share.cost))
        self._waiting.remove(chosen)
        return chosen

    def _steal(self) -> _Share | None:
        """The last trials of the unit where that saves most: with s of n, entry + s · cost = (n - s) · cost."""
        best: tuple[float, _Share, int] | None = None
        for share in self._assigned.values():
            count = math.ceil((len(share.trials) - share.entry_cost / share.trial_cost) / 2)
            saved = count * share.trial_cost
            if count > 0 and (best is None or saved > best[0]):
                best = saved, share, count
        if best is None:
            return None
        _, share, count = best
        stolen = _Share(deque(), share.trial_cost, share.entry_cost)
        for _ in range(count):
            stolen.trials.appendleft(share.trials.pop())
        return stolen
