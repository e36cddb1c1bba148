"""One worker that never ends: nothing piles up in it, and its model stays what it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRIALS, EVERY = 5000, 500


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_5000_trials_of_one_worker_leave_memory_files_and_weights_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "soak.py"), str(TRIALS), str(EVERY), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    held = [figures["held"][str(number)] for number in range(EVERY, TRIALS + 1, EVERY)]
    growth = held[-1]["bytes"] / held[0]["bytes"] - 1
    with capsys.disabled():
        print(
            f"\nsoak: {TRIALS:,} trials in {figures['seconds']:.0f} s, {figures['loads']} model load, "
            f"{held[0]['bytes'] / 2**20:.1f} MiB after {EVERY}, {held[-1]['bytes'] / 2**20:.1f} MiB after {TRIALS:,} "
            f"({growth:+.2%}), open files {held[0]['files']} and {held[-1]['files']}, "
            f"{len(set(figures['bits']))} checksum of the weights in {len(figures['bits'])} looks"
        )
    assert figures["failed"] == []
    assert figures["loads"] == 1
    assert len(set(figures["bits"])) == 1
    assert {each["files"] for each in held} == {held[0]["files"]}
    assert growth < 0.02
