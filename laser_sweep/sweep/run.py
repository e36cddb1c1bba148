"""Runs a sweep: what is not stored goes to the executor, what comes back to the store, the tracker and the progress."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

import numpy as np
import numpy.typing as npt

from laser_sweep.analysis.selection import ranked
from laser_sweep.analysis.statistics import PairedGain, paired_gain
from laser_sweep.sweep.jobs import Job, Question
from laser_sweep.sweep.plan import Comparison, Resume, compare, search_trials, subtract_stored, work_units
from laser_sweep.sweep.protocols import Executor, Progress, Store, Tracker
from laser_sweep.trial import Trial, TrialResult


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The winner of a comparison, measured on test beside the untouched model; `gain` pairs the two."""

    winner: TrialResult
    untouched: TrialResult
    gain: PairedGain | None


@dataclass(slots=True)
class Outcome:
    """What came of a sweep. `results` holds every wanted trial that has a result, stored before or now, by key."""

    comparisons: list[Comparison]
    results: dict[str, TrialResult] = field(default_factory=dict)
    confirmed: dict[int, Confirmed] = field(default_factory=dict)
    """By the place of the comparison."""
    reused: int = 0
    ran: int = 0
    model_loads: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    tracked: str | None = None
    """Where the tracker put the results, in words."""

    @property
    def failed(self) -> list[TrialResult]:
        return [result for result in self.results.values() if not result.ok]

    def ranked(self, comparison: Comparison) -> list[TrialResult]:
        """The finished trials of a comparison on val, best first, the untouched model among them."""
        return ranked(self.results[t.key] for t in comparison.wanted("val") if t.key in self.results)

    def question(self, trial: Trial) -> Question:
        """The question that asked for a trial."""
        for comparison in self.comparisons:
            job = comparison.job
            if job.checkpoint.identity == trial.model and job.evaluation(trial.evaluation.split) == trial.evaluation:
                return comparison.questions.get(trial.edits, job.question)
        raise KeyError(trial.key)

    def objective(self, job: Job) -> float | None:
        """The best val accuracy among the trials of one job, None where none has finished."""
        trials = job.trials("val") or [job.untouched("val")]
        best = ranked(self.results[trial.key] for trial in trials if trial.key in self.results)
        return best[0].measured().accuracy if best else None


