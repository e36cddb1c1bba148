"""The live view of a store is what reading the whole store again gives, whatever others do to its files."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laser_sweep.dashboard.data import LiveStore
from laser_sweep.errors import RequestError
from laser_sweep.store.reader import read_predictions, read_trials
from laser_sweep.store.schema import TRIALS
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult

from ..measured import done, failed, right, trial, written
from .files import as_older_version, replace

TRIALS_THERE = [trial(), *(trial(("fc_in", layer, rho)) for layer in range(3) for rho in (0.1, 0.2))]
KEYS = [one.key for one in TRIALS_THERE]


def result(number: int, correct: int = 5) -> TrialResult:
    return done(TRIALS_THERE[number], right(correct, 10), right(3, 10), at=number)


def comparable(trials: pd.DataFrame) -> pd.DataFrame:
    """DuckDB and pyarrow have other names for the same times, and arrays or lists of edits."""
    plain = trials.assign(
        edits=[[dict(edit) for edit in edits] for edits in trials["edits"]],
        prediction_counts=[None if counts is None else list(counts) for counts in trials["prediction_counts"]],
    )
    for name in ("started_at", "finished_at"):
        plain[name] = plain[name].astype("datetime64[ms, UTC]")
    return plain


def assert_same(live: pd.DataFrame, again: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(comparable(live), comparable(again), check_dtype=False)


actions = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 6), st.integers(0, 10)),
    st.tuples(st.just("fail"), st.integers(0, 6)),
    st.tuples(st.just("compact")),
    st.tuples(st.just("damage"), st.integers(0, 6)),
    st.tuples(st.just("cut"), st.integers(0, 6)),
    st.tuples(st.just("older"), st.integers(0, 6)),
    st.tuples(st.just("newer"), st.integers(0, 6)),
    st.tuples(st.just("foreign")),
    st.tuples(st.just("remove"), st.integers(0, 6)),
)


def act(store: ParquetStore, name: str, *arguments: int) -> None:
    file = store.trials / f"{KEYS[arguments[0]]}.parquet" if arguments else store.trials / "notes.parquet"
    if name == "write":
        store.write(result(*arguments), "sweep", "{}")
    elif name == "fail":
        store.write(failed(TRIALS_THERE[arguments[0]]), "sweep", "{}")
    elif name == "compact":
        store.compact()
    elif name == "foreign":
        pq.write_table(pa.table({"trial_key": [KEYS[0]], "accuracy": [0.5]}), file)
    elif file.exists():
        if name == "damage":
            file.write_bytes(b"PAR1 no more")
        elif name == "cut":
            file.write_bytes(file.read_bytes()[:-40])
        elif name == "older":
            as_older_version(file)
        elif name == "newer":
            table = pq.read_table(file, partitioning=None)
            replace(file, table.replace_schema_metadata({"laser_sweep_schema": "99"}))
        else:
            file.unlink()


@given(st.lists(actions, max_size=12))
@settings(max_examples=20)
@example([("older", 0), ("older", 1)])  # nothing there is of today
@example([("older", 0), ("older", 0), ("compact",), ("older", 2)])
def test_what_is_followed_is_what_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, ...]]
) -> None:
    root = tmp_path_factory.mktemp("followed")
    store = written(root / "store", [result(0), result(1)])
    live = LiveStore(store.root)
    for action in script:
        act(store, *action)
        # A reader may set damaged files aside, so that each gets a copy of its own.
        shutil.copytree(store.root, root / "copy")
        try:
            again = read_trials(root / "copy")
        except RequestError:  # none are left
            again = TRIALS.empty_table().to_pandas()
        assert_same(live.snapshot().trials, again)
        shutil.rmtree(root / "copy")


def test_nothing_is_read_twice_and_a_snapshot_is_kept_until_something_changes(tmp_path: Path) -> None:
    store = written(tmp_path, [result(0), result(1)])
    live = LiveStore(tmp_path)
    first = live.snapshot()
    assert live.snapshot() is first
    store.write(result(2), "sweep", "{}")
    second = live.snapshot()
    assert second.version > first.version
    assert len(first.trials) == 2  # a page that is being made goes on with what it began with
    assert set(second.trials["trial_key"]) == set(KEYS[:3])
    # Were they read again, these files would be found to be damaged.
    for file in store.trials.iterdir():
        if file.stem != KEYS[2]:
            stat = file.stat()
            file.write_bytes(b"x" * stat.st_size)
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    store.write(result(3), "sweep", "{}")
    assert set(live.snapshot().trials["trial_key"]) == set(KEYS[:4])


def test_a_trial_that_is_run_again_is_read_again_with_its_predictions(tmp_path: Path) -> None:
    store = written(tmp_path, [result(0), result(1, correct=5)])
    live = LiveStore(tmp_path)
    assert live.snapshot().trial(KEYS[1])["accuracy"] == 0.5
    assert live.predictions(KEYS[1])["correct"].sum() == 5
    again = done(TRIALS_THERE[1], right(9, 10), right(3, 10), at=100)
    store.write(again, "sweep", "{}")
    assert live.snapshot().trial(KEYS[1])["accuracy"] == 0.9
    assert live.predictions(KEYS[1])["correct"].sum() == 9


def test_predictions_are_those_of_the_reader_before_and_after_merging(tmp_path: Path) -> None:
    store = written(tmp_path, [result(number) for number in range(4)])
    for _ in range(2):
        live = LiveStore(tmp_path)
        live.snapshot()
        for key in KEYS[:4]:
            pd.testing.assert_frame_equal(live.predictions(key), read_predictions(tmp_path, key), check_dtype=False)
        store.compact()
    live.snapshot()
    (store.predictions / f"{KEYS[0]}.parquet").write_bytes(b"PAR1 no more")
    fresh = LiveStore(tmp_path)
    fresh.snapshot()
    assert len(fresh.predictions(KEYS[0])) == 10  # those of the merged file


def test_only_keys_of_stored_trials_name_files(tmp_path: Path) -> None:
    store = written(tmp_path / "store", [result(0)])
    other = written(tmp_path / "other", [result(1)])
    live = LiveStore(store.root)
    live.snapshot()
    assert (other.predictions / f"{KEYS[1]}.parquet").exists()
    for key in (f"../../other/predictions/{KEYS[1]}", KEYS[1], "", "*", "/etc/passwd", f"{KEYS[0]}.parquet"):
        with pytest.raises(KeyError):
            live.predictions(key)


def test_an_empty_directory_is_followed_until_a_sweep_begins(tmp_path: Path) -> None:
    live = LiveStore(tmp_path)
    assert live.snapshot().trials.empty
    assert list(live.snapshot().trials.columns) == TRIALS.names
    written(tmp_path, [result(0)])
    assert list(live.snapshot().trials["trial_key"]) == [KEYS[0]]


def test_no_trial_is_lost_or_doubled_while_others_write_and_merge(tmp_path: Path) -> None:
    store = written(tmp_path, [result(0)])
    many = [trial(("fc_out", layer, 0.01 * rho)) for layer in range(12) for rho in range(1, 16)]
    finished = threading.Event()
    stored = 1

    def work() -> None:
        nonlocal stored
        for number, one in enumerate(many):
            store.write(failed(one), "sweep", "{}")
            stored += 1
            if number % 20 == 19:
                store.compact()
        finished.set()

    writer = threading.Thread(target=work)
    live = LiveStore(tmp_path)
    seen = 0
    writer.start()
    while not finished.is_set():
        at_least = stored
        keys = live.snapshot().trials["trial_key"]
        assert keys.is_unique
        assert len(keys) >= max(seen, at_least)
        seen = len(keys)
    writer.join()
    assert set(live.snapshot().trials["trial_key"]) == {KEYS[0], *(one.key for one in many)}


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("", "no trial is named"),
        ("zzz", "no trial of this store has a key that begins with zzz"),
        ("../../etc/passwd", "no trial of this store has a key that begins with ../../etc/passwd"),
        ("a" * 500, "begins with " + "a" * 40),
    ],
)
def test_a_key_that_names_no_trial_is_refused_in_words(tmp_path: Path, prefix: str, said: str) -> None:
    snapshot = LiveStore(written(tmp_path, [result(0)]).root).snapshot()
    with pytest.raises(RequestError, match=said):
        snapshot.resolve(prefix)


def test_the_beginning_of_a_key_names_the_trial_when_it_is_the_only_one(tmp_path: Path) -> None:
    many = [trial(("fc_in", layer, 0.5)) for layer in range(40)]
    snapshot = LiveStore(written(tmp_path, [failed(one) for one in many]).root).snapshot()
    keys = sorted(one.key for one in many)
    for key in keys:
        unique = next(key[:n] for n in range(1, 17) if sum(other.startswith(key[:n]) for other in keys) == 1)
        assert snapshot.resolve(unique) == snapshot.resolve(f" {unique.upper()} ") == key
    shared = next(digit for digit in "0123456789abcdef" if sum(key.startswith(digit) for key in keys) > 1)
    count = sum(key.startswith(shared) for key in keys)
    with pytest.raises(RequestError, match=f"{shared} begins the keys of {count} trials: "):
        snapshot.resolve(shared)
