"""`ray job submit`, as the README of launchers/ray has it, to a cluster of one host."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ..grids import assert_same_results, sweep_alone
from ..hosts import hosts, why_no_hosts
from ..ray_hosts import start_ray

pytestmark = [pytest.mark.netns, pytest.mark.timeout(400)]

# ray[default], apart from the environment, where it would start its agents in every test.
EXTRAS = Path(sys.prefix) / "ray-default"
GRID = ("tau=fc_in,fc_out", "layer=last", "rho=0.01,0.1", "evaluation.test_limit=50", "tracking=none")


@pytest.mark.skipif(not EXTRAS.is_dir(), reason=f"no {EXTRAS}: make test-cluster installs ray[default] there")
def test_a_submitted_job_sweeps_and_its_exit_code_comes_back(tmp_path: Path) -> None:
    reason = why_no_hosts()
    if reason is not None:
        pytest.skip(reason)
    sweep_alone(GRID, tmp_path / "alone")
    with hosts(1) as [host]:
        env = {**host.environment, "PYTHONPATH": f"{EXTRAS}:{host.environment['PYTHONPATH']}"}
        start_ray(host, host, cpus=1, dashboard=True, env=env)
        submit = ("ray", "job", "submit", "--address=http://127.0.0.1:8265", "--", "laser-sweep", "-m", "cluster=auto")
        done = host.run(*submit, *GRID, f"store.path={host.disk / 'store'}", env=env, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr + host.log("ray.log")
        assert "trials: reused 0, ran 7" in done.stdout
        assert_same_results(host.files / "store", tmp_path / "alone")
        refused = host.run(*submit, "tau=no_such_matrix", env=env, timeout=100)
        assert refused.returncode == 1
        assert "tau=no_such_matrix" in refused.stdout
