"""`sync` with a key: the real client of W&B, and a server of this machine at the other end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult

# The command with other patience.
RUN = "import sys; import laser_sweep.sweep.tracking.wandb as w; w._INIT_SECONDS, w._FINISH_SECONDS = {patience}; " \
    "import laser_sweep.store.__main__ as m; sys.argv[0] = 'store'; m.main()"  # fmt: skip


@pytest.fixture
def filled(store: ParquetStore, answered: Callable[..., TrialResult]) -> ParquetStore:
    base = [True, False, False, False]
    results = [answered(None, base), *(answered(rho, [True, rho < 0.5, False, False], base) for rho in (0.1, 0.5))]
    for number, result in enumerate(results):
        late = replace(result, finished_at=1_700_000_000.0 + number)
        store.write(late, "a sweep", json.dumps({"model": {"name": "tiny"}, "seed": 0}))
    return store


@pytest.fixture
def sync(filled: ParquetStore, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(
        *flags: str, environment: dict[str, str], patience: tuple[float, float] = (30, 60)
    ) -> subprocess.CompletedProcess[str]:
        names = ("HOME", "NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")
        others = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
        return subprocess.run(
            [sys.executable, "-c", RUN.format(patience=patience), "sync", str(filled.root), *flags],
            cwd=tmp_path, capture_output=True, text=True, timeout=200,
            env={**others, **dict.fromkeys(names, str(tmp_path / "home")), **environment},
        )  # fmt: skip

    return run


def test_a_sweep_that_is_told_twice_is_one_run_with_each_trial_in_its_place(
    sync: Callable[..., Any], filled: ParquetStore, wandb_server: Any
) -> None:
    for _ in range(2):
        ended = sync("--project=mine", environment=wandb_server.environment)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("3 trials told to W&B; http://")
    opened = wandb_server.named("UpsertBucket")
    assert {one["project"] for one in opened} == {"mine"}
    [run] = {one["name"] for one in opened}
    assert run in ended.stdout
    steps = [(row["_step"], row["trial_key"]) for row in wandb_server.history[run]]
    assert len(steps) == 6
    assert steps[:3] == steps[3:]
    assert {key for _, key in steps} == set(read_trials(filled.root)["trial_key"])
    assert wandb_server.summary[run]["val/accuracy"] == {"max": 0.5}


def test_a_trial_that_is_told_twice_goes_on_with_its_run(
    sync: Callable[..., Any], filled: ParquetStore, wandb_server: Any
) -> None:
    for _ in range(2):  # the second time W&B knows the run, with another configuration
        ended = sync("--granularity=trial", environment=wandb_server.environment)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.endswith("/laser-sweep/groups/a%20sweep\n")
    stored = read_trials(filled.root).set_index("trial_key")
    assert set(wandb_server.summary) == set(stored.index)
    assert {one["name"] for one in wandb_server.named("UpsertBucket")} == set(stored.index)
    assert {one["name"] for one in wandb_server.named("RunResumeStatus")} == set(stored.index)
    assert wandb_server.history == {}
    for key, figures in wandb_server.summary.items():
        assert figures["val/accuracy"] == stored.loc[key, "accuracy"]


@pytest.mark.parametrize("granularity", ["sweep", "trial"])
def test_a_server_that_stops_answering_holds_nobody_up(
    sync: Callable[..., Any], wandb_server: Any, granularity: str
) -> None:
    wandb_server.stalled.set()
    started = time.monotonic()
    ended = sync(f"--granularity={granularity}", environment=wandb_server.environment, patience=(30, 3))
    assert time.monotonic() - started < 60
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("laser_sweep.store: W&B could not be told: ")


def test_a_server_that_is_not_there_is_reported_in_one_line(sync: Callable[..., Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = {"WANDB_BASE_URL": f"http://127.0.0.1:{taken.getsockname()[1]}", "WANDB_API_KEY": "0" * 40}
        ended = sync(environment=nobody, patience=(3, 3))
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("laser_sweep.store: W&B could not be told: ")
    assert "Traceback" not in ended.stderr
