"""Cuts the work units of a sweep into one stretch for each worker, so that all workers end together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from laser_sweep.sweep.protocols import WorkUnit

Stretch: TypeAlias = tuple[WorkUnit, ...]
"""Units, or parts of them, that one worker does in this order, going up the layers."""

_Path: TypeAlias = list[tuple[int, int]]
"""A stretch as places of units, and how many trials of each."""

_PRECISION = 0.002  # of the time of the longest stretch
_FEWER = 4  # how many counts of a stretch's first unit are tried: the room left may suit those above better
_SKIPPED = 4  # and how many units above it are passed over
_ROUNDING = 1e-9


def cut(units: Sequence[WorkUnit], workers: int) -> list[Stretch]:
    """At most `workers` stretches that hold every trial of the edited models once, the longest first.

    The time of the longest is bisected. For each guess the stretches are filled one after the other from the lowest
    layers up: there trials are longest, and leave the least choice. Room is left for urgent units, which are handed out
    before everything else.
    """
    reserved = [0.0] * workers
    for number, unit in enumerate(unit for unit in units if unit.urgent):
        reserved[number % workers] += unit.cost
    edited = [unit for unit in units if not unit.urgent]
    cutter = _Cutter(edited)
    low = cutter.work / workers
    high = cutter.work + sum(unit.entry_cost for unit in edited) + sum(reserved)
    paths = cutter.fill(reserved, high)
    while paths and high - low > _PRECISION * high:
        middle = (low + high) / 2
        found = cutter.fill(reserved, middle)
        if found is None:
            low = middle
        else:
            paths, high = found, middle
    return cutter.deal(sorted(paths or [], key=cutter.cost, reverse=True))


class _Cutter:
    """Deals out the trials of units, which are known by their places in the order given."""

    def __init__(self, units: Sequence[WorkUnit]) -> None:
        self._units = units
        self._sizes = [len(unit.trials) for unit in units]
        self._trial_costs = [unit.trial_cost for unit in units]
        self._entry_costs = [unit.entry_cost for unit in units]
        homes = list(dict.fromkeys(unit.home for unit in units))
        self._homes = [homes.index(unit.home) for unit in units]
        self.work = sum(unit.cost for unit in units)

    def fill(self, reserved: Sequence[float], longest: float) -> list[_Path] | None:
        """A stretch for each worker, none taking more than `longest`; None where trials are left over."""
        left = list(self._sizes)
        paths = []
        for taken in reserved:
            path = max(self._paths(left, longest - taken), key=self._work, default=[])
            for place, count in path:
                left[place] -= count
            if path:
                paths.append(path)
        return None if any(left) else paths

    def cost(self, path: _Path) -> float:
        """What a worker without any states takes for a stretch."""
        places = [place for place, _ in path]
        return self._work(path) + sum(map(self._step, [None, *places], places))

    def deal(self, paths: Sequence[_Path]) -> list[Stretch]:
        """The stretches with their trials, taken from the units in order."""
        dealt = [0] * len(self._units)
        stretches = []
        for path in paths:
            parts = []
            for place, count in path:
                start, dealt[place] = dealt[place], dealt[place] + count
                parts.append(replace(self._units[place], trials=self._units[place].trials[start : dealt[place]]))
            stretches.append(tuple(parts))
        return stretches

    def _paths(self, left: Sequence[int], room: float) -> Iterator[_Path]:
        """Stretches that begin with the lowest unit that has trials left, and take no more than `room`."""
        waiting = [place for place, count in enumerate(left) if count]
        if not waiting:
            return
        first, above = waiting[0], waiting[1:]
        room -= self._entry_costs[first]
        most = self._fitting(first, left, room)
        for count in range(most, max(0, most - _FEWER), -1):
            rest = room - count * self._trial_costs[first]
            for skipped in range(min(_SKIPPED, len(above)) + 1):
                yield [(first, count), *self._upwards(first, above[skipped:], left, rest)]

    def _upwards(self, below: int, above: Sequence[int], left: Sequence[int], room: float) -> Iterator[tuple[int, int]]:
        """As many trials of each unit as there is room for."""
        for place in above:
            step = self._step(below, place)
            count = self._fitting(place, left, room - step)
            if count:
                room -= step + count * self._trial_costs[place]
                below = place
                yield place, count

    def _fitting(self, place: int, left: Sequence[int], room: float) -> int:
        cost = self._trial_costs[place]
        return max(0, min(left[place], int(room / cost + _ROUNDING))) if cost else left[place]

    def _step(self, below: int | None, place: int) -> float:
        """What it takes to come from one unit to another: states advance block by block, but only upwards."""
        height = 0.0 if below is None or self._homes[below] != self._homes[place] else self._entry_costs[below]
        return self._entry_costs[place] - (height if height <= self._entry_costs[place] else 0.0)

    def _work(self, path: _Path) -> float:
        return sum(count * self._trial_costs[place] for place, count in path)
