"""Three hosts, each with its own raylet and its own disk, one of which is cut off in mid-sweep."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from ..grids import GRID, TRIALS, assert_same_results, count, sweep_alone, trials
from ..hosts import wait_until
from ..ray_hosts import IMPATIENT, ray_hosts

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]


def test_a_sweep_outlives_a_host_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    undisturbed = sweep_alone(GRID, tmp_path / "alone")
    assert len(undisturbed) == TRIALS
    with ray_hosts([1, 1, 1]) as (head, _, lost):
        store = head.files / "store"
        line = (sys.executable, "-m", "laser_sweep", "-m", *GRID, f"cluster.address={head.address}:6379")
        started = time.monotonic()
        driver = head.start(*line, "store.path=store", log="sweep.log", env=IMPATIENT)

        def at_work() -> bool:
            """A third is done, some of it by the host that will be lost."""
            return driver.poll() is not None or (
                count(store) >= TRIALS // 3 and trials(store).worker.str.startswith(lost.name).any()
            )

        wait_until(at_work, 180, lambda: head.log("sweep.log"))
        assert driver.poll() is None, head.log("sweep.log")
        before = trials(store)
        lost.unplug()
        cut = time.monotonic()
        assert driver.wait(timeout=300) == 0, head.log("sweep.log")
        ended = time.monotonic()

        assert_same_results(store, tmp_path / "alone")
        stored = trials(store)
        redone = stored[stored.attempt > 1]
        assert 1 <= len(redone) <= 2  # what the lost host was running, and no result that was on its way
        assert not redone.worker.str.startswith(lost.name).any()
        kept = stored.set_index("trial_key").loc[before.trial_key]
        assert list(kept.finished_at) == list(before.finished_at)
    with capsys.disabled():
        print(
            f"\nthree hosts, one cut off after {len(before)} of {TRIALS} trials: {ended - started:.1f} s, "
            f"{ended - cut:.1f} s of it after the cut; {len(redone)} of {TRIALS} trials run again "
            f"({len(redone) / TRIALS:.1%})"
        )
