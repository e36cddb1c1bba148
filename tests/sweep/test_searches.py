"""Whole sweeps under every search: cut off, they go on as they would have, and test stays closed until the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.probe import Probe, ProbeResult, Slopes, Spectrum
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.measure import Measurer
from laser_sweep.sweep.protocols import Work, WorkResult
from laser_sweep.sweep.run import Sweep
from laser_sweep.sweep.search.spec import (
    GradientSpec,
    GreedySpec,
    GridSpec,
    HalvingSpec,
    NoiseEdgeSpec,
    OptunaSpec,
    RacingSpec,
    SearchSpec,
)
from laser_sweep.trial import Matrix, Trial, TrialResult

MakeJob = Callable[..., Job]
Rig = Callable[..., Any]
Measure = Callable[[Trial], TrialResult]

SEARCHES: dict[str, SearchSpec] = {
    "grid": GridSpec(),
    "gradient": GradientSpec(gradient_samples=5, top_matrices=2),
    "halving": HalvingSpec(min_examples=8, reduction=3),
    "racing": RacingSpec(min_examples=10, error=0.2),
    "greedy": GreedySpec(),
    "noise_edge": NoiseEdgeSpec(),
    "optuna": OptunaSpec(max_trials=7, batch=3),
}
each_search = pytest.mark.parametrize("name", SEARCHES)


def effect(trial: Trial) -> tuple[float, float]:
    """One matrix is the better the less is left of it, the other the worse."""
    good = sum((e.matrix.layer + 1) * (1 - e.rho) * (-1 if e.matrix.tau == "fc_out" else 1) for e in trial.edits)
    return 0.5 + good / 16, 1.0 - good / 16


def spectrum(matrix: Matrix, *, with_slopes: bool) -> Spectrum:
    """Two directions above noise, and slopes that promise most of fc_in."""
    random = np.random.default_rng([matrix.layer, len(matrix.tau)])
    values = np.sort(random.exponential(size=40))[::-1] + np.r_[50.0, 40.0, np.zeros(38)]
    worth = (matrix.layer + 1) * (1.0 if matrix.tau == "fc_in" else -1.0) * np.linspace(2, 1, 40)
    nothing = np.zeros(40)
    slopes = Slopes(
        num_examples=5,
        values=worth,
        values_stderr=nothing,
        gains=worth,
        gains_stderr=nothing,
        last20=0.0,
        last20_stderr=0.0,
    )
    return Spectrum(matrix=matrix, shape=(40, 60), singular_values=values, slopes=slopes if with_slopes else None)


def look(probe: Probe) -> ProbeResult:
    found = tuple(spectrum(matrix, with_slopes=probe.evaluation is not None) for matrix in probe.matrices)
    return ProbeResult(probe=probe, status="done", spectra=found)


@pytest.fixture
def job(make_job: MakeJob, request: pytest.FixtureRequest) -> Job:
    """Twelve candidates on 80 examples of val, searched as the test's `name` says."""
    return make_job(
        tau=("fc_in", "fc_out"), rho=(0.5, 0.1), examples=400, seed=3, search=SEARCHES[request.getfixturevalue("name")]
    )


@pytest.fixture
def measure(job: Job, simulated: Callable[..., Measure]) -> Measure:
    return simulated(effect, job)


def ran(parts: Any) -> list[Work]:
    return [work for batch in parts.devices.asked for work in batch]


def winner(parts: Any) -> TrialResult:
    [confirmed] = parts.outcome.confirmed[0]
    return confirmed.winner


# Cut off and begun again


class Mortal:
    """Measures one thing, then the machine dies of what it is given."""

    def __init__(self, death: BaseException, log: list[Work]) -> None:
        self._death: BaseException | None = death
        self._log = log
        self._left = 1

    def __call__(self, work: Any, answer: Callable[[Any], WorkResult]) -> Any:
        if not self._left:
            raise self._death
        self._left -= 1
        self._log.append(work)
        return answer(work)


