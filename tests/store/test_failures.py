"""`failures`: trials by reason, and commands that run them again."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.store.stored import stored_results
from laser_sweep.trial import TrialResult

Command = Callable[..., "subprocess.CompletedProcess[str]"]
MakeResult = Callable[..., TrialResult]
SWEEP = (
    "python -m laser_sweep 'tau=[fc_in,mlp]' layer=each rho=[0.05,0.5] evaluation.limit=20 evaluation.confirm=false "
    "intervention=clustered 'intervention.options.clusters=[1,2]' seed=3 store.path='my store'"
)


def test_trials_are_grouped_by_reason_whatever_its_numbers(
    command: Command,
    store: ParquetStore,
    make_result: Callable[..., TrialResult],
    make_failed: Callable[..., TrialResult],
) -> None:
    memory = [make_failed(rho, error=f"CUDA out of memory: {10 * rho:.2f} GiB of 79.2 GiB") for rho in (0.1, 0.2, 0.3)]
    other = make_failed(0.4, error="the worker died")
    for result in (make_result(0.9), other, *memory):
        store.write(result, "sweep", "{}")
    found = json.loads(command("failures", store.root, "--json").stdout)
    assert [reason["count"] for reason in found] == [3, 1]
    assert found[0]["error"] in {result.error for result in memory}
    assert {trial["trial_key"] for trial in found[0]["trials"]} == {result.trial.key for result in memory}
    assert found[1]["trials"][0]["what"] == "fc_in[3] rho=0.4"
    text = command("failures", store.root).stdout
    assert "3 trials: CUDA out of memory" in text
    assert "1 trial: the worker died" in text


def test_a_store_without_failures_says_so(
    command: Command, store: ParquetStore, make_result: Callable[..., TrialResult]
) -> None:
    store.write(make_result(), "sweep", "{}")
    assert command("failures", store.root).stdout == "none of 1 trial failed\n"
    assert json.loads(command("failures", store.root, "--json").stdout) == []


def test_trials_of_one_configuration_need_one_command(
    command: Command, store: ParquetStore, make_failed: Callable[..., TrialResult]
) -> None:
    for rho, seed in ((0.1, 0), (0.2, 0), (0.3, 1)):
        store.write(make_failed(rho), "sweep", json.dumps({"seed": seed, "store": {"path": f"elsewhere {rho}"}}))
    store.write(make_failed(0.4), "sweep", "{}")  # by hand: nothing says what to run
    [reason] = json.loads(command("failures", store.root, "--json").stdout)
    assert [shlex.split(line)[4:] for line in reason["commands"]] == [
        [f"store.path={store.root}", "resume=errored"],
        ["seed=1", f"store.path={store.root}", "resume=errored"],
    ]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a store of a real sweep, on the embedded model."""
    here = tmp_path_factory.mktemp("a sweep")
    run(here, SWEEP)
    return here


def run(here: Path, line: str) -> str:
    """A line that a person pastes into a shell."""
    assert line.startswith("python ")
    shell = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    ended = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} {line.removeprefix('python ')}"],
        cwd=here, env=shell, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_printed_command_plans_the_failed_trials_and_runs_them(swept: Path) -> None:
    store = ParquetStore(swept / "my store")
    broken = [one for one in stored_results(store.root) if one.result.trial.rho == 0.05]
    assert len(broken) > 3
    for one in broken:
        failed = TrialResult(trial=one.result.trial, status="failed", error="the worker died")
        store.write(failed, one.sweep, one.config_json)
    printed = run(swept, "python -m laser_sweep.store failures 'my store'")
    [line] = [line.strip() for line in printed.splitlines() if line.strip().startswith("python ")]
    assert "'store.path='" in line  # a path with a blank is quoted for the shell and for Hydra

    plan = run(swept, f"{line} dry_run=true")
    total = len(read_trials(store.root))
    planned = re.search(r"trials (\d+) .*: reused (\d+), failed before 0, to run (\d+)", plan)
    assert planned is not None, plan
    assert [int(number) for number in planned.groups()] == [total, total - len(broken), len(broken)]

    run(swept, line.replace("laser_sweep -m ", "laser_sweep "))  # in one process, which takes less time than Ray
    again = read_trials(store.root)
    assert len(again) == total
    assert again["status"].eq("done").all()
