"""A grid on the embedded model: swept on a cluster, swept by one undisturbed process, and both compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

GRID = ("tau=each", "layer=each", "rho=0.01,0.05,0.1,0.2,0.4", "evaluation.test_limit=200", "tracking=none")
TRIALS = 12 * 5 + 1 + 2  # on val with the untouched model, then the untouched model and the winner on test

_MEASURED = ("status", "accuracy", "log_loss", "majority_accuracy", "balanced_accuracy", "gain", "gain_p_value")


def sweep_alone(grid: Sequence[str], store: Path) -> pd.DataFrame:
    """Runs the grid in one process, without Ray, and returns its trials."""
    line = [argument if "," not in argument else "{}=[{}]".format(*argument.split("=")) for argument in grid]
    subprocess.run(
        [sys.executable, "-m", "laser_sweep", *line, f"store.path={store}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=280,
    )
    return trials(store)


def trials(store: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted((store / "trials").glob("*.parquet"))])


def count(store: Path) -> int:
    return len(list((store / "trials").glob("*.parquet")))


def assert_same_results(store: Path, undisturbed: Path) -> None:
    """Each trial once, and every figure and every answer the same to the last bit."""
    ours, theirs = trials(store), trials(undisturbed)
    assert ours.trial_key.is_unique
    measured = ["trial_key", "sweep", "split", "tau", "layer", "rho", *_MEASURED]
    pd.testing.assert_frame_equal(_by_key(ours[measured]), _by_key(theirs[measured]), check_exact=True)
    files = sorted(file.name for file in (store / "predictions").iterdir())
    assert files == sorted(f"{key}.parquet" for key in ours.trial_key)
    for file in files:
        answers = [pd.read_parquet(path / "predictions" / file) for path in (store, undisturbed)]
        pd.testing.assert_frame_equal(*answers, check_exact=True)


def _by_key(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("trial_key", ignore_index=True)
