"""Writing and finding results: whole or not at all, whatever else lies in the directory."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laser_sweep.errors import RequestError
from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Trial, TrialResult

MakeTrial = Callable[..., Trial]
MakeResult = Callable[..., TrialResult]

CHILD = """
import os, sys
from pathlib import Path
import numpy as np
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import *

def result(number, accuracy):
    trial = Trial(
        model=ModelId(name="tiny", repo="owner/tiny", revision="0123abcd", dtype="float32"),
        edits=(Edit(matrix=Matrix("fc_in", 3), rho=number / 1000),),
        evaluation=Evaluation(dataset="colours", revision="feedbeef", split="val"),
    )
    n = 50
    predictions = Predictions(
        example_id=tuple(map(str, range(n))), prediction=("p",) * n, gold=("g",) * n,
        correct=np.arange(n) < accuracy * n, gold_log_prob=np.zeros(n), gold_rank=np.zeros(n, dtype=np.int64),
        gold_length=np.ones(n, dtype=np.int64), text_rank=np.zeros(n, dtype=np.int64), f1=np.full(n, np.nan),
        group=(None,) * n, subject=(None,) * n, relation=(None,) * n, frequency=(None,) * n,
    )
    metrics = Metrics(num_examples=n, accuracy=accuracy, accuracy_stderr=0.1, log_loss=1.0)
    made = Footprint(rank=4, parameters=40)
    return TrialResult(trial=trial, status="done", metrics=metrics, predictions=predictions, footprints=(made,))

store = ParquetStore(sys.argv[1])
"""
"""The beginning of a process that writes to the store named by its first argument."""


def run_child(body: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD + textwrap.dedent(body), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def visible(directory: Path) -> set[str]:
    return {file.name for file in directory.glob("*") if not file.name.startswith(".")}


def hidden(directory: Path) -> set[str]:
    return {file.name for file in directory.glob(".*")}


# Finding


def test_only_the_asked_trials_are_found(store: ParquetStore, make_trial: MakeTrial, make_result: MakeResult) -> None:
    for rho in (0.1, 0.2, 0.3):
        store.write(make_result(rho), "sweep", "{}")
    asked = [make_trial(0.1), make_trial(0.3), make_trial(0.9)]
    assert set(store.find(asked)) == {asked[0].key, asked[1].key}


def test_an_empty_place_holds_no_result(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = ParquetStore(tmp_path / "never")
    assert store.find([make_trial()]) == {}
    assert store.scores(make_trial().key) is None
    assert not (tmp_path / "never").exists()


def test_writing_a_trial_again_replaces_it(
    store: ParquetStore, make_result: MakeResult, make_failed: Callable[..., TrialResult]
) -> None:
    failed, done = make_failed(0.1), make_result(0.1)
    store.write(failed, "sweep", "{}")
    assert store.find([failed.trial])[failed.trial.key].status == "failed"
    store.write(done, "sweep", "{}")
    assert store.find([done.trial])[done.trial.key].status == "done"
    assert len(pd.read_parquet(store.trials)) == 1


def test_answers_are_found_by_key(store: ParquetStore, make_result: MakeResult) -> None:
    results = [make_result(rho, seed=seed, examples=40) for seed, rho in enumerate((0.1, 0.2, 0.3))]
    for result in results:
        store.write(result, "sweep", "{}")
    for result in results:
        assert result.predictions is not None
        scores = store.scores(result.trial.key)
        assert scores is not None
        assert scores.example_ids == result.predictions.example_id
        np.testing.assert_array_equal(scores.scores, result.predictions.correct)
        by_hand = [
            -log_prob / length
            for log_prob, length in zip(result.predictions.gold_log_prob, result.predictions.gold_length, strict=True)
        ]
        assert scores.losses.tolist() == by_hand


# Atomicity


def test_a_failing_write_leaves_the_earlier_version_and_nothing_else(tmp_path: Path) -> None:
    """The process may write 500 bytes to a file, which is less than either table takes."""
    done = run_child(
        """
        import resource, signal
        store.write(result(1, 0.5), "sweep", "{}")
        before = {f.name: f.read_bytes() for d in (store.trials, store.predictions) for f in d.iterdir()}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        for number in (1, 2):
            try:
                store.write(result(number, 0.9), "sweep", "{}")
            except OSError as error:
                print(type(error).__name__)
        after = {f.name: f.read_bytes() for d in (store.trials, store.predictions) for f in d.iterdir()}
        assert before == after, set(before) ^ set(after)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["OSError", "OSError"]
    assert pd.read_parquet(tmp_path / "trials")["accuracy"].tolist() == [0.5]


