"""Ctrl-C in a terminal, which every process of the foreground gets, while a sweep runs on a real Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
MARK = "LASER_SWEEP_TEST"


class Sweep:
    """A command in a session of its own, as in a terminal; its error output goes to a file that is read meanwhile."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], cwd: Path) -> None:
        self.store = cwd / "outputs" / "store"
        self._errors = cwd / "errors.txt"
        self._mark = uuid.uuid4().hex
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "laser_sweep", *arguments],
                env={**environment, MARK: self._mark},
                cwd=cwd,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def errors(self) -> str:
        return self._errors.read_text()

    def stored(self) -> int:
        return len(list(self.store.glob("trials/*.parquet")))

    def wait_until(self, happened: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, self.errors()
            assert self.process.poll() is None, self.errors()
            time.sleep(0.02)

    def relatives(self) -> list[str]:
        """The command lines of the processes that the sweep has started, itself included, and that still run."""
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                try:
                    if f"{MARK}={self._mark}".encode() in (directory / "environ").read_bytes():
                        found.append((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode())
                except OSError:
                    continue
        return found


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    started: list[Sweep] = []

    def run(*arguments: str) -> Sweep:
        started.append(Sweep(arguments, environment, tmp_path))
        return started[-1]

    yield run
    for sweep in started:
        if sweep.process.poll() is None:
            sweep.process.kill()
            sweep.process.wait()


def test_one_interrupt_stores_what_runs_and_the_same_line_completes(start: Callable[..., Sweep], laser: Run) -> None:
    line = (
        "-m",
        "tau=fc_in,fc_out",
        "layer=each",
        "rho=0.01,0.1,0.4",
        "evaluation.limit=200",
        "evaluation.test_limit=50",
        "cluster.workers=1",
        "tracking=none",
    )
    sweep = start(*line)
    sweep.wait_until(lambda: sweep.stored() >= 1)
    sweep.interrupt()
    assert sweep.process.wait(timeout=60) == 130
    assert "once more stops now" in sweep.errors()
    assert "Traceback" not in sweep.errors()
    stored = pd.read_parquet(sweep.store / "trials")
    assert 1 <= len(stored) < 13
    assert set(stored.status) == {"done"}  # the interrupt did not reach the worker
    assert {file.stem for file in (sweep.store / "predictions").iterdir()} == set(stored.trial_key)
    run = laser(*line)
    assert run.returncode == 0
    assert f"reused {len(stored)}, ran {13 + 2 - len(stored)}" in run.stdout
    completed = pd.read_parquet(sweep.store / "trials")
    assert len(completed) == 13 + 2
    kept = completed.set_index("trial_key").loc[stored.trial_key]
    assert list(kept.started_at) == list(stored.started_at)


def test_two_interrupts_stop_at_once_and_leave_no_process_behind(start: Callable[..., Sweep]) -> None:
    """The second trial would take minutes; the second interrupt does not wait for it."""
    sweep = start(
        "-m",
        "intervention=randomized",
        "intervention.options.power_iterations=10000000",
        "evaluation.limit=50",
        "cluster.workers=1",
        "tracking=none",
    )
    sweep.wait_until(lambda: sweep.stored() == 1)
    sweep.interrupt()
    sweep.wait_until(lambda: "once more stops now" in sweep.errors())
    time.sleep(1)
    assert sweep.process.poll() is None  # the first one waits for the trial
    assert any("raylet" in relative for relative in sweep.relatives())
    pressed = time.monotonic()
    sweep.interrupt()
    assert sweep.process.wait(timeout=60) == 130
    assert time.monotonic() - pressed < 15
    assert "Traceback" not in sweep.errors()
    assert sweep.stored() == 1
    assert pd.read_parquet(sweep.store / "trials").tau.isna().all()
    end = time.monotonic() + 20
    while sweep.relatives() and time.monotonic() < end:
        time.sleep(0.1)
    assert sweep.relatives() == []
