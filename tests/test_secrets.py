"""Keys and tokens that a sweep is given are in nothing that it writes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from laser_sweep.errors import RequestError, without_credentials

ENVIRONMENT = {
    "WANDB_API_KEY": "plantedwandb0123456789012345678901234567",
    "HF_TOKEN": "hf_plantedhub",
    "HUGGING_FACE_HUB_TOKEN": "hf_plantedoldhub",
    "AWS_SECRET_ACCESS_KEY": "plantedaws",
    "LASER_TOKEN": "plantedvariable",
}
LINE = [
    "rho=0.1",
    "evaluation.limit=9",
    "evaluation.test_limit=9",
    "sweep=marker",
    "+cluster.env.MY_TOKEN=plantedenv",
    "+cluster.env.MY_OTHER_TOKEN=${oc.env:LASER_TOKEN}",
    "+dataset.url='https://user:plantedlogin@host.example/rows.csv?page=2&token=plantedquery'",
]
AFTERWARDS = """
import runpy, sys
for line in (
    ["laser_sweep.report"],
    ["laser_sweep.report", "--markdown", "--to", "outputs/report.md"],
    ["laser_sweep.store", "export", "--to", "outputs/trials.csv"],
    ["laser_sweep.store", "export", "--format=json", "--predictions", "--to", "outputs/predictions.json"],
    ["laser_sweep.store", "show"],
    ["laser_sweep.store", "show", "outputs/store", KEY],
    ["laser_sweep.store", "failures"],
    ["laser_sweep.store", "sync", "--granularity=trial"],
):
    sys.argv = line
    try:
        runpy.run_module(line[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, (line, end.code)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every byte that a sweep, its tracker, and the commands on its store wrote or printed, by file."""
    directory = tmp_path_factory.mktemp("sweep")
    home = tmp_path_factory.mktemp("home")
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "HF_", "HYDRA"))},
        **ENVIRONMENT,
        **{"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(home)},
    }
    runs = [[sys.executable, "-m", "laser_sweep", *LINE]]
    found = {}
    for number in range(2):
        if number:
            key = next((directory / "outputs" / "store" / "trials").glob("*.parquet")).stem
            runs.append([sys.executable, "-c", AFTERWARDS.replace("KEY", repr(key))])
        run = subprocess.run(runs[number], cwd=directory, env=env, capture_output=True, timeout=280)
        assert run.returncode == 0, run.stderr.decode()
        found[f"printed {number}"] = run.stdout + run.stderr
    for root in (directory, home):
        found |= {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return found


def test_everything_is_searched(written: dict[str, bytes]) -> None:
    """The name of the sweep stands wherever a configuration does."""
    with_name = [name for name, content in written.items() if b"marker" in content]
    for place in ("store/trials", "wandb/offline-run", "report.html", "trials.csv", "printed 1"):
        assert [name for name in with_name if place in name] != [], place
    shown = written["outputs/trials.csv"]
    assert b"https://***@host.example/rows.csv?page=2&token=***" in shown


@pytest.mark.parametrize("secret", ["planted", *ENVIRONMENT.values()])
def test_no_key_and_no_token_is_written(secret: str, written: dict[str, bytes]) -> None:
    assert [name for name, content in written.items() if secret.encode() in content] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@host/a@b?x=1", "https://***@host/a@b?x=1"),
        ("https://hf_abc@host/a", "https://***@host/a"),
        ("s3://bucket/key?X-Amz-Signature=abc&X-Amz-Date=1", "s3://bucket/key?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://host/a?access_token=abc#b", "https://host/a?access_token=***#b"),
        ("a https://u:p@h/x, then https://h/?api_key=k", "a https://***@h/x, then https://h/?api_key=***"),
        ("https://host/tokens?page=2", "https://host/tokens?page=2"),
        ("me@host", "me@host"),
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
    ],
)
def test_addresses_lose_what_opens_doors_and_nothing_else(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert str(RequestError(text)) == shown
