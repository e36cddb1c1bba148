"""Ten trials of the embedded model by Hydra's own Optuna sweeper through our launcher, and ten by `search=optuna`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SWEEPER = Path(sys.prefix) / "optuna-sweeper"
"""Where `make test-slow` puts it: it needs an Optuna that is older than ours."""
LIMITS = ("evaluation.limit=60", "evaluation.confirm=false", "tracking=none")


@pytest.mark.slow
@pytest.mark.skipif(not SWEEPER.is_dir(), reason="make test-slow installs hydra-optuna-sweeper and optuna 2")
def test_ten_trials_of_hydras_sweeper_run_through_our_launcher(command: Run, tmp_path: Path) -> None:
    run = command(
        "-m",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=10",
        "hydra.sweeper.n_jobs=5",
        "hydra.sweeper.direction=maximize",
        "hydra.sweeper.sampler.seed=1",
        "tau=choice(fc_in,fc_out)",
        "layer=choice(0,1)",
        "rho=interval(0.005,0.4)",
        *LIMITS,
        env={"PYTHONPATH": str(SWEEPER)},
    )
    assert run.returncode == 0, run.stderr
    edited = pd.read_parquet(tmp_path / "outputs" / "store" / "trials").query("intervention == 'laser'")
    assert len(edited) == 10
    assert (edited["status"] == "done").all()
    best = yaml.safe_load((tmp_path / "optimization_results.yaml").read_text())["best_value"]
    assert best == edited["accuracy"].max()  # Optuna is told what decides on val


def test_ten_trials_of_our_search_run_in_one_sweep(command: Run, tmp_path: Path) -> None:
    run = command("search=optuna", "search.max_trials=10", "tau=[fc_in,fc_out]", "seed=1", *LIMITS)
    assert run.returncode == 0, run.stderr
    assert "Optuna's TPE chose 10 of 36 candidates" in run.stdout
    edited = pd.read_parquet(tmp_path / "outputs" / "store" / "trials").query("intervention == 'laser'")
    assert (len(edited), edited["trial_key"].nunique()) == (10, 10)
    again = command("search=optuna", "search.max_trials=10", "tau=[fc_in,fc_out]", "seed=1", *LIMITS)
    assert "reused 11, ran 0" in again.stdout
