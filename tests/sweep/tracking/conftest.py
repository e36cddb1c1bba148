"""W&B without this machine's key and settings, and its own reader for what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from laser_sweep.sweep.jobs import Job
from laser_sweep.trial import TrialResult

Inspect = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings, key or network of this machine."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def inspect() -> Inspect:
    def read(run: Path) -> list[dict[str, Any]]:
        """The records of an offline run that has ended, by `wandb leet inspect`; W&B may still write the last ones."""
        [file] = run.glob("run-*.wandb")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            printed = subprocess.run(
                [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)],
                check=True, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            records = [json.loads(line) for line in printed.stdout.splitlines()]
            if records[-1]["type"] == "exit":
                return records
        raise AssertionError(f"{file} has no end")

    return read


@pytest.fixture(scope="session")
def kill_service() -> Callable[[int], None]:
    def kill(parent: int) -> None:
        """Kills the process of W&B that writes the runs of a process."""
        [service] = [one for one in psutil.Process(parent).children() if is_service(one)]
        service.kill()

    def is_service(process: psutil.Process) -> bool:
        return process.name() == "wandb-core" and process.status() != psutil.STATUS_ZOMBIE

    return kill


@pytest.fixture
def results(make_job: Callable[..., Job], answered: Callable[..., TrialResult]) -> list[TrialResult]:
    """The untouched model, an edit and a failure on val, and the untouched model on test."""
    job = make_job()
    return [
        answered(job.untouched("val"), [True, False], gain=0.0, gain_p_value=1.0),
        answered(job.trials("val")[0], [True, True], gain=0.5, gain_p_value=1.0, log_loss=0.25),
        TrialResult(trial=job.trials("val")[1], status="failed", error="it broke"),
        answered(job.untouched("test"), [False, False]),
    ]
