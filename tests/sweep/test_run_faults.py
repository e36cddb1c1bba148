"""What a sweep does about failures: of trials, of the store, and of other sweeps on the same store."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from laser_sweep.errors import StoreError
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep import measure as measure_module
from laser_sweep.sweep.jobs import Job
from laser_sweep.trial import Trial, TrialResult

Run = Callable[..., Any]
Rig = Callable[..., Any]
MakeJob = Callable[..., Job]
Rows = Callable[[], pd.DataFrame]
Measure = Callable[[Trial], TrialResult]


def failing_in_layer(layer: int, measure: Measure) -> Measure:
    def broken(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.layer == layer else measure(trial)

    return broken


def test_a_failed_trial_stops_nothing_unless_asked(run: Run, make_job: MakeJob, measure: Measure, rows: Rows) -> None:
    ran = run(make_job(), measure=failing_in_layer(1, measure))
    assert not ran.outcome.cut_short
    assert sorted(rows()["status"]) == ["done"] * 5 + ["failed"]
    assert ran.outcome.confirmed


def test_on_error_stop_ends_with_the_first_failure_and_the_same_line_runs_the_rest(
    rig: Rig, make_job: MakeJob, measure: Measure, rows: Rows
) -> None:
    first = rig(failing_in_layer(1, measure), on_error="stop").run(make_job())
    assert first.outcome.gave_up
    assert not first.outcome.interrupted
    assert not first.outcome.confirmed
    assert rows().set_index("layer", append=True).loc[(slice(None), [0, 1]), "status"].tolist().count("failed") == 1
    assert len(rows()) == 3  # untouched, layer 0, and layer 1, which failed
    assert any("on_error=stop" in note for note in first.progress.notes)
    again = rig(measure, on_error="stop").run(make_job())  # a failure that is stored is no new one
    assert not again.outcome.cut_short
    assert [trial.layer for trial in again.devices.asked[0]] == [2]
    assert len(again.outcome.confirmed[0]) == 1


class FullDisk(ParquetStore):
    """A store that cannot write a trial at its first `failures` attempts."""

    failures = 0

    def write(self, result: TrialResult, sweep: str, config_json: str) -> None:
        if result.trial.layer == 1 and self.failures > 0:
            self.failures -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(result, sweep, config_json)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "_WRITE_AGAIN_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(measure_module, "_POLL_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_a_store_that_cannot_be_written_for_a_moment_loses_nothing(
    rig: Rig, store: ParquetStore, make_job: MakeJob, rows: Rows
) -> None:
    parts = rig()
    parts.store = FullDisk(store.root)
    parts.store.failures = 2
    parts.run(make_job())
    assert len(rows()) == 6
    assert sum("the store cannot be written: [Errno 28]" in note for note in parts.progress.notes) == 2


@pytest.mark.usefixtures("quick")
def test_a_store_that_cannot_be_written_any_more_ends_the_sweep_with_one_line_and_keeps_what_is_stored(
    rig: Rig, store: ParquetStore, make_job: MakeJob, rows: Rows, run: Run
) -> None:
    parts = rig()
    parts.store = FullDisk(store.root)
    parts.store.failures = 1000
    with pytest.raises(
        StoreError, match=r"No space left on device; what is stored is kept, and the same command"
    ) as full:
        parts.run(make_job())
    assert "\n" not in str(full.value)
    assert parts.devices.closed == 1
    assert set(rows()["layer"].dropna()) == {0}
    assert not (store.root / "running").exists()
    again = run(make_job())
    assert [trial.layer for trial in again.devices.asked[0]] == [1, 2]


# Two sweeps on one store


@pytest.mark.usefixtures("quick")
def test_two_sweeps_share_the_work_and_each_trial_is_run_once(
    rig: Rig, store: ParquetStore, make_job: MakeJob, measure: Measure, rows: Rows
) -> None:
    ran: dict[int, list[str]] = {0: [], 1: []}

    def slowly(number: int) -> Measure:
        def run(trial: Trial) -> TrialResult:
            time.sleep(0.02)
            ran[number].append(trial.key)
            return measure(trial)

        return run

    job = make_job(layer=range(3), rho=[place / 20 for place in range(1, 16)])
    sweeps = [rig(slowly(number)) for number in (0, 1)]
    for one in sweeps:
        one.store = ParquetStore(store.root)
    threads = [threading.Thread(target=one.run, args=(job,)) for one in sweeps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(ran[0]) + len(ran[1]) == len(set(ran[0]) | set(ran[1])) == len(rows()) == 45 + 1 + 2
    assert min(len(ran[0]), len(ran[1])) > 10
    for one in sweeps:
        assert not one.outcome.cut_short
        assert one.outcome.ran + one.outcome.reused == 48
        assert one.outcome.confirmed[0][0].winner.trial == sweeps[0].outcome.confirmed[0][0].winner.trial
    assert rows()["gain"].notna().sum() == 48
    assert not (store.root / "running").exists()


@pytest.mark.usefixtures("quick")
def test_what_another_sweep_gives_up_is_run_here(
    rig: Rig, store: ParquetStore, make_job: MakeJob, measure: Measure, rows: Rows
) -> None:
    job = make_job()
    abandoned = ParquetStore(store.root)
    first, second, _ = job.trials("val")
    assert abandoned.claim(first, again=False)
    going_on = ParquetStore(store.root)
    assert going_on.claim(second, again=False)

    def go_on() -> None:
        going_on.write(replace(measure(second), gain=0.2, gain_p_value=1.0), "s", "{}")
        going_on.leave()

    parts = rig()
    threading.Timer(0.5, abandoned.leave).start()
    threading.Timer(1.5, go_on).start()
    parts.run(job)
    assert len(rows()) == 6
    assert parts.outcome.reused == 1
    assert {trial.layer for trial in parts.devices.asked[1]} == {0, 1}
    assert "waiting for what another sweep runs on this store: 2 trials" in parts.progress.notes
    assert [one.trial.layer for one in parts.outcome.ranked(parts.outcome.comparisons[0])] == [2, 1, 0, None]


@pytest.mark.usefixtures("quick")
def test_gains_are_counted_from_an_untouched_model_that_another_sweep_measures(
    rig: Rig, store: ParquetStore, make_job: MakeJob, measure: Measure, assert_gains: Callable[..., None]
) -> None:
    job = make_job()
    other = ParquetStore(store.root)
    assert other.claim(job.untouched("val"), again=False)

    def write_later() -> None:
        other.write(replace(measure(job.untouched("val")), gain=0.0, gain_p_value=1.0), "s", "{}")
        other.leave()

    parts = rig()
    threading.Timer(0.5, write_later).start()
    parts.run(job)
    assert parts.outcome.reused == 1
    assert_gains(job.trials("val"), job.untouched("val"))
    assert np.isfinite(parts.outcome.confirmed[0][0].gain.gain)
