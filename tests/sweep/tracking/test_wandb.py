"""Real W&B runs, offline, read back by W&B's own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.tracking.tracker import Granularity, GuardedTracker, TrackingSpec
from laser_sweep.sweep.tracking.wandb import WandbTracker
from laser_sweep.trial import TrialResult

Inspect = Callable[[Path], list[dict[str, Any]]]

CONFIG = {
    "model": {"name": "tiny"},
    "dataset": {"name": "colours"},
    "intervention": {"name": "laser"},
    "tau": ["fc_in"],
    "layer": "each",
    "rho": [0.1],
}


def spec(directory: Path, granularity: Granularity = "sweep", **changes: Any) -> TrackingSpec:
    return TrackingSpec(kind="wandb", dir=str(directory), granularity=granularity, **changes)


def tell(tracker: WandbTracker | GuardedTracker, results: list[TrialResult], sweep: str = "my-sweep") -> str | None:
    tracker.start(sweep, json.dumps(CONFIG))
    for result in results:
        tracker.trial(result, sweep, json.dumps(CONFIG))
    return tracker.finish()


def run_of(directory: Path) -> Path:
    [run] = directory.glob("wandb/offline-run-*")
    return run


def of_type(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def history(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["item"] for one in of_type(records, "history")]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for one in of_type(records, "summary"):
        merged |= one["update"]
    return merged


# A run for a sweep


def test_a_run_for_a_sweep_holds_every_trial_once(
    tmp_path: Path, results: list[TrialResult], monkeypatch: pytest.MonkeyPatch, inspect: Inspect
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    where = tell(WandbTracker(spec(tmp_path / "runs", project="mine")), results)

    directory = run_of(tmp_path / "runs")
    assert where is not None
    assert "wandb sync" in where
    assert directory.name in where

    records = inspect(directory)
    [run] = of_type(records, "run")
    assert (run["project"], run["display_name"], run["run_group"], run["job_type"]) == (
        "mine", "my-sweep", "my-sweep", "sweep",
    )  # fmt: skip
    assert set(run["tags"]) == {"tiny", "colours", "laser"}
    assert run["config"]["update"]["rho"] == [0.1]

    trials = history(records)
    assert [row["trial_key"] for row in trials] == [result.trial.key for result in results]
    assert [row["trial"] for row in trials] == [1, 2, 3, 4]
    assert [row["status"] for row in trials] == ["done", "done", "failed", "done"]
    assert (trials[1]["tau"], trials[1]["layer"], trials[1]["rho"]) == ("fc_in", 0, 0.1)
    assert (trials[1]["val/accuracy"], trials[1]["val/log_loss"], trials[1]["val/gain"]) == (1.0, 0.25, 0.5)
    assert not any(name.startswith("val/") for name in trials[2])
    assert trials[3]["test/accuracy"] == 0.0

    [table_file] = directory.rglob("*.table.json")
    table = json.loads(table_file.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["trial_key"] for row in rows] == [result.trial.key for result in results]
    assert [row["accuracy"] for row in rows] == [0.5, 1.0, None, 0.0]
    assert [row["error"] for row in rows] == [None, None, "it broke", None]


def test_the_summary_of_a_sweep_is_the_best_that_was_measured(
    tmp_path: Path, results: list[TrialResult], inspect: Inspect
) -> None:
    tell(WandbTracker(spec(tmp_path)), [*results[:2], results[0]])
    records = inspect(run_of(tmp_path))
    found = summary(records)
    assert found["val/accuracy"] == {"max": 1.0}
    assert found["val/gain"] == {"max": 0.5}
    assert found["val/log_loss"] == {"min": 0.25}
    metrics = {one.get("name") or one.get("glob_name"): one for one in of_type(records, "metric")}
    assert metrics["val/accuracy"]["summary"] == {"max": True}
    assert metrics["val/log_loss"]["summary"] == {"min": True}
    assert metrics["val/*"]["step_metric"] == "trial"


def test_a_rung_of_a_search_and_the_data_set_of_a_guard_do_not_count_as_the_sweeps_own_figures(
    tmp_path: Path, make_job: Callable[..., Job], answered: Callable[..., TrialResult], inspect: Inspect
) -> None:
    own, guard = make_job(), make_job(dataset="elsewhere")
    candidate = own.space.grid()[0]
    answers = [
        answered(own.trial(candidate, "val"), [True, False]),
        answered(own.trial(candidate, "val", 4), [True] * 4),
        answered(guard.trial(candidate, "val"), [True] * 4),
    ]
    tell(WandbTracker(spec(tmp_path)), answers)
    records = inspect(run_of(tmp_path))
    assert summary(records)["val/accuracy"] == {"max": 0.5}
    under = [[name for name in row if name.endswith("/accuracy")] for row in history(records)]
    assert under == [["val/accuracy"], ["val_4/accuracy"], ["elsewhere/val/accuracy"]]


def test_a_sweep_that_may_use_a_part_of_val_calls_that_part_val(
    tmp_path: Path, make_job: Callable[..., Job], answered: Callable[..., TrialResult], inspect: Inspect
) -> None:
    result = answered(make_job(limit=4).untouched("val"), [True] * 4)
    tracker = WandbTracker(spec(tmp_path))
    tracker.trial(result, "s", json.dumps({**CONFIG, "evaluation": {"limit": 4}}))
    tracker.finish()
    assert history(inspect(run_of(tmp_path)))[0]["val/accuracy"] == 1.0


def test_a_grid_ends_with_a_heat_map_for_each_matrix_type(
    tmp_path: Path, make_job: Callable[..., Job], answered: Callable[..., TrialResult]
) -> None:
    job = make_job(tau=("fc_in", "fc_out"), layer=(0, 1), rho=(0.1, 0.5))
    line = make_job(tau=("q_proj",), layer=(0, 1), rho=(0.1,))
    trials = [*job.trials("val"), *line.trials("val")]
    answers = [answered(job.untouched("val"), [False, True])]
    answers += [answered(trial, [True, True], gain=0.5, gain_p_value=1.0) for trial in trials]
    tell(WandbTracker(spec(tmp_path)), answers)
    maps = run_of(tmp_path).glob("files/media/plotly/heat_map/tiny/colours/*.json")
    assert sorted(file.name.rpartition("_")[0].rpartition("_")[0] for file in maps) == ["fc_in", "fc_out"]


def test_sweeps_of_one_command_have_a_run_each(tmp_path: Path, results: list[TrialResult], inspect: Inspect) -> None:
    tracker = WandbTracker(spec(tmp_path))
    tracker.start("one", json.dumps(CONFIG))
    for number, result in enumerate(results):
        tracker.trial(result, ("one", "two")[number % 2], json.dumps({**CONFIG, "seed": number}))
    where = tracker.finish()
    runs = {}
    for run in tmp_path.glob("wandb/offline-run-*"):
        records = inspect(run)
        name = of_type(records, "run")[0]["display_name"]
        runs[name] = [row["trial_key"] for row in history(records)]
        assert run.name in str(where)
    keys = [result.trial.key for result in results]
    assert runs == {"one": keys[::2], "two": keys[1::2]}


# A run for each trial


def test_runs_for_trials_hold_every_trial_once(tmp_path: Path, results: list[TrialResult], inspect: Inspect) -> None:
    where = tell(WandbTracker(spec(tmp_path, "trial", project="mine")), results)
    assert where is not None
    assert "4 W&B runs" in where
    found = {}
    for directory in tmp_path.glob("wandb/offline-run-*"):
        records = inspect(directory)
        [run] = of_type(records, "run")
        found[run["run_id"]] = (run, summary(records))
        assert not history(records)
        assert run["resume"]  # when it is uploaded, it adds to the run of that trial if there is one
        assert (run["project"], run["run_group"], run["job_type"]) == ("mine", "my-sweep", "trial")
    assert found.keys() == {result.trial.key for result in results}

    run, measured = found[results[1].trial.key]
    assert run["display_name"] == "fc_in[0] rho=0.1"
    assert set(run["tags"]) == {"tiny", "colours", "laser", "fc_in", "val"}
    config = run["config"]["update"]
    assert (config["tau"], config["layer"], config["rho"], config["split"]) == ("fc_in", 0, 0.1, "val")
    assert config["trial"]["edits"] == [{"tau": "fc_in", "layer": 0, "rho": 0.1, "method": "laser", "options": {}}]
    assert config["trial"]["evaluation"]["revision"] == results[1].trial.evaluation.revision
    assert config["model"] == {"name": "tiny"}
    assert (measured["val/accuracy"], measured["val/log_loss"], measured["val/gain"]) == (1.0, 0.25, 0.5)
    assert measured["status"] == "done"

    _, failed = found[results[2].trial.key]
    assert (failed["status"], failed["error"]) == ("failed", "it broke")
    assert not any("/" in name for name in failed)
    assert found[results[3].trial.key][1]["test/accuracy"] == 0.0


def test_a_trial_that_runs_again_keeps_its_run(tmp_path: Path, results: list[TrialResult], inspect: Inspect) -> None:
    for _ in range(2):
        tell(WandbTracker(spec(tmp_path, "trial")), results[:1])
        time.sleep(1)  # W&B names the directory by the second
    runs = [of_type(inspect(run), "run")[0]["run_id"] for run in tmp_path.glob("wandb/offline-run-*")]
    assert runs == [results[0].trial.key] * 2


# Where it goes


@pytest.mark.parametrize("granularity", ["sweep", "trial"])
def test_without_a_key_runs_are_offline(
    tmp_path: Path, results: list[TrialResult], granularity: Granularity, inspect: Inspect
) -> None:
    tell(WandbTracker(spec(tmp_path, granularity, mode="auto")), results[:1])
    assert of_type(inspect(run_of(tmp_path)), "summary")


def test_the_environment_wins_over_the_configuration(
    tmp_path: Path, results: list[TrialResult], monkeypatch: pytest.MonkeyPatch, inspect: Inspect
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tell(WandbTracker(spec(tmp_path / "none", mode="offline")), results[:1])
    assert not list(tmp_path.rglob("*.wandb"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "them")
    tell(WandbTracker(spec(tmp_path, mode="online", project="mine", entity="me")), results[:1])
    [run] = of_type(inspect(run_of(tmp_path)), "run")
    assert (run["project"], run["entity"]) == ("theirs", "them")


def test_a_name_that_is_too_long_for_a_tag_does_not_stop_tracking(
    tmp_path: Path, results: list[TrialResult], inspect: Inspect
) -> None:
    tracker = WandbTracker(spec(tmp_path))
    tracker.start("s", json.dumps({**CONFIG, "model": {"name": "m" * 100}, "dataset": {"name": None}}))
    tracker.finish()
    [run] = of_type(inspect(run_of(tmp_path)), "run")
    assert run["tags"] == ["m" * 64, "laser"]


@pytest.mark.parametrize("granularity", ["sweep", "trial"])
def test_a_tracker_that_was_told_nothing_has_nothing_to_say(granularity: Granularity) -> None:
    assert WandbTracker(TrackingSpec(kind="wandb", granularity=granularity)).finish() is None
    assert wandb.run is None


# When it fails


@pytest.mark.parametrize("granularity", ["sweep", "trial"])
def test_a_service_that_dies_is_reported_once_and_stops_nothing(
    tmp_path: Path, results: list[TrialResult], granularity: Granularity, kill_service: Callable[[int], None]
) -> None:
    warnings: list[str] = []
    tracker = GuardedTracker(WandbTracker(spec(tmp_path, granularity)), warnings.append)
    tracker.start("s", json.dumps(CONFIG))
    tracker.trial(results[0], "s", json.dumps(CONFIG))
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("wandb/offline-run-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    kill_service(os.getpid())
    for result in results[1:]:
        tracker.trial(result, "s", json.dumps(CONFIG))
    assert tracker.finish() is None
    assert len(warnings) == 1
    assert tell(WandbTracker(spec(tmp_path / "next")), results) is not None  # a new service takes its place


HUNG = """
import sys, time
from pathlib import Path
import psutil
from laser_sweep.sweep.tracking.tracker import GuardedTracker, TrackingSpec
from laser_sweep.sweep.tracking.wandb import WandbTracker

