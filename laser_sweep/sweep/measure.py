"""Measures what a sweep wants to know: what is not stored goes to the executor, what comes back to the store, the
tracker and the progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from laser_sweep.errors import StoreError
from laser_sweep.probe import Probe, ProbeResult
from laser_sweep.sweep.gains import Gains
from laser_sweep.sweep.outcome import Outcome
from laser_sweep.sweep.plan import Resume, subtract_stored, work_units
from laser_sweep.sweep.protocols import Executor, Progress, Store, Tracker, Work, WorkResult
from laser_sweep.trial import Trial, TrialResult

OnError: TypeAlias = Literal["continue", "stop"]
_POLL_SECONDS = 0.5  # how often is looked for what other sweeps have stored
_WRITE_AGAIN_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""A disk that is full, or a server that is away, may be there again in a moment; until then no result is lost."""


class Measurer:
    """Carries out trials and probes with the parts it is given, and writes down in an outcome what came of them."""

    def __init__(
        self,
        *,
        executor: Executor,
        store: Store,
        tracker: Tracker,
        progress: Progress,
        resume: Resume,
        on_error: OnError = "continue",
    ) -> None:
        self.executor = executor
        self.store = store
        self._tracker = tracker
        self.progress = progress
        self._resume: Resume = resume
        self._on_error = on_error
        self._tracking = False

    def run(self, wanted: Sequence[Trial | Probe], outcome: Outcome) -> None:
        """Runs what is not stored yet. The outcome holds all of it afterwards, unless it is cut short.

        What another sweep on the same store is running is left to it, and taken from the store when it is there.
        Raises StoreError where results cannot be stored.
        """
        probes = list(self._missing_probes(wanted, outcome))
        trials = [one for one in wanted if isinstance(one, Trial) and one.key not in outcome.results]
        plan = subtract_stored(trials, self.store, self._resume)
        outcome.results.update(plan.reused)
        outcome.reused += len(plan.reused)
        gains = Gains(self.store, trials, plan.pending)
        if plan.pending or probes:
            self._start_tracking(plan.pending, outcome)
            for probe in probes:
                self.progress.note(f"looking at the {probe.describe()}")
            self.progress.start(len(plan.pending), len(plan.reused))
            self._carry_out([*probes, *plan.pending], gains, outcome)
            for result in gains.waiting():
                self._keep_trial(result, outcome)
        for result in plan.reused.values():
            if result.ok and result.gain is None:  # stored when the untouched model had not been measured
                self._count_late(gains.counted_late(result), outcome)

    def finish(self, outcome: Outcome) -> None:
        """Lets the executor, the store and the tracker go."""
        self.progress.stop()
        self.executor.close()
        self.store.leave()
        if self._tracking:
            outcome.tracked = self._tracker.finish()

    def _carry_out(self, pending: Sequence[Work], gains: Gains, outcome: Outcome) -> None:
        jobs = [job for one in outcome.comparisons for job in (*one.jobs, one.guard) if job is not None]
        while pending:
            elsewhere: dict[str, Trial] = {}

            def claim(work: Work, elsewhere: dict[str, Trial] = elsewhere) -> bool:
                if isinstance(work, Probe) or self._claim(work):
                    return True
                elsewhere[work.key] = work
                return False

            for done in self.executor.run(work_units(pending, jobs), claim):
                self._keep(done, gains, outcome)
            pending = self._left_over(elsewhere, gains, outcome)

    def _left_over(self, elsewhere: dict[str, Trial], gains: Gains, outcome: Outcome) -> list[Trial]:
        """Waits until what other sweeps run is stored, or some of it given up, and returns what is not stored."""
        told = False
        while elsewhere and not outcome.cut_short:
            for key, result in self.store.find(elsewhere.values()).items():
                # One that failed is stored, too; an older result is not what is waited for.
                if self._resume == "auto" or result.finished_at >= outcome.started_at:
                    del elsewhere[key]
                    outcome.results[key] = result
                    outcome.reused += 1
                    self.progress.result(result)
                    for waited in gains.learn(result.trial):
                        self._keep_trial(waited, outcome)
            if any([self._claim(trial) for trial in elsewhere.values()]):
                return list(elsewhere.values())
            if not told:
                count = "1 trial" if len(elsewhere) == 1 else f"{len(elsewhere):,} trials"
                self.progress.note(f"waiting for what another sweep runs on this store: {count}")
                told = True
            time.sleep(_POLL_SECONDS)
        return []

    def _claim(self, trial: Trial) -> bool:
        return self.store.claim(trial, again=self._resume != "auto")

    def _missing_probes(self, wanted: Sequence[Trial | Probe], outcome: Outcome) -> Iterator[Probe]:
        for probe in {one.key: one for one in wanted if isinstance(one, Probe)}.values():
            stored = None if self._resume == "never" else self.store.find_probe(probe)
            if stored is None:
                yield probe
            else:
                outcome.probes[probe.key] = stored

    def _start_tracking(self, pending: Sequence[Trial], outcome: Outcome) -> None:
        if pending and not self._tracking:
            first = outcome.question(pending[0])
            self._tracker.start(first.sweep, first.config_json)
            self._tracking = True

    def _keep(self, done: WorkResult, gains: Gains, outcome: Outcome) -> None:
        if isinstance(done, ProbeResult):
            outcome.probes[done.probe.key] = done
            if done.ok:
                self._durably(lambda: self.store.write_probe(done))
            else:
                self.progress.note(f"failed: {done.probe.describe()}: {done.error}")
                self._fail(outcome)
        else:
            for result in gains.add(done):
                self._keep_trial(result, outcome)

    def _keep_trial(self, result: TrialResult, outcome: Outcome) -> None:
        question = outcome.question(result.trial)
        self._durably(lambda: self.store.write(result, question.sweep, question.config_json))
        outcome.results[result.trial.key] = replace(result, predictions=None)
        outcome.ran += 1
        outcome.model_loads += result.seconds.load > 0
        self._tracker.trial(result, question.sweep, question.config_json)
        self.progress.result(result)
        if not result.ok:
            self._fail(outcome)

    def _count_late(self, result: TrialResult, outcome: Outcome) -> None:
        if result.gain is not None:
            question = outcome.question(result.trial)
            self._durably(lambda: self.store.write(result, question.sweep, question.config_json))
            outcome.results[result.trial.key] = result

    def _fail(self, outcome: Outcome) -> None:
        if self._on_error == "stop" and not outcome.cut_short:
            outcome.gave_up = True
            self.progress.note("stopping after a failure (on_error=stop): the running trials end and are stored")
            self.executor.drain()

    def _durably(self, write: Callable[[], None]) -> None:
        """Writes to the store, again and again for a minute where that fails."""
        for seconds in _WRITE_AGAIN_SECONDS:
            try:
                return write()
            except OSError as error:
                self.progress.note(f"the store cannot be written: {error}; trying again in {seconds:g} s")
                time.sleep(seconds)
        try:
            write()
        except OSError as error:
            raise StoreError(
                f"the store cannot be written: {error}; what is stored is kept, and the same command runs the rest"
            ) from error
