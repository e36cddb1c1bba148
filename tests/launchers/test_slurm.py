"""The sbatch script on a real Slurm: to the end, through pre-emption, without a host that is lost, and cancelled."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from ..grids import GRID, TRIALS, assert_same_results, count, sweep_alone, trials
from ..hosts import REPOSITORY, wait_until
from .slurm import Slurm, slurm, why_no_slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

SCRIPT = str(REPOSITORY / "launchers" / "slurm" / "laser_sweep.sbatch")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("alone") / "store"
    assert len(sweep_alone(GRID, store)) == TRIALS
    return store


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    reason = why_no_slurm()
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.setenv("LASER_SWEEP_VENV", sys.prefix)
    with slurm(getattr(request, "param", 1)) as made:
        yield made


def submit(cluster: Slurm, *grid: str) -> str:
    """Ray's files are each host's own; the store is in the shared directory, where the job is submitted."""
    ray = f"--export=ALL,LASER_SWEEP_RAY_DIR={cluster.nodes[0].disk / 'ray'}"
    return cluster.submit(f"--nodes={len(cluster.nodes)}", ray, SCRIPT, *grid)


def wait_for_trials(cluster: Slurm, job: str, number: int) -> pd.DataFrame:
    store = cluster.shared / "outputs" / "store"
    wait_until(lambda: count(store) >= number or cluster.job(job)["JobState"] in ENDED, 240, cluster.logs)
    assert cluster.job(job)["JobState"] == "RUNNING", cluster.logs()
    return trials(store)


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\n{text}")


def test_the_script_sweeps_and_ends_with_the_code_of_the_sweep(
    cluster: Slurm, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    job = cluster.wait(submit(cluster, *GRID), ENDED, 400)
    seconds = time.monotonic() - started
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), cluster.logs()
    assert_same_results(cluster.shared / "outputs" / "store", undisturbed)
    refused = cluster.wait(submit(cluster, "tau=no_such_matrix"), ENDED, 200)
    assert (refused["JobState"], refused["ExitCode"]) == ("FAILED", "2:0"), cluster.logs()
    say(capsys, f"one node: {TRIALS} trials in {seconds:.1f} s from sbatch to the end of the job")


def test_a_pre_empted_sweep_drains_makes_room_and_completes_without_running_a_trial_twice(
    cluster: Slurm, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job of a partition with precedence wants the node; Slurm gives the sweep a minute of grace."""
    started = time.monotonic()
    sweep = submit(cluster, *GRID)
    before = wait_for_trials(cluster, sweep, TRIALS // 3)
    asked = time.monotonic()
    urgent = cluster.submit("--partition=urgent", "--exclusive", "--wrap=true")
    cluster.wait(urgent, {"COMPLETED"}, 90)
    yielded = time.monotonic()
    drained = trials(cluster.shared / "outputs" / "store")
    assert len(before) <= len(drained) < TRIALS, cluster.logs()
    assert set(drained.status) == {"done"}
    cluster.run("scontrol", "update", f"JobId={sweep}", "StartTime=now")  # Slurm lets a requeued job wait for a while
    job = cluster.wait(sweep, ENDED, 400)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "1"), cluster.logs()
    assert_same_results(cluster.shared / "outputs" / "store", undisturbed)
    stored = trials(cluster.shared / "outputs" / "store")
    kept = stored.set_index("trial_key").loc[drained.trial_key]
    assert list(kept.started_at) == list(drained.started_at)
    assert set(stored.attempt) == {1}
    say(
        capsys,
        f"pre-empted after {len(before)} of {TRIALS} trials: the node was free {yielded - asked:.1f} s later with "
        f"{len(drained)} stored, 0 of them run again; {time.monotonic() - started:.1f} s in all",
    )


def test_a_requeue_without_grace_loses_the_running_trials_alone(
    cluster: Slurm, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = submit(cluster, *GRID)
    before = wait_for_trials(cluster, sweep, TRIALS // 3)
    cluster.run("scontrol", "requeue", sweep)
    wait_until(lambda: cluster.job(sweep)["JobState"] == "PENDING", 60, cluster.logs)
    cluster.run("scontrol", "update", f"JobId={sweep}", "StartTime=now")
    job = cluster.wait(sweep, ENDED, 400)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "1"), cluster.logs()
    assert_same_results(cluster.shared / "outputs" / "store", undisturbed)
    kept = trials(cluster.shared / "outputs" / "store").set_index("trial_key").loc[before.trial_key]
    assert list(kept.started_at) == list(before.started_at)
    say(capsys, f"requeued after {len(before)} of {TRIALS} trials: completed, none of these ran again")


def test_a_cancelled_sweep_does_not_come_back(cluster: Slurm) -> None:
    sweep = submit(cluster, *GRID)
    wait_for_trials(cluster, sweep, 3)
    cluster.run("scancel", sweep)
    job = cluster.wait(sweep, ENDED, 60)
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    stored = trials(cluster.shared / "outputs" / "store")
    assert set(stored.status) == {"done"}


@pytest.mark.parametrize("cluster", [2], indirect=True)
def test_a_sweep_on_two_nodes_outlives_the_loss_of_the_second(
    cluster: Slurm, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = submit(cluster, *GRID)
    lost = cluster.nodes[1]
    wait_for_trials(cluster, sweep, 2)
    wait_until(lambda: trials(cluster.shared / "outputs" / "store").worker.str.startswith(lost.name).any(), 60)
    before = wait_for_trials(cluster, sweep, 2)
    lost.unplug()
    job = cluster.wait(sweep, ENDED, 400)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "0"), cluster.logs()
    assert_same_results(cluster.shared / "outputs" / "store", undisturbed)
    stored = trials(cluster.shared / "outputs" / "store")
    again = int((stored.attempt > 1).sum())
    say(
        capsys,
        f"two nodes, the second lost after {len(before)} of {TRIALS} trials: completed on the first, "
        f"{again} of {TRIALS} trials run again ({again / TRIALS:.1%})",
    )
