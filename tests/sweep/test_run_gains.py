"""Gains over the untouched model, in whatever order, run or process the results come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest

from laser_sweep.sweep.jobs import Job
from laser_sweep.trial import Trial, TrialResult

Run = Callable[..., Any]  # runs jobs and returns the parts of the sweep
MakeJob = Callable[..., Job]
Rows = Callable[[], pd.DataFrame]
AssertGains = Callable[..., None]


@pytest.mark.parametrize("order", [lambda trials: trials, lambda trials: trials[::-1]], ids=["first", "last"])
def test_gains_are_counted_whether_the_untouched_model_comes_first_or_last(
    run: Run,
    make_job: MakeJob,
    rows: Rows,
    assert_gains: AssertGains,
    measure: Callable[[Trial], TrialResult],
    order: Callable[[list[Trial]], Sequence[Trial]],
) -> None:
    job = make_job()
    ran = run(job, order=order)
    assert_gains(job.trials("val"), job.untouched("val"))
    assert_gains([job.trials("test")[2]], job.untouched("test"))
    assert {result.gain is None for result in ran.tracker.heard} == {False}


def test_results_wait_for_the_untouched_model_and_others_do_not(
    run: Run, make_job: MakeJob, rows: Rows, assert_gains: AssertGains, measure: Callable[[Trial], TrialResult]
) -> None:
    """The untouched model of the second data set comes last of all."""
    jobs = [make_job(confirm=False), make_job(dataset="shapes", confirm=False)]
    late = jobs[1].untouched("val")
    stored_before_late: list[str] = []

    def look_first(trial: Trial) -> TrialResult:
        if trial == late:
            stored_before_late.extend(rows()["dataset"])
        return measure(trial)

    def last(trials: list[Trial]) -> list[Trial]:
        return [*(trial for trial in trials if trial != late), late]

    run(*jobs, measure=look_first, order=last)
    assert stored_before_late == ["colours"] * 4
    assert rows().groupby("dataset").size().to_dict() == {"colours": 4, "shapes": 4}
    assert_gains(jobs[1].trials("val"), late)


def test_gains_are_counted_from_a_stored_untouched_model(
    run: Run, make_job: MakeJob, rows: Rows, assert_gains: AssertGains
) -> None:
    run(make_job(layer=(0,), confirm=False))
    job = make_job(layer=(0, 1, 2), confirm=False)
    ran = run(job)
    assert [trial.layer for trial in ran.devices.asked[0]] == [1, 2]
    assert (ran.outcome.reused, ran.outcome.ran) == (2, 2)
    assert_gains(job.trials("val"), job.untouched("val"))


def test_without_an_untouched_model_gains_are_unknown(
    run: Run, make_job: MakeJob, rows: Rows, measure: Callable[[Trial], TrialResult]
) -> None:
    def fail_untouched(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.untouched else measure(trial)

    job = make_job()
    run(job, measure=fail_untouched)
    frame = rows()
    assert frame.loc[job.untouched("val").key]["status"] == "failed"
    for trial in job.trials("val"):
        assert frame.loc[trial.key]["status"] == "done"
        assert pd.isna(frame.loc[trial.key]["gain"])
    again = run(make_job(layer=(0, 1, 2, 3), confirm=False))
    assert [trial.layer for trial in again.devices.asked[0]] == [3]
    assert pd.isna(rows().loc[make_job(layer=(3,)).trials("val")[0].key]["gain"])


def test_gains_that_were_left_open_are_counted_when_the_untouched_model_is_there(
    run: Run, make_job: MakeJob, rows: Rows, assert_gains: AssertGains, measure: Callable[[Trial], TrialResult]
) -> None:
    """The untouched model failed; running what failed again brings the gains of the others, which are reused."""

    def fail_untouched(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.untouched else measure(trial)

    job = make_job(confirm=False)
    run(job, measure=fail_untouched)
    ran = run(job, resume="errored")
    assert [trial.untouched for trial in ran.devices.asked[0]] == [True]
    assert_gains(job.trials("val"), job.untouched("val"))
    assert {ran.outcome.results[trial.key].gain is None for trial in job.trials("val")} == {False}


def test_open_gains_are_counted_even_where_nothing_is_left_to_run(
    run: Run, make_job: MakeJob, rows: Rows, assert_gains: AssertGains, measure: Callable[[Trial], TrialResult]
) -> None:
    """Another sweep has measured the untouched model in between."""

    def fail_untouched(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.untouched else measure(trial)

    job = make_job(confirm=False)
    run(job, measure=fail_untouched)
    run(make_job(layer=(3,), confirm=False), resume="errored")
    again = run(job)
    assert again.devices.asked == []
    assert_gains(job.trials("val"), job.untouched("val"))


def test_one_model_by_two_names_has_gains_under_both(
    run: Run, make_job: MakeJob, rows: Rows, assert_gains: AssertGains
) -> None:
    """Names are no part of a key: the untouched model is measured once for both."""
    jobs = [
        make_job(layer=(0,), revision="same", confirm=False),
        make_job(layer=(1,), revision="same", confirm=False, model="alias"),
    ]
    run(*jobs)
    assert len(rows()) == 3
    for job in jobs:
        assert_gains(job.trials("val"), job.untouched("val"))
