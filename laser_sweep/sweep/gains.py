"""Counts gains over the untouched model as results come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from laser_sweep.analysis.statistics import paired_gain
from laser_sweep.sweep.protocols import Store
from laser_sweep.trial import Scores, Trial, TrialResult


class Gains:
    """Counts each result's gain over the untouched model; holds back results that come before the untouched model's."""

    def __init__(self, store: Store, wanted: Sequence[Trial], pending: Sequence[Trial]) -> None:
        self._store = store
        self._answers: dict[str, Scores | None] = {}
        self._waiting: dict[str, list[TrialResult]] = {}
        awaited = {trial.key for trial in pending if trial.untouched}
        for key in {_untouched_key(trial) for trial in wanted} - awaited:
            self._answers[key] = _scores(store, key)

    def add(self, result: TrialResult) -> list[TrialResult]:
        """The results whose gains are known now."""
        key = _untouched_key(result.trial)
        if result.trial.untouched:
            self._answers[key] = None if result.predictions is None else result.predictions.scores
            return [self._count(r) for r in (result, *self._waiting.pop(key, []))]
        if key not in self._answers:
            self._waiting.setdefault(key, []).append(result)
            return []
        return [self._count(result)]

    def learn(self, trial: Trial) -> list[TrialResult]:
        """The results whose gains are known now that a trial is stored, which another sweep has measured."""
        if not trial.untouched:
            return []
        self._answers[trial.key] = _scores(self._store, trial.key)
        return [self._count(result) for result in self._waiting.pop(trial.key, [])]

    def waiting(self) -> list[TrialResult]:
        """Results whose untouched model never came; their gains stay open until it does."""
        return [result for results in self._waiting.values() for result in results]

    def counted_late(self, result: TrialResult) -> TrialResult:
        """A stored result with its gain; without, where the answers of either are not stored."""
        return self._counted(result, _scores(self._store, result.trial.key))

    def _counted(self, result: TrialResult, scores: Scores | None) -> TrialResult:
        untouched = self._answers.get(_untouched_key(result.trial))
        if scores is None or untouched is None:
            return result
        paired = paired_gain(scores, untouched)
        return replace(result, gain=paired.gain, gain_p_value=paired.p_value)

    def _count(self, result: TrialResult) -> TrialResult:
        return self._counted(result, None if result.predictions is None else result.predictions.scores)


def _untouched_key(trial: Trial) -> str:
    """The key of the untouched model on the examples of a trial; the names in it do not count."""
    return replace(trial, edits=()).key


def _scores(store: Store, key: str) -> Scores | None:
    found = store.scores(key)
    return None if found is None else found.scores
