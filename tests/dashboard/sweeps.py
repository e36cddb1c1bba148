"""Real sweeps of the embedded model, for a dashboard to look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import laser_sweep

ASSETS = Path(laser_sweep.__file__).parent / "demo" / "assets"
NAN = "transformer.h.0.mlp.fc_in.weight"


def started(store: Path, *overrides: str) -> subprocess.Popen[str]:
    """The command in a process of its own, without Ray, without network."""
    offline = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    return subprocess.Popen(
        [sys.executable, "-m", "laser_sweep", f"store.path={store}", "tracking=none", *overrides],
        env={**os.environ, **offline},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], exit_code: int = 0) -> None:
    """Waits until a sweep has ended as it should."""
    said, _ = process.communicate(timeout=280)
    assert process.returncode == exit_code, said


def poisoned(directory: Path) -> Path:
    """The embedded model with a weight that is not a number in the first block: only zeroing that matrix cures it."""
    shutil.copytree(ASSETS, directory, ignore=shutil.ignore_patterns("*.parquet"))
    weights = load_file(directory / "model.safetensors")
    weight = weights[NAN].copy()
    weight[3, 5] = np.nan
    save_file({**weights, NAN: weight}, directory / "model.safetensors", {"format": "pt"})
    return directory


def poisoned_sweep(store: Path, model: Path) -> subprocess.Popen[str]:
    """A sweep in which trials fail."""
    asked = ("intervention=zero", "tau=[fc_in,fc_out]", "layer=each", "sweep=poisoned")
    return started(
        store, f"model.path={model}", "model.name=poisoned", *asked, "evaluation.limit=50", "evaluation.test_limit=50"
    )