@each_search
def test_a_sweep_killed_after_every_single_result_goes_on_as_if_nothing_had_happened(
    name: str, job: Job, measure: Measure, rig: Rig, store: ParquetStore, tmp_path: Path
) -> None:
    """It runs what an uninterrupted one runs, in its order and each once, and comes to the same end."""
    whole = replace(rig(measure, look=look), store=ParquetStore(tmp_path / "whole")).run(job)
    lived: list[Work] = []
    while True:
        death = KeyboardInterrupt() if len(lived) % 2 else RuntimeError("the machine is gone")
        life = Mortal(death, lived)
        parts = rig(lambda trial, life=life: life(trial, measure), look=lambda probe, life=life: life(probe, look))
        try:
            parts.run(job)
        except (KeyboardInterrupt, RuntimeError):
            assert len(lived) <= len(ran(whole))
            continue
        break
    assert lived == ran(whole)
    assert len(lived) > 6
    assert parts.outcome.searches == whole.outcome.searches
    assert winner(parts).trial == winner(whole).trial
    assert parts.outcome.confirmed[0][0].gain == whole.outcome.confirmed[0][0].gain
    assert parts.outcome.results.keys() == whole.outcome.results.keys()


@each_search
def test_a_sweep_that_a_signal_ends_in_the_middle_goes_on(name: str, job: Job, measure: Measure, rig: Rig) -> None:
    count = 0

    def signalled(work: Any, answer: Callable[[Any], WorkResult]) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return answer(work)

    parts = rig(lambda trial: signalled(trial, measure), look=lambda probe: signalled(probe, look)).run(job)
    assert parts.outcome.interrupted
    assert not parts.outcome.confirmed
    assert count == 3
    again = rig(measure, look=look).run(job)
    assert len(ran(again)) == len({str(work) for work in ran(again)})
    [confirmed] = again.outcome.confirmed[0]
    assert confirmed.winner.ok


@each_search
def test_a_finished_sweep_asks_the_store_alone(name: str, job: Job, measure: Measure, rig: Rig) -> None:
    first = rig(measure, look=look).run(job)
    again = rig(measure, look=look).run(job)
    assert ran(again) == []
    assert again.outcome.ran == 0
    assert again.outcome.reused == first.outcome.ran
    assert again.outcome.searches == first.outcome.searches
    assert winner(again).trial == winner(first).trial


@each_search
def test_trials_that_another_search_has_stored_are_not_run_again(
    name: str, job: Job, measure: Measure, rig: Rig
) -> None:
    """The grid first: what a search asks for in full is in the store then, but for what the grid has not."""
    question = replace(job.question, search=GridSpec())
    rig(measure).run(replace(job, question=question))
    grid = {trial.key for trial in [job.untouched("val"), *job.trials("val")]}
    parts = rig(measure, look=look).run(job)
    assert not grid & {work.key for work in ran(parts)}
    assert grid & parts.outcome.results.keys()


@each_search
def test_a_search_beside_a_grid_of_another_data_set_disturbs_neither(
    name: str, job: Job, make_job: MakeJob, simulated: Callable[..., Measure], rig: Rig
) -> None:
    other = make_job(dataset="shapes", examples=400)
    alone = rig(simulated(effect, job, other), look=look, resume="never").run(job)
    both = rig(simulated(effect, job, other), look=look, resume="never").run(other, job)
    assert both.outcome.searches[1] == alone.outcome.searches[0]
    assert both.outcome.confirmed[1][0].winner.trial == winner(alone).trial
    assert both.outcome.confirmed[0][0].winner.trial.layer == 2


@each_search
def test_where_no_edit_is_better_the_untouched_model_wins(
    name: str, job: Job, simulated: Callable[..., Measure], rig: Rig
) -> None:
    def harm(trial: Trial) -> tuple[float, float]:
        return (0.2, 3.0) if trial.edits else (0.9, 1.0)

    parts = rig(simulated(harm, job), look=look).run(job)
    assert winner(parts).trial.untouched
    assert winner(parts).measured().accuracy == pytest.approx(0.9)


