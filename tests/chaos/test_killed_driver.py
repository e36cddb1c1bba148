"""`kill -9` of the command at 25 random moments; the same line completes it each time."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Running, assert_clean, assert_same_numbers, trials

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

GRID = ("tau=each", "layer=each", "rho=[0.02,0.05,0.1,0.2]", "evaluation.test_limit=200")
TRIALS = 6 * 2 * 4 + 1 + 2
POINTS = 25
ON_RAY = 5  # of them; there two trials are under way


def test_after_a_kill_the_same_line_runs_only_what_is_not_stored(start: Callable[..., Running], tmp_path: Path) -> None:
    whole = start(*GRID, store=tmp_path / "whole")
    assert whole.wait() == 0, whole.text()
    dice = random.Random(0)
    stored_before, reran = [], 0
    for point in range(POINTS):
        line = ("-m", *GRID, "cluster.workers=2") if point < ON_RAY else GRID
        store = tmp_path / f"point-{point}"
        sweep = start(*line, store=store)
        moment = dice.randrange(TRIALS)  # of its life: so many trials are stored, and a little later
        while sweep.process.poll() is None and len(list((store / "trials").glob("*.parquet"))) < moment:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.1))
        os.killpg(sweep.process.pid, signal.SIGKILL)
        sweep.process.wait()
        before = {file.name: file.stat().st_mtime_ns for file in (store / "trials").glob("*.parquet")}
        again = start(*line, store=store)
        assert again.wait() == 0, again.text()
        assert again.ran == TRIALS - len(before)
        for name, written in before.items():
            assert (store / "trials" / name).stat().st_mtime_ns == written  # was not run again
        assert_same_numbers(store, tmp_path / "whole")
        assert len(trials(store)) == TRIALS
        for file in list(store.rglob("*.tmp")):  # of the file that was being written when it was killed
            reran += 1
            file.unlink()
        assert_clean(store)
        stored_before.append(len(before))
    print(json.dumps({"kills": POINTS, "trials": TRIALS, "stored_at_kill": stored_before, "half_written": reran}))
    assert len(set(stored_before)) > POINTS // 3
