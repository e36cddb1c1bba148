"""What the command answers without a model: fast, and without the libraries that only a sweep needs."""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from laser_sweep.cli import CONF

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HELP_SECONDS = 1.0
PROGRAM = Path(sys.executable).with_name("laser-sweep")


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def modules_after(code: str, environment: dict[str, str]) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running `code`."""
    report = f"{code}\nimport sys\nprint('\\n'.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", report], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_help_answers_within_a_second_with_three_examples_and_every_group(command: Run, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = command("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, which is what it takes on a machine that does nothing else.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < HELP_SECONDS
    assert (run.returncode, run.stderr) == (0, "")
    examples = [line.split() for line in run.stdout.splitlines() if "python -m laser_sweep" in line]
    assert len(examples) == 3
    assert sum("-m" in example[3:] for example in examples) == 2
    for group in ("model", "dataset", "intervention", "evaluation", "cluster", "tracking"):
        assert f"{group}: {', '.join(options(group))}\n" in run.stdout
    assert "Exit codes: 0" in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_examples_of_the_help_are_valid_requests(laser: Run, forks: Callable[..., dict[str, dict]]) -> None:
    text = forks({"help": ["--help"]})["help"]["out"]
    lines = [shlex.split(line)[3:] for line in text.splitlines() if "python -m laser_sweep" in line]
    runnable = [line for line in lines if "model=llama2" not in line]  # the real one is not on this machine
    assert len(runnable) == 2
    for line in runnable:
        run = laser(*line, "dry_run=true", "tracking=none")
        assert run.returncode == 0, run.stderr


def test_what_needs_no_model_imports_neither_torch_nor_ray_and_writes_nothing(
    forks: Callable[..., dict[str, dict]],
) -> None:
    lines = {
        "help": ["--help"],
        "hydra help": ["--hydra-help"],
        "cfg": ["rho=0.3", "--cfg", "job", "model=llama2"],
        "tree": ["dataset=fever", "--info", "defaults-tree"],
        "install": ["-sc", "install=bash"],
        "complete": ["-sc", "query=bash"],
    }
    answers = forks(lines, env={"COMP_LINE": "laser-sweep model=", "COMP_POINT": "18"})
    for answer in answers.values():
        assert (answer["code"], answer["err"], answer["loaded"], answer["written"]) == (0, "", [], [])
    config = yaml.safe_load(answers["cfg"]["out"])
    assert (config["rho"], config["model"]["path"]) == (0.3, "meta-llama/Llama-2-7b-hf")
    assert "hydra" not in config
    for part in ("model: demo", "dataset: fever", "hydra/sweeper: laser_sweep"):
        assert part in answers["tree"]["out"]
    assert "hydra_bash_completion" in answers["install"]["out"]
    assert set(answers["complete"]["out"].split()) == {f"model={name}" for name in options("model")}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("model=", {f"model={name}" for name in options("model")}),
        ("dataset=f", {"dataset=fever"}),
        ("tracking=", {f"tracking={name}" for name in options("tracking")}),
        ("evaluation.li", {"evaluation.limit="}),
    ],
)
def test_bash_is_offered_what_could_follow(typed: str, offered: set[str], environment: dict[str, str]) -> None:
    line = f"laser-sweep -m {typed}"
    asked = {**environment, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run([str(PROGRAM), "-sc", "query=bash"], env=asked, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == offered


def test_the_engine_is_a_plain_library(environment: dict[str, str]) -> None:
    loaded = modules_after("import laser_sweep.engine.worker", environment)
    assert {"torch", "transformers"} <= loaded
    assert not loaded & {"hydra", "omegaconf", "ray", "wandb", "dash", "duckdb"}


def test_the_command_itself_imports_little(environment: dict[str, str]) -> None:
    loaded = modules_after("import laser_sweep.cli", environment)
    assert "hydra" in loaded
    heavy = {"torch", "transformers", "ray", "wandb", "pyarrow", "numpy", "pandas", "datasets", "duckdb", "rich"}
    assert not loaded & heavy


def test_hydra_plugins_cost_other_applications_nothing(environment: dict[str, str]) -> None:
    """Every Hydra application on the machine imports all plugins that are installed."""
    code = "import hydra_plugins.laser_sweep.launcher, hydra_plugins.laser_sweep.sweeper"
    assert "laser_sweep" not in modules_after(code, environment)


def test_a_package_that_is_not_there_is_a_wrong_request(forks: Callable[..., dict[str, dict]]) -> None:
    outcome = forks({"nope": ["--cfg", "job", "--package", "nope"]})["nope"]
    assert (outcome["code"], outcome["out"]) == (2, "")
    assert outcome["err"] == "package 'nope' not found in config\n"
