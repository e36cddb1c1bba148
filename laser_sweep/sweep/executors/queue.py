"""Which worker gets which trial next."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from laser_sweep.sweep.executors.stretches import cut
from laser_sweep.sweep.protocols import Work, WorkUnit


@dataclass(slots=True, eq=False)
class _Part:
    """What is left of a unit, or of a part of it."""

    trials: deque[Work]
    unit: WorkUnit

    @property
    def cost(self) -> float:
        return len(self.trials) * self.unit.trial_cost


class TrialQueue:
    """Hands out trials one at a time, so that each worker stays with its unit as long as it can.

    Where the number of `workers` is known the units are cut into as many stretches beforehand. A worker without work
    takes a stretch of the model and examples that it holds, the next layer above its last one, as its states advance to
    there; elsewhere the longest that waits. When none waits it takes over the last part of what another one has left,
    as far as it is done with that before the other with the rest: it must compute the states for itself.
    """

    def __init__(self, units: Sequence[WorkUnit], workers: int | None = None) -> None:
        edited = [unit for unit in units if not unit.urgent]
        self._waiting = [_parts(s) for s in (cut(units, workers) if workers else [(unit,) for unit in edited])]
        self._urgent = [_parts([unit]) for unit in units if unit.urgent]
        """Probes and untouched models, for which others wait, and what dead workers left."""
        self._assigned: dict[Hashable, deque[_Part]] = {}
        self._last: dict[Hashable, _Part] = {}
        """Where the last trial of each worker came from: the states that it holds."""

    def __len__(self) -> int:
        stretches = (*self._urgent, *self._waiting, *self._assigned.values())
        return sum(len(part.trials) for stretch in stretches for part in stretch)

    def next(self, worker: Hashable) -> Work | None:
        """The next trial for a worker, None when there is nothing that it should do."""
        stretch = self._assigned.get(worker) or self._take(worker)
        if not stretch:
            return None
        self._assigned[worker] = stretch
        part = self._last[worker] = stretch[0]
        trial = part.trials.popleft()
        if not part.trials:
            stretch.popleft()
        return trial

    def put_back(self, worker: Hashable, trial: Work | None) -> None:
        """A worker is gone: its work waits for another one, the trial that it was running first."""
        stretch = self._assigned.pop(worker, deque())
        last = self._last.pop(worker, None)
        if trial is not None and last is not None:
            if not stretch or stretch[0] is not last:
                stretch.appendleft(last)
            last.trials.appendleft(trial)
        if stretch:
            self._urgent.insert(0, stretch)

    def clear(self) -> None:
        self._waiting.clear()
        self._urgent.clear()
        self._assigned.clear()

    def _take(self, worker: Hashable) -> deque[_Part] | None:
        if self._urgent:
            return self._urgent.pop(0)
        if not self._waiting:
            return self._steal(worker)
        last = self._last.get(worker)
        near = [stretch for stretch in self._waiting if last is not None and stretch[0].unit.home == last.unit.home]
        above = [s for s in near if last is not None and s[0].unit.entry_cost >= last.unit.entry_cost]
        if above:
            chosen = min(above, key=lambda stretch: stretch[0].unit.entry_cost)
        else:
            chosen = max(near or self._waiting, key=lambda stretch: _cost(None, stretch))
        self._waiting.remove(chosen)
        return chosen

    def _steal(self, worker: Hashable) -> deque[_Part]:
        """The last trials of the worker that can spare most; empty where none can spare any."""
        counts = {victim: self._spare(worker, victim) for victim, stretch in self._assigned.items() if stretch}
        stolen: deque[_Part] = deque()
        if counts:
            victim = max(counts, key=lambda other: counts[other][1])
            left = self._assigned[victim]
            for _ in range(counts[victim][0]):
                if not stolen or stolen[0].unit is not left[-1].unit:
                    stolen.appendleft(_Part(deque(), left[-1].unit))
                stolen[0].trials.appendleft(left[-1].trials.pop())
                if not left[-1].trials:
                    left.pop()
        return stolen

    def _spare(self, worker: Hashable, victim: Hashable) -> tuple[int, float]:
        """How many of the last trials of another worker this one would be done with before it, and their work."""
        last, running = self._last.get(worker), self._last[victim].unit
        stretch = self._assigned[victim]
        rest = running.trial_cost + _cost(running, stretch)
        count, work, climb = 0, 0.0, 0.0
        for place in range(len(stretch) - 1, -1, -1):
            unit = stretch[place].unit
            climb += stretch[place + 1].unit.step(unit) if place + 1 < len(stretch) else 0.0
            way = unit.step(None if last is None else last.unit) + climb
            for _ in stretch[place].trials:
                if way + work + unit.trial_cost > rest - work - unit.trial_cost:
                    return count, work
                count += 1
                work += unit.trial_cost
        return count, work


def _parts(stretch: Iterable[WorkUnit]) -> deque[_Part]:
    return deque(_Part(deque(unit.trials), unit) for unit in stretch)


def _cost(at: WorkUnit | None, stretch: Iterable[_Part]) -> float:
    """What a worker takes for a stretch that comes from a unit."""
    total = 0.0
    for part in stretch:
        total += part.unit.step(at) + part.cost
        at = part.unit
    return total
