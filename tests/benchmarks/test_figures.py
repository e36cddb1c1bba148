"""Every benchmark runs at a small size, checks its two sides against each other, and ends with the promised figures."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.vs_stock_launcher import STOCK_LAUNCHER

ROOT = Path(__file__).resolve().parents[2]
PROMISED = {
    "vs_reference": {"late_sweep_ratio", "late_trial_ratio", "full_sweep_ratio", "full_trial_ratio"},
    "planning": {"seconds_per_10000_trials", "hydra_seconds_per_10000_trials"},
    "edit": {"edit_ms", "copy_ms", "edit_ratio"},
    "factor": {"lowrank_ratio", "full_svd_ratio"},
    "scheduler": {"utilisation_gptj_bbh_8", "utilisation_gptj_bbh_64", "utilisation_full_64", "dispatch_ms"},
    "store": {"written_per_second", "aggregate_seconds"},
    "dashboard": {"open_seconds", "filter_seconds", "follow_seconds", "large_open_seconds", "large_filter_seconds"},
    "memory": {"peak_over_held"},
    "factored": {"memory_ratio_0.01", "reading_ratio_0.01", "writing_ratio_0.4"},
    "agreement": {"float32_agreement", "bfloat16_agreement", "float16_agreement"},
    "cold_start": {"help_seconds", "dry_run_seconds", "first_result_seconds", "first_result_ray_seconds"},
}


def figures(name: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--small"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SLOW = {"scheduler", "dashboard", "memory", "cold_start"}
"""They start Ray, a browser or one process after another."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PROMISED]
)
def test_a_benchmark_ends_with_the_promised_figures(name: str) -> None:
    found = figures(name)
    assert PROMISED[name] <= set(found)
    assert all(math.isfinite(value) and value >= 0 for value in found.values() if not isinstance(value, bool))
    assert all(found[promised] > 0 for promised in PROMISED[name])


def test_the_engine_at_the_shape_of_large_models_runs_on_any_device() -> None:
    found = figures("gpu")
    for model in ("llama2", "gptj"):
        assert found[model]["replays"] == 1
        assert {"late_sweep_ratio", "apply_revert_ms", "factor_s_every_mlp_matrix"} <= set(found[model])


@pytest.mark.slow
@pytest.mark.skipif(not STOCK_LAUNCHER.is_dir(), reason="`make bench` installs Hydra's launcher")
def test_the_stock_launcher_finds_the_same_accuracies() -> None:
    assert {"command_ratio", "trial_ratio"} <= set(figures("vs_stock_launcher"))
