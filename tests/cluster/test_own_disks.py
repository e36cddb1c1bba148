"""Hosts without a common disk: each reads weights from its own hub cache and keeps its factors; results travel."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from ..grids import assert_same_results, sweep_alone
from ..hosts import REPOSITORY, Host
from ..ray_hosts import ray_hosts

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

MODEL = "someone/recall"
COMMIT = "01c7f73d771dfac7d292323805ebc428287df4f9"
GRID = (
    "model=auto",
    f"model.path={MODEL}",
    "tau=fc_in,fc_out",
    "layer=each",
    "rho=0.01,0.1",
    "evaluation.limit=200",
    "evaluation.test_limit=50",
    "tracking=none",
)
DEMO = REPOSITORY / "laser_sweep" / "demo" / "assets"


def write_hub_cache(home: Path, *, weights: bool) -> None:
    """The embedded model under a hub id, as a download would have left it."""
    repository = home / "hub" / f"models--{MODEL.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for file in DEMO.glob("*.json"):
        shutil.copy(file, snapshot)
    if weights:
        shutil.copy(DEMO / "model.safetensors", snapshot)


def factors(host: Host) -> list[Path]:
    return list((host.files / "cache").rglob("*.safetensors"))


def test_a_host_without_weights_sweeps_on_one_that_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's host has room for no worker; the other one finds its cache by cluster.env alone."""
    write_hub_cache(tmp_path / "hub", weights=True)
    with monkeypatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path / "hub"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        sweep_alone(GRID, tmp_path / "alone")
    with ray_hosts([0, 1]) as (head, other):
        write_hub_cache(head.files / "settings", weights=False)
        write_hub_cache(other.files / "weights", weights=True)
        line = [sys.executable, "-m", "laser_sweep", "-m", *GRID, f"cluster.address={head.address}:6379"]
        env = {**head.environment, "HF_HOME": str(head.disk / "settings")}
        done = head.run(
            *line, f"+cluster.env.HF_HOME={other.disk / 'weights'}", "store.path=store", env=env, timeout=200
        )
        assert done.returncode == 0, done.stderr
        assert_same_results(head.files / "store", tmp_path / "alone")
        assert not (other.files / "store").exists()
        assert len(factors(other)) == 4
        assert factors(head) == []
        assert not list(head.files.rglob("model.safetensors"))