class Sweep:
    """Carries out jobs with the parts it is given."""

    def __init__(
        self, *, executor: Executor, store: Store, tracker: Tracker, progress: Progress, resume: Resume
    ) -> None:
        self._executor = executor
        self._store = store
        self._tracker = tracker
        self._progress = progress
        self._resume: Resume = resume
        self._tracking = False

    def run(self, jobs: Sequence[Job]) -> Outcome:
        """Measures every trial on val, then the untouched model and the winner on test.

        A result is stored before anything else hears of it. The first SIGINT or SIGTERM lets the running trials end and
        stores them, the second raises KeyboardInterrupt.
        """
        started = time.monotonic()
        outcome = Outcome(compare(jobs))
        with self._interruptible(outcome):
            try:
                self._measure(search_trials(outcome.comparisons), outcome)
                if not outcome.interrupted:
                    self._confirm(outcome)
            finally:
                self._progress.stop()
                self._executor.close()
                if self._tracking:
                    outcome.tracked = self._tracker.finish()
        outcome.seconds = time.monotonic() - started
        return outcome

    def _confirm(self, outcome: Outcome) -> None:
        """Measures the untouched model and the winner of each comparison on test."""
        winners = {}
        for place, comparison in enumerate(outcome.comparisons):
            best = outcome.ranked(comparison)
            if best and comparison.job.question.evaluation.confirm:
                winners[place] = comparison.on(best[0].trial, "test")
        pairs = {place: (winner, outcome.comparisons[place].untouched("test")) for place, winner in winners.items()}
        self._measure([trial for pair in pairs.values() for trial in reversed(pair)], outcome)
        for place, pair in pairs.items():
            winner, untouched = (outcome.results.get(trial.key) for trial in pair)
            if winner is not None and untouched is not None and winner.ok and untouched.ok:
                outcome.confirmed[place] = Confirmed(winner, untouched, self._paired(winner, untouched))

    def _paired(self, edited: TrialResult, untouched: TrialResult) -> PairedGain | None:
        """None where the store has lost the predictions of one of them."""
        answers = [self._store.correct(result.trial.key) for result in (edited, untouched)]
        return None if answers[0] is None or answers[1] is None else paired_gain(answers[0], answers[1])

    def _measure(self, wanted: Sequence[Trial], outcome: Outcome) -> None:
        """Runs what is not stored yet. `results` of the outcome holds all of it afterwards, unless interrupted."""
        plan = subtract_stored(
            [trial for trial in wanted if trial.key not in outcome.results], self._store, self._resume
        )
        outcome.results.update(plan.reused)
        outcome.reused += len(plan.reused)
        gains = _Gains(self._store, wanted, plan.pending)
        if plan.pending:
            if not self._tracking:
                first = outcome.question(plan.pending[0])
                self._tracker.start(first.sweep, first.config_json)
                self._tracking = True
            self._progress.start(len(plan.pending), len(plan.reused))
            for measured in self._executor.run(work_units(plan.pending, (one.job for one in outcome.comparisons))):
                for result in gains.add(measured):
                    self._keep(result, outcome)
            for result in gains.waiting():
                self._keep(result, outcome)
        for key, result in plan.reused.items():
            if result.ok and result.gain is None:  # stored when the untouched model had not been measured
                self._count_late(gains.counted(result, self._store.correct(key)), outcome)

    def _count_late(self, result: TrialResult, outcome: Outcome) -> None:
        if result.gain is not None:
            question = outcome.question(result.trial)
            self._store.write(result, question.sweep, question.config_json)
            outcome.results[result.trial.key] = result

    def _keep(self, result: TrialResult, outcome: Outcome) -> None:
        question = outcome.question(result.trial)
        self._store.write(result, question.sweep, question.config_json)
        outcome.results[result.trial.key] = replace(result, predictions=None)
        outcome.ran += 1
        outcome.model_loads += result.seconds.load > 0
        self._tracker.trial(result)
        self._progress.result(result)

    @contextmanager
    def _interruptible(self, outcome: Outcome) -> Iterator[None]:
        """First signal: drain. Second: stop now. Elsewhere than in the main thread signals are not ours to handle."""

        def handle(number: int, frame: FrameType | None) -> None:
            if outcome.interrupted:
                raise KeyboardInterrupt
            outcome.interrupted = True
            self._progress.note("stopping: the running trials end and are stored; once more stops now")
            self._executor.drain()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class _Gains:
    """Counts each result's gain over the untouched model; holds back results that come before the untouched model's."""

    def __init__(self, store: Store, wanted: Sequence[Trial], pending: Sequence[Trial]) -> None:
        self._answers: dict[str, npt.NDArray[np.bool_] | None] = {}
        self._waiting: dict[str, list[TrialResult]] = {}
        awaited = {trial.key for trial in pending if trial.untouched}
        for key in {_untouched_key(trial) for trial in wanted} - awaited:
            self._answers[key] = store.correct(key)

    def add(self, result: TrialResult) -> list[TrialResult]:
        """The results whose gains are known now."""
        key = _untouched_key(result.trial)
        if result.trial.untouched:
            self._answers[key] = None if result.predictions is None else result.predictions.correct
            return [self._count(r) for r in (result, *self._waiting.pop(key, []))]
        if key not in self._answers:
            self._waiting.setdefault(key, []).append(result)
            return []
        return [self._count(result)]

    def waiting(self) -> list[TrialResult]:
        """Results whose untouched model never came; their gains stay open until it does."""
        return [result for results in self._waiting.values() for result in results]

    def counted(self, result: TrialResult, correct: npt.NDArray[np.bool_] | None) -> TrialResult:
        """The result with its gain, from which examples it got right; without, where that or the other is not known."""
        untouched = self._answers.get(_untouched_key(result.trial))
        if correct is None or untouched is None:
            return result
        paired = paired_gain(correct, untouched)
        return replace(result, gain=paired.gain, gain_p_value=paired.p_value)

    def _count(self, result: TrialResult) -> TrialResult:
        return self.counted(result, None if result.predictions is None else result.predictions.correct)


def _untouched_key(trial: Trial) -> str:
    """The key of the untouched model on the examples of a trial; the names in it do not count."""
    return replace(trial, edits=()).key
