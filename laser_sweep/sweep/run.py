"""Runs a sweep: searches ask on val until they are done; then the winner is measured on test."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import numpy as np

from laser_sweep.analysis.selection import Standing
from laser_sweep.analysis.statistics import PairedGain, paired_gain
from laser_sweep.probe import Probe
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.measure import Measurer
from laser_sweep.sweep.outcome import Confirmed, Guarded, Outcome
from laser_sweep.sweep.plan import UNTOUCHED, Comparison, compare
from laser_sweep.sweep.protocols import (
    AskSpectra,
    AskTrials,
    Candidate,
    Findings,
    Score,
)
from laser_sweep.trial import ExampleScores, Trial, TrialResult

_GUARDED_AT_ONCE = 8  # candidates that the guard looks at before it is known whether the first of them passes


class Sweep:
    """Carries out jobs: asks their searches what to measure, and has it measured."""

    def __init__(self, measurer: Measurer) -> None:
        self._measurer = measurer

    def run(self, jobs: Sequence[Job]) -> Outcome:
        """Lets every search ask on val until it is done, then measures the untouched model and the winner on test.

        A result is stored before anything else hears of it. The first SIGINT or SIGTERM lets the running trials end and
        stores them, the second raises KeyboardInterrupt. With on_error=stop the first failure does as the first signal.
        Raises RequestError where a search cannot be made, StoreError where results cannot be stored.
        """
        started = time.monotonic()
        outcome = Outcome(compare(jobs), started_at=time.time())
        outcome.searches = {place: comparison.search() for place, comparison in enumerate(outcome.comparisons)}
        with self._interruptible(outcome):
            try:
                self._search(outcome)
                if not outcome.cut_short:
                    self._confirm(outcome)
            finally:
                self._measurer.finish(outcome)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _search(self, outcome: Outcome) -> None:
        """All searches go on side by side; one that needs a probe that failed ends there."""
        going = dict(outcome.searches)
        while going:
            asks = {place: search.ask() for place, search in going.items()}
            going = {place: search for place, search in going.items() if asks[place] is not None}
            wanted = [work for place in going for work in _wanted(outcome.comparisons[place], asks[place])]
            self._measurer.run(wanted, outcome)
            if outcome.cut_short:
                return
            for place in list(going):
                found = self._findings(outcome.comparisons[place], asks[place], outcome)
                if found is None:
                    outcome.stopped.add(place)
                    del going[place]
                else:
                    going[place] = outcome.searches[place] = going[place].tell(found)

    def _findings(
        self, comparison: Comparison, ask: AskTrials | AskSpectra | None, outcome: Outcome
    ) -> Findings | None:
        """What a search is told; None where the spectra that it asked for could not be had."""
        if isinstance(ask, AskTrials):
            scores = {c.edits: self._score(comparison, c, ask, outcome) for c in (UNTOUCHED, *ask.candidates)}
            return Findings(scores={edits: score for edits, score in scores.items() if score is not None})
        results = [outcome.probes.get(probe.key) for probe in _probes(comparison, ask)]
        done = [result for result in results if result is not None and result.ok]
        if len(done) < len(results):
            return None
        return Findings(spectra=tuple({one.matrix: one for one in result.spectra} for result in done))

    def _score(self, comparison: Comparison, candidate: Candidate, ask: AskTrials, outcome: Outcome) -> Score | None:
        limit = comparison.limit(ask)
        standing = outcome.standing(comparison, candidate, limit)
        if standing is None:
            return None
        examples = self._examples(comparison, standing) if ask.by_example else None
        if ask.by_example and examples is None:
            return None
        allowed = not ask.guarded or comparison.guard is None or self._passes(comparison, candidate, outcome)
        return Score(
            value=standing.value(comparison.question.objective),
            loss=standing.loss,
            examples=examples,
            allowed=allowed,
        )

    def _examples(self, comparison: Comparison, standing: Standing) -> ExampleScores | None:
        """How a candidate did on each example of each data set, None where the store has lost it."""
        parts = []
        for job, result in zip(comparison.jobs, standing.results, strict=True):
            scores = self._measurer.store.scores(result.trial.key)
            if scores is None:
                return None
            parts.append(job.as_drawn(scores, "val"))
        return ExampleScores(
            tuple(example for part in parts for example in part.example_ids),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.losses for part in parts]),
        )

    def _passes(self, comparison: Comparison, candidate: Candidate, outcome: Outcome) -> bool:
        """Whether the guard allows a candidate that was measured on its data set; one that failed there it does not."""
        guard, spec = comparison.guard, comparison.question.guard
        assert guard is not None
        assert spec is not None
        measured = outcome.results.get(guard.trial(candidate, "val").key)
        untouched = outcome.results.get(guard.untouched("val").key)
        if measured is None or untouched is None or not measured.ok or not untouched.ok:
            return False
        loss, before = measured.measured().loss, untouched.measured().loss
        return loss is not None and before is not None and loss <= before + spec.bound

    def _winner(self, place: int, outcome: Outcome) -> Standing | None:
        """The best candidate that the guard, where there is one, allows; the untouched model needs no leave.

        None where nothing was measured, or where the guard could not be asked.
        """
        comparison = outcome.comparisons[place]
        ranked = outcome.ranked(comparison)
        guard = comparison.guard
        if guard is None:
            return ranked[0] if ranked else None
        refused: list[TrialResult] = []
        for number, standing in enumerate(ranked):
            if number % _GUARDED_AT_ONCE == 0:
                batch = [_candidate(one, comparison) for one in ranked[number : number + _GUARDED_AT_ONCE]]
                self._measurer.run([guard.untouched("val"), *(guard.trial(one, "val") for one in batch)], outcome)
            candidate = _candidate(standing, comparison)
            result = outcome.results.get(guard.trial(candidate, "val").key)
            untouched = outcome.results.get(guard.untouched("val").key)
            if outcome.cut_short or untouched is None or not untouched.ok:
                return None
            if standing.trial.untouched or self._passes(comparison, candidate, outcome):
                outcome.guarded[place] = Guarded(untouched, result, tuple(refused))
                return standing
            refused += [] if result is None else [result]
        return None

    def _confirm(self, outcome: Outcome) -> None:
        """Measures the untouched model and the winner of each comparison on test.

        The untouched model is a candidate whatever the searches asked for last.
        """
        going = [one for place, one in enumerate(outcome.comparisons) if place not in outcome.stopped]
        self._measurer.run([job.untouched("val") for one in going for job in one.jobs], outcome)
        pairs: list[tuple[int, Trial, Trial]] = []
        for place, comparison in enumerate(outcome.comparisons):
            if outcome.cut_short:
                return
            if comparison.question.evaluation.confirm and place not in outcome.stopped:
                winner = self._winner(place, outcome)
                if winner is not None:
                    candidate = _candidate(winner, comparison)
                    self._pair_on_val(place, winner, outcome)
                    pairs += [(place, job.trial(candidate, "test"), job.untouched("test")) for job in comparison.jobs]
        if outcome.cut_short:
            return
        self._measurer.run([trial for _, winner, untouched in pairs for trial in (untouched, winner)], outcome)
        for place, *pair in pairs:
            winner_result, untouched_result = (outcome.results.get(trial.key) for trial in pair)
            if winner_result is not None and untouched_result is not None and winner_result.ok and untouched_result.ok:
                gain = self._paired(winner_result, untouched_result)
                confirmed = Confirmed(winner_result, untouched_result, gain)
                outcome.confirmed[place] = (*outcome.confirmed.get(place, ()), confirmed)

    def _pair_on_val(self, place: int, winner: Standing, outcome: Outcome) -> None:
        untouched = outcome.standing(outcome.comparisons[place], UNTOUCHED)
        if untouched is not None:
            for number, pair in enumerate(zip(winner.results, untouched.results, strict=True)):
                gain = self._paired(*pair)
                if gain is not None:
                    outcome.picked[place, number] = gain

    def _paired(self, edited: TrialResult, untouched: TrialResult) -> PairedGain | None:
        """None where the store has lost the predictions of one of them."""
        answers = [self._measurer.store.scores(result.trial.key) for result in (edited, untouched)]
        return None if answers[0] is None or answers[1] is None else paired_gain(answers[0].scores, answers[1].scores)

    @contextmanager
    def _interruptible(self, outcome: Outcome) -> Iterator[None]:
        """First signal: drain. Second: stop now. Elsewhere than in the main thread signals are not ours to handle."""

        def handle(number: int, frame: FrameType | None) -> None:
            if outcome.interrupted:
                raise KeyboardInterrupt
            outcome.interrupted = True
            self._measurer.progress.note("stopping: the running trials end and are stored; once more stops now")
            self._measurer.executor.drain()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _wanted(comparison: Comparison, ask: AskTrials | AskSpectra | None) -> list[Trial | Probe]:
    return [*comparison.trials(ask)] if isinstance(ask, AskTrials) else [*_probes(comparison, ask)]


def _probes(comparison: Comparison, ask: AskSpectra | None) -> list[Probe]:
    """A probe for each data set, or one for all where no data is looked at."""
    if ask is None:
        return []
    if ask.samples is None:
        return [Probe(model=comparison.jobs[0].checkpoint.identity, matrices=ask.matrices)]
    return [
        Probe(model=job.checkpoint.identity, matrices=ask.matrices, evaluation=job.sample(ask.samples))
        for job in comparison.jobs
    ]


def _candidate(standing: Standing, comparison: Comparison) -> Candidate:
    return comparison.candidates.get(standing.trial.edits, UNTOUCHED)
