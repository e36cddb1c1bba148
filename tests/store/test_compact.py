"""Merging small files: at every moment each trial is readable exactly once, in its newest version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from laser_sweep.store.reader import read_predictions, read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Trial, TrialResult

MakeResult = Callable[..., TrialResult]


@pytest.fixture
def results(trials_of_every_first_digit: list[Trial], make_result: MakeResult) -> list[TrialResult]:
    """The first version of 16 trials."""
    return [
        replace(make_result(trial=trial, seed=seed, examples=20), attempt=1)
        for seed, trial in enumerate(trials_of_every_first_digit)
    ]


@pytest.fixture
def reruns(results: list[TrialResult], make_result: MakeResult) -> list[TrialResult]:
    """The second version of each, with other answers."""
    return [
        replace(make_result(trial=result.trial, seed=100 + seed, examples=20), attempt=2)
        for seed, result in enumerate(results)
    ]


def write(store: ParquetStore, results: list[TrialResult]) -> None:
    for result in results:
        store.write(result, "sweep", "{}")


def assert_holds(store: ParquetStore, expected: list[TrialResult]) -> None:
    """Every way of reading gives each trial once, in the expected version."""
    attempts = {result.trial.key: result.attempt for result in expected}
    found = store.find([result.trial for result in expected])
    assert {key: result.attempt for key, result in found.items()} == attempts
    frame = read_trials(store.root)
    assert sorted(frame["trial_key"]) == sorted(attempts)
    assert dict(zip(frame["trial_key"], frame["attempt"], strict=True)) == attempts
    for result in expected[::5]:  # keys that begin with 0, 5, a and f
        assert result.predictions is not None
        scores = store.scores(result.trial.key)
        assert scores is not None
        np.testing.assert_array_equal(scores.scores, result.predictions.correct)
        predictions = read_predictions(store.root, result.trial.key)
        assert predictions["example_id"].tolist() == list(result.predictions.example_id)
        assert predictions["correct"].tolist() == result.predictions.correct.tolist()


def files(store: ParquetStore) -> dict[str, int]:
    return {directory.name: len(list(directory.glob("*"))) for directory in (store.trials, store.predictions)}


def test_compaction_merges_each_table_into_one_file_with_the_same_rows(
    store: ParquetStore, results: list[TrialResult]
) -> None:
    write(store, results)
    before = {
        directory: pd.read_parquet(directory).sort_values("trial_key", kind="stable").reset_index(drop=True)
        for directory in (store.trials, store.predictions)
    }
    assert store.compact() == 16
    assert files(store) == {"trials": 1, "predictions": 1}
    for directory, frame in before.items():
        after = pd.read_parquet(directory).sort_values("trial_key", kind="stable").reset_index(drop=True)
        pd.testing.assert_frame_equal(after, frame)
    assert_holds(store, results)


def test_the_merged_file_keeps_the_mark_of_the_schema(store: ParquetStore, results: list[TrialResult]) -> None:
    write(store, results)
    store.compact()
    [file] = store.trials.glob("*.parquet")
    assert pq.read_schema(file).metadata[b"laser_sweep_schema"] == b"4"


def test_each_trial_is_read_once_while_merged_and_small_files_coexist(
    store: ParquetStore, results: list[TrialResult], tmp_path: Path
) -> None:
    write(store, results)
    shutil.copytree(store.root, tmp_path / "before")
    store.compact()
    shutil.copytree(tmp_path / "before", store.root, dirs_exist_ok=True)
    assert files(store) == {"trials": 17, "predictions": 17}
    assert_holds(store, results)


def test_compacting_again_changes_nothing(store: ParquetStore, results: list[TrialResult]) -> None:
    write(store, results)
    store.compact()
    before = {file: file.read_bytes() for file in store.root.rglob("*.parquet")}
    assert store.compact() == 0
    assert {file: file.read_bytes() for file in store.root.rglob("*.parquet")} == before


def test_compacting_an_interrupted_compaction_ends_in_one_file(
    store: ParquetStore, results: list[TrialResult], tmp_path: Path
) -> None:
    write(store, results)
    shutil.copytree(store.root, tmp_path / "before")
    store.compact()
    shutil.copytree(tmp_path / "before", store.root, dirs_exist_ok=True)
    store.compact()
    assert files(store) == {"trials": 1, "predictions": 1}
    assert_holds(store, results)


def test_a_trial_that_is_run_again_after_compaction_wins(
    store: ParquetStore, results: list[TrialResult], reruns: list[TrialResult]
) -> None:
    write(store, results)
    store.compact()
    write(store, reruns)
    assert_holds(store, reruns)


def test_the_newer_version_survives_the_next_compaction(
    store: ParquetStore, results: list[TrialResult], reruns: list[TrialResult]
) -> None:
    write(store, results)
    store.compact()
    write(store, reruns[::2])
    store.compact()
    assert files(store) == {"trials": 1, "predictions": 1}
    assert_holds(store, [(reruns if i % 2 == 0 else results)[i] for i in range(16)])


def test_a_trial_that_fails_when_run_again_after_compaction_counts_as_failed(
    store: ParquetStore,
    results: list[TrialResult],
    make_failed: Callable[..., TrialResult],
) -> None:
    write(store, results)
    store.compact()
    failed = [make_failed(trial=result.trial) for result in results]
    write(store, failed)
    assert {result.status for result in store.find([r.trial for r in failed]).values()} == {"failed"}


def test_a_single_file_is_not_rewritten(store: ParquetStore, results: list[TrialResult]) -> None:
    write(store, results[:1])
    assert store.compact() == 0
    assert [file.name for file in store.trials.iterdir()] == [f"{results[0].trial.key}.parquet"]


@pytest.mark.parametrize("damage", ["truncated", "garbled"])
def test_a_damaged_file_does_not_stop_compaction(store: ParquetStore, results: list[TrialResult], damage: str) -> None:
    write(store, results)
    bad = store.trials / f"{results[3].trial.key}.parquet"
    content = bad.read_bytes()
    # Garbled: the footer is whole, so that the damage shows only when the rows are read.
    bad.write_bytes(content[:100] if damage == "truncated" else content[:4] + b"\xff" * 400 + content[404:])
    assert store.compact() == 15
    assert set(store.find([r.trial for r in results])) == {r.trial.key for r in results} - {results[3].trial.key}


@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 4])
def test_a_compaction_that_dies_between_deletions_leaves_the_newest_versions(
    store: ParquetStore,
    results: list[TrialResult],
    reruns: list[TrialResult],
    monkeypatch: pytest.MonkeyPatch,
    allowed: int,
) -> None:
    """An old merged file holds first versions of trials that have been run again since."""
    chosen = [0, 7, 10, 15]
    write(store, results)
    store.compact()
    write(store, [reruns[i] for i in chosen])
    expected = [(reruns if i in chosen else results)[i] for i in range(16)]
    unlink = Path.unlink
    left = allowed

    def stop(self: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if self.suffix == ".parquet" and self.parent == store.trials:
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
        unlink(self, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            store.compact()
    assert_holds(store, expected)
    store.compact()
    assert_holds(store, expected)


def test_a_trial_that_is_written_during_compaction_is_not_lost(
    store: ParquetStore, results: list[TrialResult], reruns: list[TrialResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process stores new versions after compaction has read the old ones and before it deletes them."""
    write(store, results)
    write_table = pq.write_table
    once = iter([True])

    def write_meanwhile(table: object, where: Path, **options: object) -> None:
        write_table(table, where, **options)
        if next(once, False):
            write(store, reruns)

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", write_meanwhile)
        store.compact()
    assert_holds(store, reruns)


