"""`python -m laser_sweep.store` as a person types it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "laser_sweep.store", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_show_lists_every_trial(
    store: ParquetStore,
    make_result: Callable[..., TrialResult],
    make_failed: Callable[..., TrialResult],
    tmp_path: Path,
) -> None:
    done, untouched, failed = make_result(0.125, gain=0.25), make_result(None), make_failed(0.5)
    for result in (done, untouched, failed):
        store.write(result, "sweep", "{}")
    shown = command("show", store.root, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    lines = {line.split()[0]: line for line in shown.stdout.splitlines() if line.strip()}
    row = lines[done.trial.key].split()
    assert row[1:] == [
        "tiny", "colours", "val", "laser", "fc_in", "3", "0.125", "done", f"{done.measured().accuracy:g}", "0.25",
    ]  # fmt: skip
    assert lines[untouched.trial.key].split()[4:6] == ["none", "done"]
    assert lines[failed.trial.key].split()[-1] == "failed"


def test_show_looks_into_outputs_store_by_default(make_result: Callable[..., TrialResult], tmp_path: Path) -> None:
    result = make_result(0.125)
    ParquetStore(tmp_path / "outputs" / "store").write(result, "sweep", "{}")
    assert result.trial.key in command("show", cwd=tmp_path).stdout


def test_compact_says_how_many_trials_it_merged(
    store: ParquetStore, make_result: Callable[..., TrialResult], tmp_path: Path
) -> None:
    for rho in (0.1, 0.2, 0.3):
        store.write(make_result(rho), "sweep", "{}")
    merged = command("compact", store.root, cwd=tmp_path)
    assert (merged.returncode, merged.stdout) == (0, "merged 3 trials\n"), merged.stderr
    assert len(list(store.trials.iterdir())) == 1
    again = command("compact", store.root, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "nothing to merge\n"), again.stderr


@pytest.mark.parametrize("name", ["show", "compact"])
def test_a_missing_store_is_reported_in_one_line(tmp_path: Path, name: str) -> None:
    ended = command(name, tmp_path / "none", cwd=tmp_path)
    assert ended.returncode == 2, ended.stdout
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert str(tmp_path / "none") in line
    assert not (tmp_path / "none").exists()
