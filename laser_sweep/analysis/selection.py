"""Which of several measured candidates is the best one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from laser_sweep.measures import Objective, by_score
from laser_sweep.trial import Trial, TrialResult


@dataclass(frozen=True, slots=True)
class Standing:
    """The same edits measured on one data set or several, a finished result for each."""

    results: tuple[TrialResult, ...]

    @property
    def trial(self) -> Trial:
        """The trial on the first data set."""
        return self.results[0].trial

    @property
    def score(self) -> float:
        """Accuracy or return, the mean over the data sets."""
        return fmean(result.measured().score for result in self.results)

    @property
    def loss(self) -> float:
        """Log-loss in nats or action error, the mean over the data sets; where it is not measured, minus the score."""
        losses = [result.measured().loss for result in self.results]
        known = [loss for loss in losses if loss is not None]
        return fmean(known) if len(known) == len(losses) else -self.score

    def value(self, objective: Objective) -> tuple[float, float]:
        """What the objective looks at first, and what it looks at between equals; each the larger the better."""
        first, second = self.score, -self.loss
        return (first, second) if by_score(objective) else (second, first)

    def figure(self, objective: Objective) -> float:
        """The figure that the objective looks at first."""
        return self.score if by_score(objective) else self.loss


def ranked(standings: Iterable[Standing], objective: Objective = "accuracy") -> list[Standing]:
    """Best first; of those that are alike in everything the untouched model first.

    The untouched model takes part like any other, so the best may be no edit at all.
    """

    def place(standing: Standing) -> tuple[float, float, bool, str]:
        first, second = standing.value(objective)
        return -first, -second, not standing.trial.untouched, standing.trial.key

    return sorted(standings, key=place)
