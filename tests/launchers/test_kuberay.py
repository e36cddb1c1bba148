"""The RayJob manifest.

The RayJob itself is checked against a schema of our own, written after KubeRay's API reference: names, types and
required fields, so that a misspelt or misplaced key is found. Pods and the volume claim are checked strictly against
Kubernetes' own schemas. Nothing here asks a cluster.
"""

from __future__ import annotations

import copy
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from ..hosts import REPOSITORY

MANIFEST = REPOSITORY / "launchers" / "kuberay" / "rayjob.yaml"
SCHEMA = json.loads(Path(__file__).with_name("rayjob.schema.json").read_text())
KUBERNETES = "1.32"


def documents() -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in yaml.safe_load_all(MANIFEST.read_text())}


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"], **{group["groupName"]: group for group in cluster["workerGroupSpecs"]}}
    return {name: group["template"]["spec"] for name, group in groups.items()}


def validate(document: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_job_has_the_fields_of_the_api_and_no_other() -> None:
    jsonschema.validate(documents()["RayJob"], SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["apiVersion"], "ray.io/v1alpha1"),
        (["spec", "entryPoint"], "laser-sweep"),
        (["spec", "shutdownAfterJobFinishes"], False),
        (["spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "replicas"], "4"),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "image"], "ray"),
    ],
)
def test_a_wrong_field_is_found(path: list[Any], value: object) -> None:
    job: Any = copy.deepcopy(documents()["RayJob"])
    place = job
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def test_pods_and_claim_are_valid_for_kubernetes() -> None:
    found = documents()
    validate(found["PersistentVolumeClaim"])
    for name, spec in pods(found["RayJob"]).items():
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def test_volumes_claims_and_images_belong_together() -> None:
    found = documents()
    specs = pods(found["RayJob"])
    assert len({container["image"] for spec in specs.values() for container in spec["containers"]}) == 1
    for spec in specs.values():
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        claims = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
        assert claims == {found["PersistentVolumeClaim"]["metadata"]["name"]}
        assert {mount["name"] for c in spec["containers"] for mount in c["volumeMounts"]} == set(volumes)
    assert found["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__


def test_no_secret_stands_in_the_manifest_and_workers_have_no_key_of_the_tracker() -> None:
    environment = {
        name: {variable["name"]: variable for container in spec["containers"] for variable in container["env"]}
        for name, spec in pods(documents()["RayJob"]).items()
    }
    for variables in environment.values():
        assert not any("value" in variables[name] for name in ("HF_TOKEN", "WANDB_API_KEY") if name in variables)
    assert [name for name, variables in environment.items() if "WANDB_API_KEY" in variables] == ["head"]


def test_the_line_of_the_job_is_one_that_the_command_understands(tmp_path: Path) -> None:
    """Without a network and with an empty cache it gets as far as looking for the model, the last check of all."""
    program, *line = shlex.split(documents()["RayJob"]["spec"]["entrypoint"])
    assert (program, line[0]) == ("laser-sweep", "-m")
    run = subprocess.run(
        [sys.executable, "-m", "laser_sweep", *line, f"store.path={tmp_path / 'store'}"],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("laser_sweep: model.path=meta-llama/Llama-2-7b-hf "), run.stderr
    assert run.stderr.count("\n") == 1