CRASHES = {
    "while the bytes are written": """
        import laser_sweep.store.store as module
        def write_table(table, where, **options):
            Path(where).write_bytes(b"PAR1 half a file")
            os._exit(7)
        module.pq.write_table = write_table
        """,
    "before the bytes are on disk": """
        os.fsync = lambda descriptor: os._exit(7)
        """,
    "before the rename": """
        Path.replace = lambda self, target: os._exit(7)
        """,
}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_leaves_no_visible_file_and_earlier_ones_intact(tmp_path: Path, crash: str) -> None:
    """Two processes die alike: one while it stores a trial again, one while it stores a new one."""
    store_earlier = """
        store.write(result(1, 0.5), "sweep", "{}")
        print(result(1, 0.5).trial.key, flush=True)
        other = os.fork()
        number = 1 if other else 2
        if other:
            os.waitpid(other, 0)
        """
    crashed = run_child(
        textwrap.dedent(store_earlier)
        + textwrap.dedent(CRASHES[crash])
        + 'store.write(result(number, 0.9), "s", "{}")',
        tmp_path,
    )
    assert crashed.returncode == 7, crashed.stderr
    key = crashed.stdout.strip()
    store = ParquetStore(tmp_path)
    assert hidden(store.predictions), "the crash came too late to leave a temporary file: nothing was tested"
    assert visible(store.trials) == visible(store.predictions) == {f"{key}.parquet"}
    assert pd.read_parquet(store.trials)["accuracy"].tolist() == [0.5]
    assert read_trials(tmp_path)["accuracy"].tolist() == [0.5]
    assert len(pd.read_parquet(store.predictions)) == 50
    scores = store.scores(key)
    assert scores is not None
    assert scores.scores.sum() == 25


def test_no_reader_takes_a_temporary_file_for_a_result(
    store: ParquetStore, make_result: MakeResult, tmp_path: Path
) -> None:
    """A crash between the two files of a trial: the temporary one is complete but was never renamed."""
    good, lost = make_result(0.1), make_result(0.2)
    store.write(good, "sweep", "{}")
    crashed = run_child(
        """
        replace, calls = Path.replace, []
        def second_time(self, target):
            calls.append(target)
            return replace(self, target) if len(calls) < 2 else os._exit(7)
        Path.replace = second_time
        store.write(result(200, 0.9), "sweep", "{}")
        """,
        store.root,
    )
    assert crashed.returncode == 7, crashed.stderr
    assert len(hidden(store.trials)) == 1
    assert list(store.find([good.trial, lost.trial])) == [good.trial.key]
    assert read_trials(store.root)["trial_key"].tolist() == [good.trial.key]
    assert pd.read_parquet(store.trials)["trial_key"].tolist() == [good.trial.key]
    assert store.compact() == 0


