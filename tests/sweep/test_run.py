"""A whole sweep: what it measures, whom it tells, what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from laser_sweep.errors import RequestError
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.tracking.tracker import NullTracker
from laser_sweep.trial import Seconds, Trial, TrialResult

Run = Callable[..., Any]  # runs jobs and returns the parts of the sweep
MakeJob = Callable[..., Job]
Rows = Callable[[], pd.DataFrame]
Answered = Callable[..., TrialResult]
Answers = Callable[[Trial], npt.NDArray[np.bool_]]
AssertGains = Callable[..., None]


# Search and confirmation


def test_a_sweep_measures_everything_on_val_and_the_winner_beside_the_untouched_model_on_test(
    run: Run, make_job: MakeJob, rows: Rows
) -> None:
    job = make_job(layer=(0, 1, 2))
    ran = run(job)
    search, confirmation = ran.devices.asked
    assert {trial.key for trial in search} == {t.key for t in [job.untouched("val"), *job.trials("val")]}
    assert {trial.evaluation.split for trial in search} == {"val"}
    winner = job.trials("test")[2]  # layer 2 gets 7 of 10 right
    assert [trial.key for trial in confirmation] == [job.untouched("test").key, winner.key]
    assert ran.outcome.confirmed[0][0].winner.trial == winner
    assert set(rows().index) == {trial.key for trial in search + confirmation} == set(ran.outcome.results)


def test_the_confirmed_gain_pairs_the_answers_on_test(run: Run, make_job: MakeJob, answers: Answers) -> None:
    job = make_job()
    ran = run(job)
    difference = answers(job.trials("test")[2]).astype(float) - answers(job.untouched("test"))
    gain = ran.outcome.confirmed[0][0].gain
    assert gain is not None
    assert gain.gain == pytest.approx(difference.mean())
    assert gain.stderr == pytest.approx(difference.std() / np.sqrt(40))
    assert ran.outcome.confirmed[0][0].untouched.measured().accuracy == answers(job.untouched("test")).mean()


def test_ties_in_accuracy_are_decided_by_log_loss(run: Run, make_job: MakeJob, answered: Answered) -> None:
    def equal_but_for_log_loss(trial: Trial) -> TrialResult:
        log_loss = {-1: 0.9, 0: 0.5, 1: 0.25, 2: 0.5}[-1 if trial.layer is None else trial.layer]
        return answered(trial, [True] * {"val": 10, "test": 40}[trial.evaluation.split], log_loss=log_loss)

    ran = run(make_job(), measure=equal_but_for_log_loss)
    assert ran.outcome.confirmed[0][0].winner.trial.layer == 1


def test_the_untouched_model_wins_where_no_edit_is_better(run: Run, make_job: MakeJob, answered: Answered) -> None:
    def harm(trial: Trial) -> TrialResult:
        return answered(trial, [trial.untouched] * {"val": 10, "test": 40}[trial.evaluation.split])

    job = make_job()
    ran = run(job, measure=harm)
    assert [trial.key for trial in ran.devices.asked[1]] == [job.untouched("test").key]
    assert ran.outcome.confirmed[0][0].winner.trial.untouched


def test_nothing_is_measured_on_test_without_confirmation(run: Run, make_job: MakeJob, rows: Rows) -> None:
    ran = run(make_job(confirm=False))
    assert len(ran.devices.asked) == 1
    assert set(rows()["split"]) == {"val"}
    assert ran.outcome.confirmed == {}


def test_evaluating_all_measures_every_trial_on_both_splits_at_once(
    run: Run, make_job: MakeJob, rows: Rows, assert_gains: AssertGains
) -> None:
    job = make_job(split="all")
    ran = run(job)
    assert len(ran.devices.asked) == 1
    assert rows().groupby("split").size().to_dict() == {"val": 4, "test": 4}
    assert ran.outcome.confirmed[0][0].winner.trial == job.trials("test")[2]
    for split in ("val", "test"):
        assert_gains(job.trials(split), job.untouched(split))


def test_two_models_each_have_their_own_winner(
    run: Run, make_job: MakeJob, answers: Answers, answered: Answered
) -> None:
    def best_is_2_but_0_for_the_other(trial: Trial) -> TrialResult:
        if trial.model.name == "other" and trial.layer == 0:
            return answered(trial, [True] * {"val": 10, "test": 40}[trial.evaluation.split])
        return answered(trial, answers(trial))

    jobs = [make_job(), make_job(model="other")]
    ran = run(*jobs, measure=best_is_2_but_0_for_the_other)
    assert [ran.outcome.confirmed[place][0].winner.trial.layer for place in (0, 1)] == [2, 0]
    assert [ran.outcome.confirmed[place][0].winner.trial.model.name for place in (0, 1)] == ["tiny", "other"]
    assert {trial.key for trial in ran.devices.asked[1]} == {
        jobs[0].untouched("test").key,
        jobs[1].untouched("test").key,
        jobs[0].trials("test")[2].key,
        jobs[1].trials("test")[0].key,
    }


def test_the_objective_of_each_job_is_its_best_accuracy_on_val(run: Run, make_job: MakeJob) -> None:
    jobs = [make_job(layer=(0, 1)), make_job(layer=(2,)), make_job(layer=(), rho=())]
    ran = run(*jobs)
    assert [ran.outcome.objective(job) for job in jobs] == [0.6, 0.7, 0.4]


# Store, tracker and progress


def test_a_result_is_stored_before_the_tracker_hears_of_it(
    run: Run, make_job: MakeJob, store: ParquetStore, rows: Rows, listener: NullTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[bool] = []

    def look(result: TrialResult, *asked: str) -> None:
        key = result.trial.key
        stored.append(key in rows().index and store.scores(key) is not None)

    monkeypatch.setattr(listener, "trial", look)
    run(make_job(), tracker=listener)
    assert stored == [True] * 6


def test_the_tracker_hears_of_every_new_result_between_start_and_finish(run: Run, make_job: MakeJob) -> None:
    ran = run(make_job(sweep="mine", config_json='{"a": 1}'))
    assert ran.tracker.calls == ['start mine {"a": 1}', *["trial"] * 6, "finish"]
    assert {result.trial.key for result in ran.tracker.heard} == set(ran.outcome.results)
    assert all(result.predictions is not None for result in ran.tracker.heard)
    assert ran.outcome.tracked == "over there"


@pytest.mark.parametrize("broken", ["start", "trial", "finish"])
def test_a_tracker_that_raises_is_reported_once_and_changes_nothing(
    run: Run,
    make_job: MakeJob,
    rows: Rows,
    listener: NullTracker,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    def fail(*args: object) -> None:
        raise ConnectionError("the server\nis away")

    monkeypatch.setattr(listener, broken, fail)
    ran = run(make_job(), tracker=listener)
    assert len(rows()) == len(ran.outcome.results) == 6
    assert ran.outcome.confirmed[0][0].winner.trial.layer == 2
    [note] = ran.progress.notes
    assert "ConnectionError: the server is away" in note
    assert ran.outcome.tracked == (None if broken == "finish" else "over there")  # what it has is closed all the same
    after = {
        "start": ["finish"],
        "trial": ["start sweep {}", "finish"],
        "finish": ["start sweep {}", *["trial"] * 6],
    }[broken]
    assert listener.calls == after


def test_progress_is_told_of_what_is_to_run_and_of_each_end(run: Run, make_job: MakeJob) -> None:
    run(make_job(layer=(0,), confirm=False))
    ran = run(make_job(layer=(0, 1, 2)))
    assert ran.progress.started == [(2, 2), (2, 0)]
    assert len(ran.progress.results) == 4
    assert ran.progress.stops == 1


def test_the_configuration_of_each_job_is_stored_with_its_trials(run: Run, make_job: MakeJob, rows: Rows) -> None:
    jobs = [
        make_job(sweep="one", config_json='{"job": 1}'),
        make_job(sweep="two", config_json='{"job": 2}', dataset="shapes"),
        make_job(sweep="three", config_json='{"job": 3}', rho=(0.1, 0.5)),
    ]
    run(*jobs)
    frame = rows()
    asked = {
        trial.key: job.question for job in reversed(jobs) for split in ("val", "test") for trial in job.trials(split)
    }
    edited = frame[frame["rho"].notna()]
    assert len(edited) == 9 + 2
    for key, row in edited.iterrows():
        assert (row["sweep"], row["config_json"]) == (asked[key].sweep, asked[key].config_json)


def test_the_same_edits_on_more_examples_are_stored_with_the_configuration_that_asked_for_them(
    run: Run, make_job: MakeJob, rows: Rows
) -> None:
    """`-m evaluation.limit=4,8`: two jobs with the same model, data set and edits."""
    few = make_job(sweep="few", config_json='{"limit": 4}', limit=4, confirm=False)
    more = make_job(sweep="more", config_json='{"limit": 8}', limit=8, confirm=False)
    run(few, more)
    frame = rows()
    for job in (few, more):
        for trial in (job.untouched("val"), *job.trials("val")):
            row = frame.loc[trial.key]
            assert (row["num_examples"], row["sweep"]) == (job.question.evaluation.limit, job.question.sweep)
            assert row["config_json"] == job.question.config_json


def test_answers_are_kept_on_disk_not_in_memory(run: Run, make_job: MakeJob, store: ParquetStore) -> None:
    ran = run(make_job())
    assert {result.predictions for result in ran.outcome.results.values()} == {None}
    assert all(store.scores(key) is not None for key in ran.outcome.results)


def test_model_loads_are_counted(run: Run, make_job: MakeJob, measure: Callable[[Trial], TrialResult]) -> None:
    loads = iter([0.5, 0.25])

    def load_twice(trial: Trial) -> TrialResult:
        return replace(measure(trial), seconds=Seconds(load=next(loads, 0.0)))

    ran = run(make_job(), measure=load_twice)
    assert ran.outcome.model_loads == 2


# Failures


def test_a_failed_trial_is_kept_and_the_others_go_on(
    run: Run, make_job: MakeJob, rows: Rows, measure: Callable[[Trial], TrialResult]
) -> None:
    def fail_layer_2(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.layer == 2 else measure(trial)

    job = make_job()
    ran = run(job, measure=fail_layer_2)
    assert [result.trial.layer for result in ran.outcome.failed] == [2]
    assert ran.outcome.confirmed[0][0].winner.trial.layer == 1
    row = rows().loc[job.trials("val")[2].key]
    assert (row["status"], row["error"]) == ("failed", "it broke")
    assert (
        sum(not result.ok for result in ran.tracker.heard) == sum(not result.ok for result in ran.progress.results) == 1
    )


def test_where_everything_fails_nothing_is_confirmed(run: Run, make_job: MakeJob) -> None:
    job = make_job()
    ran = run(job, measure=lambda t: TrialResult(trial=t, status="failed", error="no"))
    assert len(ran.outcome.failed) == 4
    assert len(ran.devices.asked) == 1
    assert ran.outcome.confirmed == {}
    assert ran.outcome.objective(job) is None


def test_a_winner_that_fails_on_test_is_not_confirmed(
    run: Run, make_job: MakeJob, measure: Callable[[Trial], TrialResult]
) -> None:
    def fail_on_test(trial: Trial) -> TrialResult:
        failed = trial.evaluation.split == "test" and not trial.untouched
        return TrialResult(trial=trial, status="failed", error="it broke") if failed else measure(trial)

    ran = run(make_job(), measure=fail_on_test)
    assert ran.outcome.confirmed == {}
    assert len(ran.outcome.failed) == 1


def test_a_request_that_proves_wrong_on_the_device_ends_the_sweep_in_order(
    rig: Callable[..., Any], make_job: MakeJob, rows: Rows, measure: Callable[[Trial], TrialResult]
) -> None:
    def refuse_layer_1(trial: Trial) -> TrialResult:
        if trial.layer == 1:
            raise RequestError("the weights cannot be had")
        return measure(trial)

    parts = rig(refuse_layer_1)
    with pytest.raises(RequestError, match="the weights cannot be had"):
        parts.run(make_job())
    assert len(rows()) == 2
    assert (parts.devices.closed, parts.progress.stops, parts.tracker.calls[-1]) == (1, 1, "finish")


def test_the_executor_is_closed_at_the_end(run: Run, make_job: MakeJob) -> None:
    ran = run(make_job())
    assert ran.devices.closed == 1


# Resuming


def test_the_same_sweep_again_runs_nothing_and_says_the_same(run: Run, make_job: MakeJob) -> None:
    ran = run(make_job())
    again = run(make_job())
    assert again.devices.asked == []
    assert again.tracker.calls == []
    assert again.progress.started == []
    assert (again.outcome.reused, again.outcome.ran) == (6, 0)
    assert again.outcome.confirmed[0][0].gain == ran.outcome.confirmed[0][0].gain
    assert {key: result.metrics for key, result in again.outcome.results.items()} == {
        key: result.metrics for key, result in ran.outcome.results.items()
    }


def test_running_again_on_purpose_measures_everything_anew(run: Run, make_job: MakeJob, rows: Rows) -> None:
    run(make_job())
    ran = run(make_job(), resume="never")
    assert [len(asked) for asked in ran.devices.asked] == [4, 2]
    assert (ran.outcome.reused, ran.outcome.ran) == (0, 6)
    assert len(rows()) == 6


def test_more_rhos_run_only_those(run: Run, make_job: MakeJob) -> None:
    run(make_job(rho=(0.1,), confirm=False))
    ran = run(make_job(rho=(0.1, 0.2), confirm=False))
    assert {trial.rho for trial in ran.devices.asked[0]} == {0.2}
