"""Which of several measured candidates is the best one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

from laser_sweep.trial import Trial, TrialResult

Objective: TypeAlias = Literal["accuracy", "log_loss", "mean_accuracy", "mean_log_loss"]
"""What decides: accuracy, as published, or log-loss; the other decides between equals. `mean_…` is over several data
sets, which then have one winner."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The same edits measured on one data set or several, a finished result for each."""

    results: tuple[TrialResult, ...]

    @property
    def trial(self) -> Trial:
        """The trial on the first data set."""
        return self.results[0].trial

    @property
    def accuracy(self) -> float:
        """The mean over the data sets."""
        return fmean(result.measured().accuracy for result in self.results)

    @property
    def log_loss(self) -> float:
        """The mean over the data sets, in nats."""
        return fmean(result.measured().log_loss for result in self.results)

    def value(self, objective: Objective) -> tuple[float, float]:
        """What the objective looks at first, and what it looks at between equals; each the larger the better."""
        first, second = self.accuracy, -self.log_loss
        return (first, second) if objective.endswith("accuracy") else (second, first)


def ranked(standings: Iterable[Standing], objective: Objective = "accuracy") -> list[Standing]:
    """Best first; of those that are alike in everything the untouched model first.

    The untouched model takes part like any other, so the best may be no edit at all.
    """

    def place(standing: Standing) -> tuple[float, float, bool, str]:
        first, second = standing.value(objective)
        return -first, -second, not standing.trial.untouched, standing.trial.key

    return sorted(standings, key=place)