def test_two_compactions_at_once_lose_nothing(
    store: ParquetStore, results: list[TrialResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one does all its work after the first has listed the files."""
    write(store, results)
    glob = Path.glob
    once = iter([True])

    def compact_after_listing(self: Path, pattern: str) -> Iterator[Path]:
        listed = list(glob(self, pattern))
        if next(once, False):
            ParquetStore(store.root).compact()
        return iter(listed)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", compact_after_listing)
        store.compact()
    assert_holds(store, results)


def test_compaction_sweeps_up_what_a_killed_process_left_half_written(
    results: list[TrialResult], tmp_path: Path
) -> None:
    store = ParquetStore(tmp_path)
    write(store, results[:2])
    old, new = (store.trials / f".{name}.parquet.1-2.tmp" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.compact()
    assert (old.exists(), new.exists()) == (False, True)  # the new one may be in the making
    assert_holds(store, results[:2])


def test_a_slow_compaction_does_not_bring_old_versions_back(
    store: ParquetStore, results: list[TrialResult], reruns: list[TrialResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it has read but not written, trials are stored again and merged by another compaction."""
    write(store, results)
    write_table = pq.write_table
    once = iter([True])

    def be_overtaken(table: object, where: Path, **options: object) -> None:
        if next(once, False):
            write(store, reruns)
            ParquetStore(store.root).compact()
        write_table(table, where, **options)

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", be_overtaken)
        store.compact()
    assert_holds(store, reruns)


@pytest.mark.parametrize("read", ["find", "scores", "read_trials", "read_predictions"])
def test_a_reader_that_lists_the_files_just_before_they_are_merged_misses_nothing(
    store: ParquetStore, results: list[TrialResult], monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    write(store, results)
    glob = Path.glob
    once = iter([True])

    def compact_after_listing(self: Path, pattern: str) -> Iterator[Path]:
        listed = list(glob(self, pattern))
        if next(once, False):
            ParquetStore(store.root).compact()
        return iter(listed)

    key = results[5].trial.key
    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", compact_after_listing)
        count = {
            "find": lambda: len(store.find([result.trial for result in results])),
            "scores": lambda: len(getattr(store.scores(key), "scores", [])),
            "read_trials": lambda: len(read_trials(store.root)),
            "read_predictions": lambda: len(read_predictions(store.root, key)),
        }[read]()
    assert count == {"find": 16, "scores": 20, "read_trials": 16, "read_predictions": 20}[read]


def test_files_that_are_merged_away_under_duckdb_are_read_in_their_merged_form(
    store: ParquetStore, results: list[TrialResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, results)
    connect = duckdb.connect
    once = iter([True])

    def compact_before_reading(*args: object, **kwargs: object) -> object:
        if next(once, False):
            store.compact()
        return connect(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(duckdb, "connect", compact_before_reading)
        assert sorted(read_trials(store.root)["trial_key"]) == sorted(result.trial.key for result in results)


def test_a_reader_beside_a_process_that_writes_and_compacts_always_sees_every_stored_trial(
    store: ParquetStore, results: list[TrialResult]
) -> None:
    """A real race for a while: another process writes the rows again and compacts, without end."""
    write(store, results)
    body = """
import sys
from pathlib import Path
from laser_sweep.store.store import ParquetStore
store = ParquetStore(sys.argv[1])
temporary = store.trials / ".again.tmp"
while not Path(sys.argv[2]).exists():
    store.compact()
    [merged] = store.trials.glob("*.parquet")
    # What another sweep does: the same rows again, in a file of their own.
    temporary.write_bytes(merged.read_bytes())
    temporary.rename(store.trials / "0000000000000000.parquet")
"""
    stop = store.root / "stop"
    other = subprocess.Popen([sys.executable, "-c", body, str(store.root), str(stop)])
    wanted = [result.trial for result in results]
    counts: list[tuple[int, int]] = []
    timer = threading.Timer(1.5, stop.touch)
    timer.start()
    try:
        while not stop.exists():
            counts.append((len(store.find(wanted)), len(read_trials(store.root))))
    finally:
        stop.touch()
        timer.cancel()
        assert other.wait(timeout=60) == 0
    assert set(counts) == {(16, 16)}
