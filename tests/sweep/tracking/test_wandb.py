"""A real W&B run, offline, read back from its own files."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.tracking.tracker import TrackingSpec
from laser_sweep.sweep.tracking.wandb import WandbTracker
from laser_sweep.trial import TrialResult

CONFIG = {
    "model": {"name": "tiny"},
    "dataset": {"name": "colours"},
    "intervention": {"name": "laser"},
    "rho": [0.1],
}
BLOCK = 32768


def records(file: Path) -> Iterator[Record]:
    """The records of a `.wandb` file: a LevelDB log after a header of 7 bytes."""
    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


@pytest.fixture
def results(make_job: Callable[..., Job], answered: Callable[..., TrialResult]) -> list[TrialResult]:
    job = make_job()
    return [
        answered(job.untouched("val"), [True, False], gain=0.0, gain_p_value=1.0),
        answered(job.trials("val")[0], [True, True], gain=0.5, gain_p_value=1.0, log_loss=0.25),
        TrialResult(trial=job.trials("val")[1], status="failed", error="it broke"),
        answered(job.untouched("test"), [False, False]),
    ]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings, key or network of this machine."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "home"))


def run_file(directory: Path) -> Path:
    [file] = directory.glob("wandb/offline-run-*/run-*.wandb")
    return file


def finished_records(file: Path) -> list[Record]:
    """All records of a run that has ended; W&B may still be writing the last ones."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        read = list(records(file))
        if read and read[-1].WhichOneof("record_type") == "exit":
            return read
        time.sleep(0.05)
    raise AssertionError(f"{file} has no end")


def test_an_offline_run_holds_every_trial(
    tmp_path: Path, results: list[TrialResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = WandbTracker(TrackingSpec(kind="wandb", dir=str(tmp_path / "runs"), project="mine"))
    tracker.start("my-sweep", json.dumps(CONFIG))
    for result in results:
        tracker.trial(result)
    where = tracker.finish()

    file = run_file(tmp_path / "runs")
    assert where is not None
    assert "wandb sync" in where
    assert file.parent.name in where

    read = finished_records(file)
    run = next(record.run for record in read if record.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name, run.run_group, run.job_type) == ("mine", "my-sweep", "my-sweep", "sweep")
    assert set(run.tags) == {"tiny", "colours", "laser"}

    history = [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in read
        if record.WhichOneof("record_type") == "history"
    ]
    trials = [row for row in history if "trial_key" in row]
    assert [row["trial_key"] for row in trials] == [result.trial.key for result in results]
    assert [row["trial"] for row in trials] == [1, 2, 3, 4]
    assert [row["status"] for row in trials] == ["done", "done", "failed", "done"]
    assert (trials[1]["tau"], trials[1]["layer"], trials[1]["rho"]) == ("fc_in", 0, 0.1)
    assert (trials[1]["val/accuracy"], trials[1]["val/log_loss"], trials[1]["val/gain"]) == (1.0, 0.25, 0.5)
    assert "val/accuracy" not in trials[2]
    assert trials[3]["test/accuracy"] == 0.0

    [table_file] = file.parent.rglob("*.table.json")
    table = json.loads(table_file.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["trial_key"] for row in rows] == [result.trial.key for result in results]
    assert [row["accuracy"] for row in rows] == [0.5, 1.0, None, 0.0]


def test_without_a_key_the_run_is_offline(tmp_path: Path, results: list[TrialResult]) -> None:
    tracker = WandbTracker(TrackingSpec(kind="wandb", mode="auto", dir=str(tmp_path)))
    tracker.start("my-sweep", json.dumps(CONFIG))
    tracker.trial(results[0])
    tracker.finish()
    assert any(record.WhichOneof("record_type") == "history" for record in finished_records(run_file(tmp_path)))


def test_the_environment_wins_over_the_configuration(
    tmp_path: Path, results: list[TrialResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = WandbTracker(TrackingSpec(kind="wandb", mode="offline", dir=str(tmp_path)))
    tracker.start("my-sweep", json.dumps(CONFIG))
    tracker.trial(results[0])
    tracker.finish()
    assert not list(tmp_path.rglob("*.wandb"))


def test_a_tracker_that_never_started_has_nothing_to_say(results: list[TrialResult]) -> None:
    tracker = WandbTracker(TrackingSpec(kind="wandb"))
    tracker.trial(results[0])
    assert tracker.finish() is None
    assert wandb.run is None