@each_search
def test_where_every_edit_fails_the_untouched_model_is_what_is_left(
    name: str, job: Job, measure: Measure, rig: Rig
) -> None:
    def fragile(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.edits else measure(trial)

    parts = rig(fragile, look=look).run(job)
    assert winner(parts).trial.untouched
    assert all(result.trial.edits for result in parts.outcome.failed)


# Test is looked at once


@each_search
def test_only_the_untouched_model_and_the_winner_are_measured_on_test_and_last_of_all(
    name: str, job: Job, measure: Measure, rig: Rig
) -> None:
    parts = rig(measure, look=look).run(job)
    *search, confirmation = parts.devices.asked
    assert [trial.evaluation.split for trial in confirmation] == ["test", "test"]
    assert [trial.untouched for trial in confirmation] == [True, False]
    assert all(work.evaluation is None or work.evaluation.split == "val" for batch in search for work in batch)
    in_full = [
        result
        for result in parts.outcome.results.values()
        if result.trial.evaluation == job.evaluation("val") and result.ok
    ]
    best = max(in_full, key=lambda result: (result.measured().accuracy, -result.measured().log_loss))
    assert confirmation[1].edits == best.trial.edits


@each_search
def test_nothing_on_test_can_change_what_is_searched(name: str, job: Job, measure: Measure, rig: Rig) -> None:
    """Every trial on test fails."""

    def poisoned(trial: Trial) -> TrialResult:
        if trial.evaluation.split == "test":
            return TrialResult(trial=trial, status="failed", error="poison")
        return measure(trial)

    parts = rig(poisoned, look=look).run(job)
    healthy = rig(measure, look=look, resume="never").run(job)
    assert parts.outcome.searches == healthy.outcome.searches
    assert [work for work in ran(parts)] == ran(healthy)
    assert [(type(one), one.error) for one in parts.outcome.failed] == [(TrialResult, "poison")] * 2
    assert {one.trial.edits for one in parts.outcome.failed} == {(), winner(healthy).trial.edits}


@each_search
def test_without_confirmation_test_is_not_looked_at(name: str, job: Job, measure: Measure, rig: Rig) -> None:
    question = replace(job.question, evaluation=replace(job.question.evaluation, confirm=False))
    parts = rig(measure, look=look).run(replace(job, question=question))
    assert {work.evaluation.split for work in ran(parts) if work.evaluation is not None} == {"val"}


BRIEF: dict[str, SearchSpec] = {
    **SEARCHES,
    "gradient": GradientSpec(gradient_samples=20, top_matrices=1),
    "greedy": GreedySpec(max_trials=4),
    "optuna": OptunaSpec(max_trials=4, batch=2),
}


@each_search
def test_a_real_model_sees_no_example_of_test_before_its_winner_is_chosen(
    name: str, demo_job: Callable[..., Job], workload: Callable[[Job], Any], store: ParquetStore, rig: Rig
) -> None:
    """The worker's data set is sealed: to open test is an error, of which the sweep hears."""
    from laser_sweep.engine.editing.spec import CacheSpec
    from laser_sweep.sweep.executors.in_process import InProcessExecutor

    opened: list[str] = []

    class Sealed(Task):
        def split(self, split: Any, limit: int | None = None, seed: int | None = None) -> tuple[Example, ...]:
            opened.append(split)
            if split == "test":
                raise AssertionError("test is sealed")
            return super().split(split, limit, seed)

    job = demo_job(tau=("fc_in",), rho=(0.4, 0.05), limit=40, test_limit=None, search=BRIEF[name])
    load = workload(job)
    task = Sealed(job.task.name, job.task.examples, job.task.family, job.task.scoring)
    executor = InProcessExecutor([replace(load, task=task)], CacheSpec(factors_gb=0))
    parts = rig()
    outcome = Sweep(
        Measurer(executor=executor, store=store, tracker=parts.tracker, progress=parts.progress, resume="auto")
    ).run([job])
    assert opened.count("test") == 2
    assert opened[-2:] == ["test", "test"]
    assert [result.error for result in outcome.failed] == ["AssertionError: test is sealed"] * 2
    untouched, best = (result.trial for result in outcome.failed)
    assert untouched.untouched
    assert best.edits == outcome.ranked(outcome.comparisons[0])[0].trial.edits != ()