def test_a_trial_that_is_found_has_its_predictions(tmp_path: Path) -> None:
    """A crash between the two files leaves the predictions, which nothing points to, and no trial."""
    crashed = run_child(
        """
        replace, calls = Path.replace, []
        def second_time(self, target):
            calls.append(target)
            return replace(self, target) if len(calls) < 2 else os._exit(7)
        Path.replace = second_time
        store.write(result(1, 0.9), "sweep", "{}")
        """,
        tmp_path,
    )
    assert crashed.returncode == 7, crashed.stderr
    assert len(visible(tmp_path / "predictions")) == 1
    assert visible(tmp_path / "trials") == set()


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """They share 10 of 50 keys."""
    body = """
        for number in range(int(sys.argv[2]), int(sys.argv[2]) + 30):
            store.write(result(number, 0.5), "sweep", "{}")
        """
    writers = [
        subprocess.Popen([sys.executable, "-c", CHILD + textwrap.dedent(body), str(tmp_path), str(first)])
        for first in (1, 21)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    frame = pd.read_parquet(tmp_path / "trials")
    assert sorted(edits[0]["rho"] for edits in frame["edits"]) == [n / 1000 for n in range(1, 51)]
    predictions = pd.read_parquet(tmp_path / "predictions")
    assert set(predictions.groupby("trial_key").size()) == {50}
    assert set(predictions["trial_key"]) == set(frame["trial_key"])
    assert not hidden(tmp_path / "trials") | hidden(tmp_path / "predictions")


# Damaged, foreign and newer files


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def garble(file: Path) -> None:
    """Damages the data but not the footer, so that the schema can still be read."""
    content = bytearray(file.read_bytes())
    first_column = content.index(b"PAR1") + 4
    content[first_column : first_column + 400] = b"\xff" * 400
    file.write_bytes(bytes(content))


DAMAGES = {"truncated": truncate, "empty": empty, "garbled": garble}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_with_one_warning_and_the_others_are_found(
    store: ParquetStore, make_result: MakeResult, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    good, bad = make_result(0.1), make_result(0.2)
    for result in (good, bad):
        store.write(result, "sweep", "{}")
    file = store.trials / f"{bad.trial.key}.parquet"
    DAMAGES[damage](file)
    content = file.read_bytes()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert set(store.find([good.trial, bad.trial])) == {good.trial.key}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(file) in caplog.text
    assert not file.exists()
    assert (store.trials / f"{bad.trial.key}.parquet.damaged").read_bytes() == content


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_all_trials_survives_a_damaged_file(
    store: ParquetStore, make_result: MakeResult, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    good, bad = make_result(0.1), make_result(0.2)
    for result in (good, bad):
        store.write(result, "sweep", "{}")
    DAMAGES[damage](store.trials / f"{bad.trial.key}.parquet")
    with caplog.at_level(logging.WARNING):
        assert read_trials(store.root)["trial_key"].tolist() == [good.trial.key]
    assert len(caplog.records) == 1
    assert len(list(store.trials.glob("*.damaged"))) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_predictions_count_as_none_and_never_stop_a_sweep(
    store: ParquetStore, make_result: MakeResult, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    result = make_result(0.1, examples=400)
    store.write(result, "sweep", "{}")
    DAMAGES[damage](store.predictions / f"{result.trial.key}.parquet")
    with caplog.at_level(logging.WARNING):
        assert store.scores(result.trial.key) is None
    assert len(caplog.records) == 1


def test_a_set_aside_trial_can_be_written_again(store: ParquetStore, make_result: MakeResult) -> None:
    result = make_result(0.1)
    store.write(result, "sweep", "{}")
    truncate(store.trials / f"{result.trial.key}.parquet")
    assert store.find([result.trial]) == {}
    store.write(result, "sweep", "{}")
    assert set(store.find([result.trial])) == {result.trial.key}


def test_a_file_that_cannot_be_opened_just_now_is_not_set_aside(
    store: ParquetStore, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, a stale network mount: the file itself may be whole."""
    result = make_result(0.1)
    store.write(result, "sweep", "{}")

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        for name in ("read_schema", "read_table", "ParquetFile"):
            patched.setattr(pq, name, fail)
        with contextlib.suppress(OSError):  # to raise it is as good as to leave the file out
            store.find([result.trial])
    assert set(store.find([result.trial])) == {result.trial.key}


def test_a_foreign_file_is_left_alone(
    store: ParquetStore, make_result: MakeResult, caplog: pytest.LogCaptureFixture
) -> None:
    good = make_result(0.1)
    store.write(good, "sweep", "{}")
    foreign = store.trials / "notes.parquet"
    pq.write_table(pa.table({"trial_key": [good.trial.key], "accuracy": [0.0]}), foreign)
    before = foreign.read_bytes()
    with caplog.at_level(logging.WARNING):
        frame = read_trials(store.root)
    assert frame["trial_key"].tolist() == [good.trial.key]
    assert frame["accuracy"].tolist() == [good.measured().accuracy]
    assert "notes.parquet" in caplog.text
    assert store.find([good.trial])[good.trial.key].metrics == good.metrics
    store.write(make_result(0.2), "sweep", "{}")
    assert store.compact() == 2
    assert foreign.read_bytes() == before


def test_hidden_files_are_none_of_ours(
    store: ParquetStore, make_result: MakeResult, caplog: pytest.LogCaptureFixture
) -> None:
    """Some file systems and syncing tools keep one beside each file."""
    result = make_result(0.1)
    store.write(result, "sweep", "{}")
    beside = store.trials / f"._{result.trial.key}.parquet"
    beside.write_bytes(b"not parquet")
    assert len(read_trials(store.root)) == 1
    assert store.compact() == 0
    assert beside.read_bytes() == b"not parquet"
    assert not caplog.records


@pytest.mark.parametrize("mark", [b"5", b"999", b"not a number", b"-1"])
def test_a_file_of_another_schema_version_is_left_out_with_a_warning(
    store: ParquetStore, make_result: MakeResult, caplog: pytest.LogCaptureFixture, mark: bytes
) -> None:
    good, newer = make_result(0.1), make_result(0.2)
    for result in (good, newer):
        store.write(result, "sweep", "{}")
    file = store.trials / f"{newer.trial.key}.parquet"
    table = pq.read_table(file).append_column("invented_later", pa.array([1]))
    pq.write_table(table.replace_schema_metadata({b"laser_sweep_schema": mark}), file)
    before = file.read_bytes()
    with caplog.at_level(logging.WARNING):
        assert set(store.find([good.trial, newer.trial])) == {good.trial.key}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert newer.trial.key in caplog.text
    assert read_trials(store.root)["trial_key"].tolist() == [good.trial.key]
    assert file.read_bytes() == before


def test_a_directory_without_readable_files_is_no_store(store: ParquetStore) -> None:
    store.trials.mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), store.trials / "notes.parquet")
    with pytest.raises(RequestError, match=r"store\.path=.* holds no trials"):
        read_trials(store.root)


# Can it be written at all?


@pytest.mark.parametrize("exists", [False, True])
def test_checking_leaves_nothing_behind(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "a" / "trials").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    ParquetStore(tmp_path / "a").check_writable()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_relative_path_is_checked_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ParquetStore("outputs/store").check_writable()
    assert os.listdir(tmp_path) == []


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RequestError) as refused:
        ParquetStore(tmp_path / "taken" / "store").check_writable()
    message = str(refused.value)
    assert "store.path=" in message
    assert f"{tmp_path / 'taken'} is a file" in message


def test_a_store_whose_directory_of_predictions_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "predictions").write_text("")
    with pytest.raises(RequestError, match=r"store\.path=.*predictions is a file"):
        ParquetStore(tmp_path).check_writable()


@pytest.mark.parametrize("path", ["/proc/nope/store", "/sys/nope"])
def test_a_store_on_a_read_only_file_system_is_refused(path: str) -> None:
    with pytest.raises(RequestError, match=rf"store\.path={path} cannot be written \(.+\); give a writable directory"):
        ParquetStore(path).check_writable()


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"store\.path=.*too long"):
        ParquetStore(tmp_path / ("x" * 300)).check_writable()
