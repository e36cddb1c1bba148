"""A disk that fills up, one that cannot be written, files that are not what they should be, two sweeps on one store."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Running, assert_clean, assert_same_numbers, trials

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="to mount a small disk takes root"),
]

GRID = ("tau=each", "layer=each", "rho=[0.02,0.05,0.1,0.2]", "evaluation.test_limit=200")
TRIALS = 6 * 2 * 4 + 1 + 2


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 600 kB, too small for the sweep."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount("-t", "tmpfs", "-o", "size=600k", "tmpfs", str(directory))
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.fixture
def whole(start: Callable[..., Running], tmp_path: Path) -> Path:
    sweep = start(*GRID, store=tmp_path / "whole")
    assert sweep.wait() == 0, sweep.text()
    return tmp_path / "whole"


def until(happened: Callable[[], bool], sweep: Running) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline, sweep.text()
        time.sleep(0.05)


def test_a_disk_that_has_room_again_within_a_minute_loses_nothing(
    start: Callable[..., Running], disk: Path, whole: Path
) -> None:
    sweep = start(*GRID, store=disk / "store")
    until(lambda: "the store cannot be written" in sweep.text(), sweep)
    assert "No space left on device" in sweep.text()
    mount("-o", "remount,size=20m", str(disk))
    assert sweep.wait() == 0, sweep.text()
    assert_same_numbers(disk / "store", whole)
    assert_clean(disk / "store")
    assert "Traceback" not in sweep.text()


def test_a_disk_that_stays_full_ends_the_sweep_with_one_line_and_keeps_every_row(
    start: Callable[..., Running], disk: Path, whole: Path
) -> None:
    sweep = start(*GRID, store=disk / "store")
    assert sweep.wait() == 1
    assert "Traceback" not in sweep.text()
    last = sweep.text().splitlines()[-1]
    assert last.startswith("laser_sweep: the store cannot be written: [Errno 28]")
    assert last.endswith("what is stored is kept, and the same command runs the rest")
    kept = trials(disk / "store")
    assert 5 < len(kept) < TRIALS
    assert_clean(disk / "store")
    mount("-o", "remount,size=20m", str(disk))
    again = start(*GRID, store=disk / "store")
    assert again.wait() == 0, again.text()
    assert again.ran == TRIALS - len(kept)
    assert_same_numbers(disk / "store", whole)


def test_a_directory_that_cannot_be_written_is_said_before_a_model_is_loaded(
    start: Callable[..., Running], disk: Path
) -> None:
    mount("-o", "remount,ro", str(disk))
    sweep = start(*GRID, store=disk / "store")
    assert sweep.wait() == 2
    [line] = sweep.text().splitlines()
    assert line == (
        f"laser_sweep: store.path={disk / 'store'} cannot be written (Read-only file system); give a writable directory"
    )


def test_files_that_are_not_what_they_should_be_cost_their_own_trials_and_no_others(
    start: Callable[..., Running], whole: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    first = start(*GRID, store=store)
    assert first.wait() == 0
    files = sorted((store / "trials").glob("*.parquet"))
    data = files[0].read_bytes()
    files[0].write_bytes(data[: len(data) // 2])
    files[1].write_bytes(b"")
    files[2].write_text("not what it says")
    foreign = store / "trials" / "notes.parquet"
    foreign.write_text("a file of somebody else")
    again = start(*GRID, store=store)
    assert again.wait() == 0, again.text()
    assert again.ran == 3
    assert again.text().count("cannot be read") == 3  # the other one is no trial's name, and is not opened
    assert "Traceback" not in again.text()
    assert foreign.read_text() == "a file of somebody else"
    foreign.unlink()  # what is compared opens every file
    assert_same_numbers(store, whole)


def test_two_sweeps_on_one_store_share_the_work(start: Callable[..., Running], whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    line = (*GRID[:2], "rho=[0.02,0.05,0.1,0.2,0.3,0.4,0.5,0.6]", "evaluation.confirm=false")
    sweeps = [start(*line, store=store) for _ in range(2)]
    for sweep in sweeps:
        assert sweep.wait() == 0, sweep.text()
        assert "Traceback" not in sweep.text()
    count = 6 * 2 * 8 + 1
    assert len(trials(store)) == count
    assert sum(sweep.ran for sweep in sweeps) == count
    assert_clean(store)
    print(json.dumps({"trials": count, "ran_by_each": [sweep.ran for sweep in sweeps]}))
    common = trials(whole).index.intersection(trials(store).index)
    assert len(common) == TRIALS - 2
    assert list(trials(store).loc[common, "log_loss"]) == list(trials(whole).loc[common, "log_loss"])
