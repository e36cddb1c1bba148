"""`python -m laser_sweep.store` as a person types it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult

Command = Callable[..., "subprocess.CompletedProcess[str]"]
MakeResult = Callable[..., TrialResult]

READING = ("best", "show", "failures", "export", "compact")


def process(*arguments: object, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "laser_sweep.store", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_default_store_is_outputs_store(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result(0.125)
    ParquetStore(tmp_path / "outputs" / "store").write(result, "sweep", "{}")
    shown = process("show", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert result.trial.key in shown.stdout
    assert result.trial.key in process("show", result.trial.key[:5], cwd=tmp_path).stdout


def test_a_reader_that_has_seen_enough_may_leave(make_result: MakeResult, tmp_path: Path) -> None:
    store = ParquetStore(tmp_path / "store")
    for rho in range(1, 9):
        store.write(make_result(rho / 10, examples=4000), "sweep", "{}")
    line = f"{sys.executable} -m laser_sweep.store export store --predictions | head -2"
    run = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.splitlines()) == 2


def test_compact_says_how_many_trials_it_merged(command: Command, store: ParquetStore, make_result: MakeResult) -> None:
    for rho in (0.1, 0.2, 0.3):
        store.write(make_result(rho), "sweep", "{}")
    merged = command("compact", store.root)
    assert (merged.returncode, merged.stdout) == (0, "merged 3 trials\n"), merged.stderr
    assert len(list(store.trials.iterdir())) == 1
    again = command("compact", store.root)
    assert (again.returncode, again.stdout) == (0, "nothing to merge\n"), again.stderr


def assert_refused(ended: subprocess.CompletedProcess[str], *said: object) -> None:
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith("laser_sweep.store: ")
    for part in said:
        assert str(part) in line


@pytest.mark.parametrize("name", [*READING, "sync"])
def test_a_directory_that_does_not_exist_is_reported_in_one_line(command: Command, tmp_path: Path, name: str) -> None:
    assert_refused(command(name, tmp_path / "none"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", [*READING, "sync"])
def test_a_file_is_no_store(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(command(name, tmp_path / "file"), tmp_path / "file")


@pytest.mark.parametrize("name", ["best", "show", "failures", "export"])
def test_a_store_without_trials_is_reported(command: Command, store: ParquetStore, name: str) -> None:
    store.trials.mkdir(parents=True)
    assert_refused(command(name, store.root), store.root, "holds no trials")


@pytest.mark.parametrize("line", [["show"], ["compare"], ["compare", "--json"]])
def test_keys_that_name_no_trial_or_several_are_reported(
    command: Command, store: ParquetStore, make_result: MakeResult, line: list[str]
) -> None:
    results = [make_result(rho / 100) for rho in range(1, 40)]
    for result in results:
        store.write(result, "sweep", "{}")
    assert_refused(command(*line, store.root, "0123456789abcdef"), "0123456789abcdef is not in", store.root)
    firsts = [result.trial.key[0] for result in results]
    shared = next(digit for digit in firsts if firsts.count(digit) > 1)
    assert_refused(command(*line, store.root, shared), f"trial {shared} could be")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["compare", "STORE", "KEY"], "compare takes two trials or more"),
        (["compare", "STORE", "KEY", "KEY"], "compare takes two trials or more"),
        (["show", "STORE", "--limit=0"], "--limit=0"),
        (["show", "STORE", "KEY", "--tau=fc_in"], "give one or the other"),
        (["export", "STORE", "--format=parquet"], "--to"),
        (["export", "STORE", "--format=xml"], "xml"),
        (["export", "STORE", "--to=/proc/nope/table.csv"], "--to=/proc/nope/table.csv cannot be written"),
        (["export", "STORE", "--to=STORE"], "is a directory"),
        (["sync", "STORE", "--granularity=layer"], "layer"),
        (["tidy", "STORE"], "tidy"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_request_is_reported_in_one_line(
    command: Command, store: ParquetStore, make_result: MakeResult, line: list[str], said: str
) -> None:
    result = make_result()
    store.write(result, "sweep", "{}")
    words = [part.replace("STORE", str(store.root)).replace("KEY", result.trial.key) for part in line]
    assert_refused(command(*words), said)


@pytest.mark.parametrize("name", [*READING, "sync"])
def test_files_that_are_not_whole_or_not_ours_are_left_out(
    command: Command, store: ParquetStore, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    good, bad = make_result(0.1, gain=0.25, gain_p_value=1.0), make_result(0.2)
    for result in (good, bad):
        store.write(result, "sweep", "{}")
    for directory in (store.trials, store.predictions):
        file = directory / f"{bad.trial.key}.parquet"
        file.write_bytes(file.read_bytes()[:-20])
        pq.write_table(pa.table({"trial_key": [bad.trial.key]}), directory / "notes.parquet")
        (directory / ".half.parquet.1-2.tmp").write_bytes(b"being written")
    ended = command(name, store.root)
    assert ended.returncode == 0, ended.stderr
    assert bad.trial.key not in ended.stdout
    expected = {"failures": "none of 1 trial", "compact": "nothing to merge", "sync": "1 trial told to W&B"}
    assert expected.get(name, good.trial.key) in ended.stdout
