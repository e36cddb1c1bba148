"""The cluster files against the schema and the checks of the Ray that is installed; no machine is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from ..hosts import REPOSITORY

FOLDER = REPOSITORY / "launchers" / "ray"
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


@pytest.fixture(params=["on_premise.yaml", "aws.yaml"])
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / request.param).read_text())


def test_a_cluster_file_is_what_ray_expects(
    cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jsonschema.validate(cluster, SCHEMA)
    monkeypatch.setenv("HOME", str(tmp_path))
    prepared = prepare_config(cluster)
    validate_config(prepared)
    [workers] = [kind for name, kind in prepared["available_node_types"].items() if name != "head"]
    assert workers["min_workers"] == workers["max_workers"] > 1  # all are there when a sweep counts them


def test_a_misspelt_key_is_found(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="setup_command"):
        jsonschema.validate({**cluster, "setup_command": []}, SCHEMA)


def test_what_is_installed_is_what_is_started(cluster: dict[str, Any]) -> None:
    """One environment for all commands, on the head as on the workers, and the package copied to where it is read."""
    [mounted] = cluster["file_mounts"]
    assert any(f"-c {mounted}/constraints.txt {mounted} " in command for command in cluster["setup_commands"])
    starts = [cluster[f"{role}_start_ray_commands"][-1].split("; ")[-1].split() for role in ("head", "worker")]
    assert {command[0] for command in starts} == {"~/laser_sweep_env/bin/ray"}
    assert {"--dashboard-host=127.0.0.1", "--autoscaling-config=~/ray_bootstrap_config.yaml"} <= set(starts[0])
