"""What a sweep needs from the parts that carry it out; `laser_sweep.cli` chooses them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from laser_sweep.trial import Evaluation, ModelId, Trial, TrialResult


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Trials that a worker does best one after the other: one model, one data set, one layer.

    `trial_cost` is what each of them takes, `entry_cost` what a worker pays first that holds no states for the layer,
    both in tokens times blocks.
    """

    trials: tuple[Trial, ...]
    trial_cost: float = 1.0
    entry_cost: float = 0.0

    @property
    def home(self) -> tuple[ModelId, Evaluation]:
        """What a worker must hold to be at home: the model, and the states of the examples."""
        return self.trials[0].model, self.trials[0].evaluation

    @property
    def untouched(self) -> bool:
        return self.trials[0].untouched

    @property
    def cost(self) -> float:
        """What all trials take, once a worker is there."""
        return len(self.trials) * self.trial_cost

    def step(self, below: WorkUnit | None) -> float:
        """What it costs a worker to come here from another unit: states advance block by block, but only upwards."""
        if below is None or below.home != self.home or below.entry_cost > self.entry_cost:
            return self.entry_cost
        return self.entry_cost - below.entry_cost


class Executor(Protocol):
    """Runs trials on devices."""

    def run(self, units: Sequence[WorkUnit]) -> Iterator[TrialResult]:
        """Yields the result of every trial as it is measured. May be called again; workers stay up in between."""

    def drain(self) -> None:
        """Starts no further trial: `run` ends when those under way have ended. Called from a signal handler."""

    def close(self) -> None:
        """Lets the workers go."""


class Store(Protocol):
    """Keeps results."""

    def find(self, trials: Iterable[Trial]) -> dict[str, TrialResult]:
        """The stored results of these trials by key."""

    def correct(self, key: str) -> npt.NDArray[np.bool_] | None:
        """Which examples a stored trial got right."""

    def write(self, result: TrialResult, sweep: str, config_json: str) -> None:
        """Stores a result durably."""


class Tracker(Protocol):
    """Is told of results after they are stored; what it raises is reported once and changes nothing."""

    def start(self, sweep: str, config_json: str) -> None:
        """Called once, before the first result."""

    def trial(self, result: TrialResult) -> None:
        """Called for every new result."""

    def finish(self) -> str | None:
        """Called once, after the last result; says where a person finds them, if there is such a place."""


class Progress(Protocol):
    """Shows a person how far the sweep is."""

    def start(self, total: int, reused: int) -> None:
        """`total` trials are to be run, `reused` were found in the store."""

    def result(self, result: TrialResult) -> None:
        """A trial has ended."""

    def note(self, message: str) -> None:
        """Something a person should know at once."""

    def stop(self) -> None:
        """Nothing more will come."""
