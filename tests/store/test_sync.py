"""`sync`: a store told to W&B, offline, read back by W&B's own reader."""

from __future__ import annotations

import json
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
from laser_sweep.store.stored import stored_results
from laser_sweep.trial import Edit, Matrix, TrialResult

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Answered = Callable[..., TrialResult]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings, key or network of this machine."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def filled(store: ParquetStore, answered: Answered, make_failed: Callable[..., TrialResult]) -> ParquetStore:
    base = [True, False, False, False]
    results = [
        answered(None, base),
        *(answered(rho, [True, True, rho < 0.2, False], base, layer=layer) for rho in (0.1, 0.5) for layer in (0, 1)),
        make_failed(0.7),
    ]
    for number, result in enumerate(results):
        late = replace(result, finished_at=1_700_000_000.0 + number)
        store.write(late, "first" if number < 5 else "second", json.dumps({"model": {"name": "tiny"}, "seed": number}))
    return store


def runs(directory: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]]:
    """Of each run the record that opens it, its history and its summary."""
    found = []
    for file in sorted(directory.glob("wandb/offline-run-*/run-*.wandb")):
        printed = subprocess.run(
            [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)],
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        records = [json.loads(line) for line in printed.stdout.splitlines()]
        assert records[-1]["type"] == "exit"
        summary: dict[str, Any] = {}
        for record in records:
            summary |= record["summary"]["update"] if record["type"] == "summary" else {}
        [opened] = [record["run"] for record in records if record["type"] == "run"]
        found.append((opened, [one["history"]["item"] for one in records if one["type"] == "history"], summary))
    return found


def test_a_run_for_each_sweep_has_every_trial_once_under_an_id_that_stays(
    command: Command, filled: ParquetStore
) -> None:
    ids = []
    for _ in range(2):
        ended = command("sync", filled.root, "--project=mine")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("6 trials told to W&B; 2 W&B runs are offline")
        time.sleep(1)  # W&B names directories by the second
    stored = read_trials(filled.root).set_index("trial_key")
    found = runs(Path("outputs"))
    for run, history, _ in found:
        assert (run["project"], run["job_type"], run["display_name"]) == ("mine", "sweep", run["run_group"])
        assert {row["trial_key"] for row in history} == set(stored.index[stored["sweep"].eq(run["display_name"])])
        assert [row["_step"] for row in history] == list(range(1, len(history) + 1))  # told again, they fall in place
        finished = [stored.loc[row["trial_key"], "finished_at"] for row in history]
        assert finished == sorted(finished)
        ids.append((run["display_name"], run["run_id"]))
    assert sorted(name for name, _ in ids) == ["first", "first", "second", "second"]
    assert len(set(ids)) == 2
    [figures] = {json.dumps(summary["val/gain"]) for run, _, summary in found if run["display_name"] == "first"}
    assert json.loads(figures) == {"max": 0.5}
    assert list(Path("outputs").rglob("heat_map/tiny/colours/fc_in_*.plotly.json"))


def test_a_run_for_each_trial_is_named_and_keyed_by_it(command: Command, filled: ParquetStore) -> None:
    ended = command("sync", filled.root, "--granularity=trial", "--dir=elsewhere")
    assert ended.returncode == 0, ended.stderr
    stored = read_trials(filled.root).set_index("trial_key")
    found = {run["run_id"]: (run, summary) for run, _, summary in runs(Path("elsewhere"))}
    assert found.keys() == set(stored.index)
    for number, one in enumerate(stored_results(filled.root)):
        run, summary = found[one.result.trial.key]
        assert run["display_name"] == one.result.trial.describe()
        assert run["run_group"] == one.sweep
        assert run["config"]["update"]["seed"] == number
        row = stored.loc[one.result.trial.key]
        assert summary["status"] == row["status"]
        if row["status"] == "done":
            assert summary["val/accuracy"] == pytest.approx(row["accuracy"])


def test_the_environment_names_the_project(
    command: Command, filled: ParquetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_MODE", "offline")
    command("sync", filled.root)
    assert {run["project"] for run, _, _ in runs(Path("outputs"))} == {"theirs"}


def test_wandb_that_cannot_be_reached_is_reported_in_one_line(
    command: Command, filled: ParquetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    ended = command("sync", filled.root)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("laser_sweep.store: W&B could not be told: ")
    assert "Traceback" not in ended.stderr


def test_stored_results_are_those_that_were_written(store: ParquetStore, answered: Answered) -> None:
    result = answered(0.1, [True, False], [False, False])
    edits = (
        Edit(matrix=Matrix("fc_in", 1), rho=0.5, method="clustered", options=(("clusters", 4), ("partition", "x"))),
        Edit(matrix=Matrix("fc_out", 0), rho=0.25),
    )
    trial = replace(result.trial, edits=edits, tau=None, layer=None, rho=None)
    result = replace(result, trial=trial, footprints=result.footprints * 2)
    store.write(result, "my sweep", '{"seed": 0}')
    [found] = stored_results(store.root)
    assert (found.sweep, found.config_json) == ("my sweep", '{"seed": 0}')
    stored = found.result
    assert (stored.trial.key, stored.trial.edits) == (trial.key, edits)
    assert stored.trial.describe() == trial.describe()
    assert stored.trial.model == replace(trial.model, repo="")
    assert stored.trial.evaluation == replace(trial.evaluation, revision="")
    assert (stored.metrics, stored.gain, stored.footprints) == (result.metrics, result.gain, result.footprints)
    assert (stored.started_at, stored.finished_at) == (result.started_at, result.finished_at)
