"""The command in processes of its own, and what it has left in its store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

FIGURES = ("accuracy", "log_loss", "accuracy_stderr", "gain", "gain_p_value", "num_examples", "status")


@dataclass
class Running:
    """A command that was started, its output in files that can be read meanwhile."""

    process: subprocess.Popen[bytes]
    log: Path
    started: float

    def wait(self, seconds: float = 900) -> int:
        return self.process.wait(timeout=seconds)

    def text(self) -> str:
        return self.log.read_text()

    @property
    def ran(self) -> int:
        """How many trials it says that it ran."""
        return int(re.findall(r"ran ([\d,]+)", self.text())[-1].replace(",", ""))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts `python -m laser_sweep` without network and tracker, in a session of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "HF_", "HYDRA", "RAY"))}
    environment = {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    running: list[Running] = []

    def run(*line: str, store: Path, **variables: str) -> Running:
        log = tmp_path / f"command-{len(running)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "laser_sweep", *line, f"store.path={store}", "tracking=none"],
                cwd=tmp_path,
                env={**environment, **variables},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        running.append(Running(process, log, time.monotonic()))
        return running[-1]

    yield run
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def trials(store: Path) -> pd.DataFrame:
    """The rows of all trials, one file each, by key; every one of them must be readable."""
    files = sorted((store / "trials").glob("*.parquet"))
    if not files:
        return pd.DataFrame(columns=["trial_key"]).set_index("trial_key")
    frame = pd.concat([pd.read_parquet(file) for file in files])
    assert frame["trial_key"].is_unique
    return frame.set_index("trial_key").sort_index()


def assert_same_numbers(store: Path, reference: Path) -> None:
    """Both hold the same trials with the same figures and answers, bit for bit."""
    found, expected = trials(store), trials(reference)
    assert list(found.index) == list(expected.index)
    pd.testing.assert_frame_equal(found[list(FIGURES)], expected[list(FIGURES)], check_exact=True)
    for key in expected.index:
        answers = [pd.read_parquet(root / "predictions" / f"{key}.parquet") for root in (store, reference)]
        pd.testing.assert_frame_equal(*answers, check_exact=True)


def assert_clean(store: Path) -> None:
    """Nothing half-written, damaged or claimed is left."""
    assert not list(store.rglob("*.tmp"))
    assert not list(store.rglob("*.damaged"))
    assert not (store / "running").exists()