directory = sys.argv[1]  # now: the tracker hides the arguments from wandb while it starts, in another thread
tracker = GuardedTracker(WandbTracker(TrackingSpec(kind="wandb", mode="offline", dir=directory)), print, patience=3)
tracker.start("s", "{}")
while not list(Path(directory).glob("wandb/offline-run-*/*.wandb")):
    time.sleep(0.01)
for one in psutil.Process().children():
    if one.name() == "wandb-core":
        one.suspend()
print(tracker.finish())
"""


def test_a_service_that_hangs_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run(
        [sys.executable, "-c", HUNG, str(tmp_path)], env=alone, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    warning, said = done.stdout.splitlines()
    assert warning.startswith("tracking stopped, the sweep goes on: no answer for 3 s;")
    assert said == "None"


def test_what_was_told_before_a_failure_can_be_uploaded(
    tmp_path: Path, results: list[TrialResult], inspect: Inspect
) -> None:
    """The real `finish` closes the run after any call has failed."""
    tracker = WandbTracker(spec(tmp_path))
    warnings: list[str] = []
    guarded = GuardedTracker(tracker, warnings.append)
    guarded.start("s", json.dumps(CONFIG))
    guarded.trial(results[0], "s", json.dumps(CONFIG))
    guarded.trial(results[1], "s", "not JSON")
    guarded.trial(results[3], "s", json.dumps(CONFIG))
    where = guarded.finish()
    assert len(warnings) == 1
    directory = run_of(tmp_path)
    assert where is not None
    assert directory.name in where
    records = inspect(directory)  # which have an end
    assert [row["trial_key"] for row in history(records)] == [results[0].trial.key]
