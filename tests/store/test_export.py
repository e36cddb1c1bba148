"""`export`: what other programs read."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from laser_sweep.store.reader import read_predictions, read_trials
from laser_sweep.store.schema import TRIALS
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult

Command = Callable[..., "subprocess.CompletedProcess[str]"]
MakeResult = Callable[..., TrialResult]


@pytest.fixture
def filled(store: ParquetStore, make_result: MakeResult, make_failed: MakeResult) -> ParquetStore:
    counted = make_result(0.1)
    counted = replace(counted, metrics=replace(counted.measured(), prediction_counts=(('a "b", c', 3), ("é", 2))))
    for result in (counted, make_result(None), make_failed(0.2, error='line one, "two"\nline three')):
        store.write(result, "sweep", '{"a": 1}')
    return store


def test_csv_has_a_row_for_each_trial_and_lists_as_json(command: Command, filled: ParquetStore) -> None:
    ended = command("export", filled.root)
    assert ended.returncode == 0, ended.stderr
    rows = {row["trial_key"]: row for row in csv.DictReader(io.StringIO(ended.stdout))}
    frame = read_trials(filled.root).set_index("trial_key")
    assert rows.keys() == set(frame.index)
    for key, row in rows.items():
        assert list(row) == TRIALS.names
        edits = json.loads(row["edits"])
        assert [edit["rank"] for edit in edits] == [edit["rank"] for edit in frame.loc[key, "edits"]]
        stored = frame.loc[key, "accuracy"]
        assert row["accuracy"] == ("" if pd.isna(stored) else repr(float(stored)))
        assert row["config_json"] == '{"a": 1}'
    assert 'line one, "two"\nline three' in {row["error"] for row in rows.values()}
    assert {'a "b", c': 3, "é": 2} in [json.loads(row["prediction_counts"] or "null") for row in rows.values()]


def test_json_is_strict_and_holds_lists_as_lists(command: Command, filled: ParquetStore) -> None:
    ended = command("export", filled.root, "--format=json")
    rows = {row["trial_key"]: row for row in json.loads(ended.stdout, parse_constant=lambda name: pytest.fail(name))}
    frame = read_trials(filled.root).set_index("trial_key")
    assert rows.keys() == set(frame.index)
    for key, row in rows.items():
        assert len(row["edits"]) == len(frame.loc[key, "edits"])
        assert row["status"] == frame.loc[key, "status"]
        assert pd.Timestamp(row["finished_at"]) == frame.loc[key, "finished_at"]
    assert {'a "b", c': 3, "é": 2} in [row["prediction_counts"] for row in rows.values()]


@pytest.mark.parametrize("table", ["trials", "predictions"])
def test_parquet_is_a_file_of_the_store(command: Command, filled: ParquetStore, tmp_path: Path, table: str) -> None:
    target = tmp_path / "new" / "table.parquet"
    flags = ["--predictions"] if table == "predictions" else []
    ended = command("export", filled.root, "--format=parquet", "--to", target, *flags)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    own = pq.read_schema(next((filled.root / table).glob("*.parquet")))
    assert pq.read_schema(target).equals(own, check_metadata=True)
    moved = ParquetStore(tmp_path / "moved")
    (moved.root / table).mkdir(parents=True)
    target.rename(moved.root / table / "one.parquet")
    if table == "trials":
        pd.testing.assert_frame_equal(read_trials(moved.root), read_trials(filled.root))
    else:
        for key in read_trials(filled.root)["trial_key"]:
            pd.testing.assert_frame_equal(read_predictions(moved.root, key), read_predictions(filled.root, key))


@pytest.mark.parametrize("form", ["csv", "json"])
def test_predictions_of_all_trials_are_exported(
    command: Command, store: ParquetStore, make_result: MakeResult, form: str
) -> None:
    results = [make_result(rho, examples=40, seed=seed) for seed, rho in enumerate((0.1, 0.2))]
    for result in results:
        store.write(result, "sweep", "{}")
    text = command("export", store.root, "--predictions", f"--format={form}").stdout
    rows = json.loads(text) if form == "json" else list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 80
    for result in results:
        assert result.predictions is not None
        own = [row for row in rows if row["trial_key"] == result.trial.key]
        assert [row["prediction"] for row in own] == list(result.predictions.prediction)
        assert [float(row["gold_log_prob"]) for row in own] == result.predictions.gold_log_prob.tolist()
        assert [str(row["correct"]).lower() for row in own] == [
            str(bool(one)).lower() for one in result.predictions.correct
        ]


def test_a_target_appears_whole_or_stays_as_it_was(
    command: Command, filled: ParquetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "table.json"
    target.parent.mkdir()
    target.write_text("as it was")

    def breaks(*args: object, **kwargs: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("laser_sweep.store.commands.export.json.dumps", breaks)
        ended = command("export", filled.root, "--format=json", "--to", target)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--to=" in ended.stderr
    assert "No space left" in ended.stderr
    assert [(file.name, file.read_text()) for file in target.parent.iterdir()] == [("table.json", "as it was")]
    assert command("export", filled.root, "--format=json", "--to", target).returncode == 0
    assert len(json.loads(target.read_text())) == 3


def test_a_damaged_file_of_predictions_is_left_out(
    command: Command, store: ParquetStore, make_result: MakeResult
) -> None:
    """Its pages are damaged, which shows only while its rows are read."""
    results = [make_result(rho, examples=3000, seed=seed) for seed, rho in enumerate((0.1, 0.2, 0.3))]
    for result in results:
        store.write(result, "sweep", "{}")
    file = store.predictions / f"{results[1].trial.key}.parquet"
    content = bytearray(file.read_bytes())
    content[200:20_000] = bytes(len(content[200:20_000]))
    file.write_bytes(content)
    ended = command("export", store.root, "--predictions")
    assert ended.returncode == 0, ended.stderr
    keys = [row["trial_key"] for row in csv.DictReader(io.StringIO(ended.stdout))]
    assert {key: keys.count(key) for key in keys} == {results[0].trial.key: 3000, results[2].trial.key: 3000}


def test_every_trial_is_there_once_while_others_write_and_merge(
    command: Command, store: ParquetStore, make_result: MakeResult
) -> None:
    known = [make_result(rho / 100, examples=50) for rho in range(1, 30)]
    for result in known:
        store.write(result, "sweep", "{}")
    stop = threading.Event()

    def churn() -> None:
        other = ParquetStore(store.root)
        for number in range(100_000):
            other.write(known[number % len(known)], "sweep", "{}")
            other.write(make_result(0.5 + number / 1e6), "sweep", "{}")
            if number % 10 == 0:
                other.compact()
            if stop.is_set():
                return

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(8):
            for flags in ([], ["--predictions"]):
                ended = command("export", store.root, *flags)
                assert ended.returncode == 0, ended.stderr
                keys = [row["trial_key"] for row in csv.DictReader(io.StringIO(ended.stdout))]
                for result in known:
                    assert keys.count(result.trial.key) == (50 if flags else 1)
    finally:
        stop.set()
        thread.join()
