"""The command, tracked: what W&B holds afterwards, and what is left when its service is killed on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.store.reader import read_trials

Inspect = Callable[[Path], list[dict[str, Any]]]

GRID = ("tau=[fc_in,fc_out]", "layer=each", "rho=[0.05,0.2]", "evaluation.limit=40", "evaluation.test_limit=40")
LONG = ("tau=each", "layer=each", "rho=[0.4,0.1,0.05,0.01]", "evaluation.confirm=false")
LONG_TRIALS = 6 * 2 * 4 + 1


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command with W&B offline, in an empty directory."""
    started: list[subprocess.Popen[str]] = []
    # Where W&B has run in this process, the command would write through the service that it has left behind.
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}

    def start(*line: str) -> subprocess.Popen[str]:
        (tmp_path / "run").mkdir(exist_ok=True)
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "laser_sweep", *line],
                cwd=tmp_path / "run",
                env={**alone, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("granularity", ["sweep", "trial"])
def test_wandb_holds_every_trial_of_the_store_once(
    sweep: Callable[..., subprocess.Popen[str]], tmp_path: Path, granularity: str, inspect: Inspect
) -> None:
    process = sweep(*GRID, f"tracking.granularity={granularity}")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "wandb sync" in out
    stored = read_trials(tmp_path / "run" / "outputs" / "store").set_index("trial_key")
    assert len(stored) == 8 + 1 + 2
    told: list[tuple[str, dict[str, Any]]] = []
    for run in (tmp_path / "run" / "outputs" / "wandb").glob("offline-run-*"):
        for record in inspect(run):
            if granularity == "sweep" and record["type"] == "history":
                told.append((record["history"]["item"]["trial_key"], record["history"]["item"]))
            if granularity == "trial" and record["type"] == "summary":
                update = record["summary"]["update"]
                told += [(run.name.rpartition("-")[2], update)] if "status" in update else []
    assert sorted(key for key, _ in told) == sorted(stored.index)
    for key, figures in told:
        row = stored.loc[key]
        assert figures[f"{row['split']}/accuracy"] == pytest.approx(row["accuracy"])
        assert figures[f"{row['split']}/gain"] == pytest.approx(row["gain"])


@pytest.mark.parametrize("granularity", ["sweep", "trial"])
def test_a_sweep_whose_wandb_service_is_killed_is_complete(
    sweep: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    granularity: str,
    kill_service: Callable[[int], None],
) -> None:
    process = sweep(*LONG, f"tracking.granularity={granularity}")
    store = tmp_path / "run" / "outputs" / "store" / "trials"
    deadline = time.monotonic() + 120
    while len(list(store.glob("*.parquet"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    kill_service(process.pid)
    left = LONG_TRIALS - len(list(store.glob("*.parquet")))
    out, err = process.communicate(timeout=200)
    assert left > 10  # it was killed on the way
    assert process.returncode == 0, err
    stored = read_trials(store.parent)
    assert len(stored) == LONG_TRIALS
    assert stored["status"].eq("done").all()
    assert err.count("tracking stopped, the sweep goes on") == 1
    assert "Traceback" not in err, err
    assert f"ran {LONG_TRIALS}" in out


def test_trials_of_one_command_have_the_configurations_that_asked_for_them(
    sweep: Callable[..., subprocess.Popen[str]], tmp_path: Path, inspect: Inspect
) -> None:
    line = (
        "-m",
        "cluster.workers=1",
        "seed=0,1",
        "evaluation.limit=10",
        "evaluation.confirm=false",
        "tau=fc_in",
        "rho=0.5",
    )
    process = sweep(*line, "tracking.granularity=trial")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    seeds = []
    for run in (tmp_path / "run" / "outputs" / "wandb").glob("offline-run-*"):
        [record] = [record["run"] for record in inspect(run) if record["type"] == "run"]
        config = record["config"]["update"]
        assert config["seed"] == config["trial"]["evaluation"]["seed"]
        seeds.append(config["seed"])
    assert sorted(seeds) == [0, 0, 1, 1]
