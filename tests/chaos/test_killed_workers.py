"""300 trials on four workers, of which one is killed at random every few seconds."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from .conftest import Running, assert_clean, assert_same_numbers, trials

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

RHOS = ",".join(f"{place / 26:.4f}" for place in range(1, 26))
# A trial takes about half a second of a core: the products are the same ones, only more of them.
LINE = (
    "-m", "tau=each", "layer=each", f"rho={RHOS}", "intervention=randomized",
    "intervention.options.power_iterations=1500", "evaluation.confirm=false", "cluster.workers=4",
)  # fmt: skip
TRIALS = 6 * 2 * 25
KILLS = 25
SECONDS = 4.0


@pytest.fixture
def ray_of_four(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The address of a Ray that believes that it has four processors, and its process."""
    sockets = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's socket names must be short
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY")}
    ray = str(Path(sys.executable).with_name("ray"))
    with (tmp_path / "ray.log").open("wb") as log:
        node = subprocess.Popen(
            [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=4", "--include-dashboard=false",
             f"--temp-dir={sockets}", "--disable-usage-stats"],
            env={**kept, "RAY_AUTH_MODE": "disabled"}, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 120
    while "Ray runtime started" not in (tmp_path / "ray.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield f"127.0.0.1:{port}", node.pid
    os.killpg(node.pid, signal.SIGKILL)
    node.wait()
    shutil.rmtree(sockets, ignore_errors=True)


def workers(node: int) -> list[psutil.Process]:
    """The processes that run trials."""
    found = []
    for process in psutil.Process(node).children(recursive=True):
        try:
            if "_RayWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def lasted(found: pd.DataFrame) -> float:
    """Seconds from the start of the first trial to the end of the last one."""
    return (found["finished_at"].max() - found["started_at"].min()).total_seconds()


def test_no_trial_is_lost_doubled_or_wrong_while_workers_are_killed(
    start: Callable[..., Running], ray_of_four: tuple[str, int], tmp_path: Path
) -> None:
    address, node = ray_of_four
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    undisturbed = start(*LINE, f"cluster.address={address}", store=calm)
    assert undisturbed.wait() == 0, undisturbed.text()
    first = trials(calm)
    seconds_calm = lasted(first)
    seconds_up = first["started_at"].min().timestamp() - (time.time() - (time.monotonic() - undisturbed.started))

    dice, killed, before = random.Random(0), 0, 0
    sweep = start(*LINE, f"cluster.address={address}", "cluster.max_attempts=10", store=wild)
    while sweep.process.poll() is None and killed < KILLS:
        time.sleep(SECONDS * dice.uniform(0.5, 1.5))
        there, stored = workers(node), len(list(wild.glob("trials/*.parquet")))
        if there and stored > before:  # where workers start slower than they are killed, nothing would ever be done
            dice.choice(there).send_signal(signal.SIGKILL)
            killed, before = killed + 1, stored
    assert sweep.wait() == 0, sweep.text()
    assert killed == KILLS
    assert f"ran {TRIALS + 1}" in sweep.text()
    found = trials(wild)
    assert_same_numbers(wild, calm)
    assert_clean(wild)
    seconds_wild = lasted(found)
    again = int((found["attempt"] - 1).sum())
    figures = {
        "trials": len(found), "kills": killed, "trials_tried_again": again,
        "seconds_undisturbed": round(seconds_calm, 1), "seconds_disturbed": round(seconds_wild, 1),
        "ratio": round(seconds_wild / seconds_calm, 2),
        "seconds_until_first_trial": round(seconds_up, 1),
    }  # fmt: skip
    print(json.dumps(figures))
    assert again >= 1
    # A worker that is up again has imported its libraries and loaded the model: one processor's work each time.
    restarts = killed * seconds_up / (os.cpu_count() or 1)
    assert seconds_wild - restarts < 2 * seconds_calm, figures
