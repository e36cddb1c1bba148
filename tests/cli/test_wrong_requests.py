"""A wrong request ends with exit code 2 and one line that names the value, what is allowed, and the override."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pandas as pd
import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SECONDS = 4.0  # of the processor; 2 where nothing else runs, and torch alone takes more
TAUS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_up", "fc_out", "mlp", "attn", "all", "each")
RHO = ("0", "1")

# What is typed, and what the one line must say. DATA is a directory with the files that `data` writes.
LINES: dict[str, tuple[str, ...]] = {
    # axes
    "tau=nope": ("tau=nope", *TAUS),
    "tau=fc_inn": ("tau=fc_inn", "did you mean fc_in?"),
    "tau=[fc_in,nope]": ("tau=nope", *TAUS),
    "tau=[]": ("tau=", "tau=[fc_in,fc_out]"),
    "layer=2": ("layer=2", "demo", "2 layers", "0..1", "last", "each", "all"),
    "layer=-3": ("layer=-3", "demo", "2 layers"),
    "layer=[0,7]": ("layer=7", "demo", "2 layers"),
    "layer=foo": ("layer=foo", "last", "each", "all"),
    "layer=1.5": ("layer=1.5", "whole number"),
    "rho=1.5": ("rho=1.5", *RHO),
    "rho=-1": ("rho=-1", *RHO),
    "rho=abc": ("rho=abc", *RHO),
    "rho=nan": ("rho=nan", *RHO),
    "rho=true": ("rho=True", *RHO),
    "rho=[0.1,2]": ("rho=2", *RHO),
    "rho=0.01,0.05": ("rho=0.01,0.05", "-m", "rho=[0.01,0.05]"),
    "rho=[0.1": ("rho=[0.1",),
    "rho=???": ("rho",),
    # names
    "model=llamma2": ("model=llamma2", "did you mean llama2?", "demo"),
    "dataset=fevr": ("dataset=fevr", "did you mean fever?", "demo"),
    "intervention=lazer": ("intervention=lazer", "did you mean laser?", "prune"),
    "tracking=foo": ("tracking=foo", "none, wandb"),
    "dataset.format=foo": ("dataset.format=foo", "prompt_answer", "fever"),
    "dataset.max_new_tokens=5": ("dataset.max_new_tokens is no setting of the dataset that is chosen",),
    "+model.roles.fc_inn=[w1]": ("model.roles.fc_inn", "fc_in", "fc_out"),
    "hydra.searchpath=[file://nope]": ("hydra.searchpath", "path=nope", "directories that are there"),
    # keys
    "rhoo=0.1": ("rhoo", "did you mean rho?"),
    "evaluation.limt=5": ("evaluation.limt", "did you mean evaluation.limit?"),
    "+evaluation.limt=5": ("evaluation.limt", "did you mean limit?"),
    "evaluation.limit=0": ("evaluation.limit=0", "1 or more"),
    "evaluation.limit=abc": ("evaluation.limit=abc", "integer"),
    "evaluation.split=foo": ("evaluation.split=foo", "'val'", "'all'"),
    "model.dtype=int8": ("model.dtype=int8", "bfloat16"),
    "resume=maybe": ("resume=maybe", "'auto'", "'never'", "'errored'"),
    "~dataset.format": ("dataset.format is missing", "dataset.format=<value>"),
    "model=auto": ("model.path is missing", "model.path=<value>"),
    "model=null": ("model=",),
    "cluster.gpus_per_worker=inf": ("cluster.gpus_per_worker=inf",),
    "cluster.env={A:b}": ("cluster.env", "+cluster.env.A="),
    "-m --cfg job": ("--cfg",),
    # flags
    "--foo": ("--foo is not a flag", "--help", "rho=0.1"),
    "tau=fc_in --multirn rho=0.1,0.2": ("--multirn is not a flag", "did you mean --multirun?"),
    "--cfg nope": ("--cfg", "nope", "job"),
    "--config-dir": ("--config-dir", "expected one argument"),
    "--experimental-rerun DATA/config.pickle": ("--experimental-rerun", "pickle"),
    # configurations of the user
    "--config-dir DATA/conf experiment=broken": ("not YAML", "broken.yaml", "line 1"),
    "--config-dir DATA/conf experiment=bytes": ("not YAML", "can't decode byte"),
    "--config-dir DATA/conf experiment=tagged": ("not YAML", "python/object/apply:os.system", "tagged.yaml"),
    "--config-dir DATA/conf experiment=circle": ("round in a circle", "experiment=circle"),
    "--config-dir DATA/conf experiment=header": ("HYDRA_FULL_ERROR=1",),
    "--config-dir DATA/conf experiment=zero": ("store.path=a\\x00b", "character 0"),
    "--config-dir DATA/conf experiment=numbers": ("cluster.1.5 is not a setting", "workers"),
    "--config-dir DATA/conf experiment=binary": ("model.dtype=", "b'"),
    "--config-dir DATA/conf experiment=mixed": ("model.roles.1",),
    "--config-dir DATA/conf search=nothing": ("search is missing", "search=grid"),
    # files
    "dataset.path=nowhere.parquet": ("dataset.path=nowhere.parquet", "prompt", "answer", ".parquet", ".csv"),
    "dataset.path=DATA": ("dataset.path=DATA", "not a file"),
    "dataset.path=DATA/prompts.parquet": ("dataset.path=DATA/prompts.parquet", "lacks the column answer", "prompt"),
    "dataset.path=DATA/empty.csv": ("dataset.path=DATA/empty.csv", "no rows"),
    "dataset.path=DATA/empty.parquet": ("dataset.path=DATA/empty.parquet", "no rows"),
    "dataset.path=DATA/notes.txt": ("dataset.path=DATA/notes.txt", ".txt", ".parquet", ".jsonl", ".csv"),
    "dataset.path=DATA/junk.parquet": ("dataset.path=DATA/junk.parquet", ".parquet"),
    "dataset.path=DATA/four.parquet": ("4 examples", "5"),
    "dataset.path=DATA/zero.parquet": ("dataset.path=DATA/zero.parquet", "no rows"),
    "dataset.path=DATA/header.csv": ("dataset.path=DATA/header.csv", "no rows"),
    "dataset.path=DATA/empty.jsonl": ("dataset.path=DATA/empty.jsonl", "no rows"),
    "dataset.path=DATA/null.jsonl": ("row 0", "no prompt"),
    "dataset.path=DATA/deep.json": ("dataset.path=DATA/deep.json", "cannot be read as .json"),
    "dataset.path=DATA/often.csv": ("row 0", "frequency", "often"),
    "dataset=fever dataset.path=DATA/labels.csv": ("label", "2", "0", "1"),
    "dataset=fever dataset.path=DATA/lists.jsonl": ("label", "[1]", "0", "1"),
    "model.path=/no/such/place": ("model.path=/no/such/place", "directory", "owner/name"),
    "model.path=DATA": ("model.path=DATA", "config.json"),
    # hub
    "model=llama2": (
        "model.path=meta-llama/Llama-2-7b-hf",
        "cannot be reached",
        "hf download meta-llama/Llama-2-7b-hf",
    ),
    "dataset=fever": ("EleutherAI/fever", "hf download EleutherAI/fever --repo-type dataset", "refs/convert/parquet"),
    "model.path='not a name!'": ("model.path=not a name!", "owner/name"),
    # store
    "store.path=DATA/notes.txt/store": ("store.path=DATA/notes.txt/store", "DATA/notes.txt is a file"),
    # sweeps
    "-m tau=nope": ("tau=nope", *TAUS),
    "-m rho=0.1,2": ("rho=2", *RHO),
    "-m layer=0,99": ("layer=99", "2 layers"),
    "model=demo,lama -m": ("model=lama", "did you mean llama2?"),
    "-m rho=interval(0,1)": ("rho=interval(0,1)", "rho=0.1,0.2"),
    "-m seed=glob(*)": ("seed=glob(*)", "seed=0.1,0.2"),
    "-m foo=1,2": ("foo is not a setting",),
    "-m dataset.path=DATA/prompts.parquet,DATA/four.parquet": ("lacks the column answer",),
    "-m store.path=a,b": ("store", "'a'", "'b'"),
    "-m hydra/launcher=basic rho=0.1,2": ("rho=2", *RHO),
    # searches
    "search=gradiant": ("search=gradiant", "did you mean gradient?", "racing"),
    "search.name=random": ("search.name=random", "gradient", "optuna"),
    "search=gradient search.score=first20": ("search.score=first20", "'predicted_gain'", "'last20'"),
    "search=gradient search.gradient_samples=some": ("search.gradient_samples=some", "integer", "'all'"),
    "search=gradient search.top_matrices=0": ("search.top_matrices=0", "1 or more"),
    "search=gradient search.min_examples=3": ("search.min_examples is no setting of the search that is chosen",),
    "search=gradient intervention=prune": ("search=gradient", "intervention=prune", "laser", "clustered"),
    "search=halving intervention=none": ("search=halving", "intervention=none", "search=grid"),
    "search=halving search.reduction=1": ("search.reduction=1", "2 or more"),
    "search=halving rho=1": ("search=halving", "rho=1"),
    "search=racing search.error=1": ("search.error=1", "between 0 and 1"),
    "search=racing objective=mean_accuracy": ("search=racing", "objective=mean_accuracy", "search=halving"),
    "search=greedy intervention=clustered": ("search=greedy", "one value"),
    "objective=f1": ("objective=f1", "'accuracy'", "'mean_log_loss'"),
    "guard=fevr": ("guard=fevr", "did you mean fever?"),
    "guard=jsonl": ("guard.dataset.path is missing", "guard.dataset.path=<value>"),
    "guard=demo guard.bound=-1": ("guard.bound=-1", "0 or more"),
    "guard=demo guard.limit=0": ("guard.limit=0", "1 or more"),
    "guard=demo guard.dataset.path=nowhere.csv": ("nowhere.csv", "prompt", "answer"),
    "intervention=clustered intervention.options.clusters=0": ("intervention.options.clusters=0", "1 or more"),
    "intervention=clustered intervention.options.clusters=[]": ("intervention.options.clusters=[]", "empty"),
    "intervention=clustered intervention.options.allocation=all": ("intervention.options.allocation=all", "pooled"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    rows = {"prompt": ["amber named amber named"] * 9, "answer": ["amber"] * 9}
    pd.DataFrame({"prompt": rows["prompt"]}).to_parquet(directory / "prompts.parquet")
    pd.DataFrame(rows).head(4).to_parquet(directory / "four.parquet")
    pd.DataFrame(rows).head(0).astype(str).to_parquet(directory / "zero.parquet")
    pd.DataFrame({**rows, "frequency": "often"}).to_csv(directory / "often.csv")
    pd.DataFrame({**rows, "prompt": None}).to_json(directory / "null.jsonl", orient="records", lines=True)
    claims = pd.DataFrame({"claim": list("abcdefg"), "label": 2})
    claims.to_csv(directory / "labels.csv")
    claims.assign(label=[[1]] * 7).to_json(directory / "lists.jsonl", orient="records", lines=True)
    pd.DataFrame({**rows, "prompt": "amber " * 70}).to_csv(directory / "long.csv")
    pd.DataFrame({**rows, "answer": "amber anchor"}).to_csv(directory / "words.csv")
    pd.DataFrame({**rows, "answer": "zebra"}).to_csv(directory / "unknown.csv")
    (directory / "deep.json").write_text("[" * 100_000)
    experiments = directory / "conf" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "broken.yaml").write_text("rho: [0.1")
    (experiments / "bytes.yaml").write_bytes(b"rho: \xff")
    (experiments / "tagged.yaml").write_text("rho: !!python/object/apply:os.system ['touch pwned']")
    (experiments / "circle.yaml").write_text("defaults:\n  - circle\n")
    (experiments / "header.yaml").write_text("# @package [\nrho: 0.1\n")
    (experiments / "zero.yaml").write_text('# @package _global_\nstore: {path: "a\\0b"}\n')
    (experiments / "numbers.yaml").write_text("# @package _global_\ncluster: {1.5: x}\n")
    (experiments / "binary.yaml").write_text("# @package _global_\nmodel: {dtype: !!binary AAAA}\n")
    (experiments / "mixed.yaml").write_text("# @package _global_\nmodel: {roles: {1: w1, fc_in: w2}}\n")
    (directory / "conf" / "search").mkdir()
    (directory / "conf" / "search" / "nothing.yaml").write_text("# @package _global_\nrho: 0.1\n")
    (directory / "header.csv").write_text("prompt,answer\n")
    (directory / "notes.txt").write_text("notes")
    (directory / "junk.parquet").write_text("not parquet at all " * 9)
    for name in ("empty.csv", "empty.parquet", "empty.jsonl"):
        (directory / name).touch()
    return directory


def arguments(line: str, data: Path) -> list[str]:
    """Words as a shell makes them, but that quotes are left to Hydra."""
    words = [line] if "'" in line else line.split()
    return [word.replace("DATA", str(data)) for word in words]


@pytest.fixture(scope="module")
def outcomes(data: Path, forks: Callable[..., dict[str, dict]]) -> dict[str, dict]:
    return forks({line: arguments(line, data) for line in LINES})


def check(outcome: dict[str, Any], says: tuple[str, ...], data: Path) -> None:
    message = outcome["err"]
    assert outcome["code"] == 2, message
    assert message.endswith("\n")
    assert message.count("\n") == 1, message
    assert message.startswith("laser_sweep: ")
    assert [part for part in says if part.replace("DATA", str(data)) not in message] == [], message
    assert "Traceback" not in message
    assert outcome["out"] == ""
    assert outcome["written"] == []
    assert outcome["loaded"] == []  # no torch, and with -m no Ray


@pytest.mark.parametrize("line", LINES)
def test_a_mistake_is_one_line_and_exit_code_2(line: str, outcomes: dict[str, dict], data: Path) -> None:
    check(outcomes[line], LINES[line], data)


@pytest.mark.parametrize(
    "line", ["tau=nope", "layer=99", "model=llamma2", "dataset.path=DATA/prompts.parquet", "-m rho=0.1,2"]
)
def test_a_mistake_that_needs_no_model_is_told_in_a_moment(line: str, command: Run, data: Path, tmp_path: Path) -> None:
    seconds = []
    while len(seconds) < 2 and min(seconds, default=SECONDS) >= SECONDS:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = command(*arguments(line, data))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < SECONDS
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tau=fc_up", ("tau=fc_up", "demo", "q_proj, k_proj, v_proj, out_proj, fc_in, fc_out", "mlp")),
        ("-m tau=fc_in,fc_up", ("tau=fc_up", "demo", "fc_out")),
        ("+model.roles.fc_in=[w1]", ("model.roles.fc_in=[w1]", "mlp.fc_in")),
        ("model.family=masked", ("model.path=package://demo/assets", "model.family=causal")),
        ("dataset.path=DATA/long.csv", ("dataset=demo row 0", "70 tokens", "64", "dataset.on_bad_row=skip")),
        (
            "dataset=jsonl dataset.scoring=next_token dataset.path=DATA/words.csv",
            ("dataset=words row 0", "'amber anchor'", "one token", "dataset.scoring=generation"),
        ),
        ("dataset.path=DATA/unknown.csv", ("dataset=demo row 0", "'zebra'", "cannot be told")),
        ("search=gradient search.gradient_samples=481", ("search.gradient_samples=481", "480", "all")),
        ("search=halving search.min_examples=481", ("search.min_examples=481", "480", "search=halving")),
        ("search=halving evaluation.limit=20", ("search.min_examples=32", "20 examples", "search=halving")),
    ],
)
def test_a_mistake_that_only_the_model_shows_is_found_before_its_weights_are_read(
    line: str, says: tuple[str, ...], laser: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    assert not ray.is_initialized()
    run = laser(*arguments(line, data), "tracking=none")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("laser_sweep: ")
    assert run.stderr.count("\n") == 1
    assert [part for part in says if part not in run.stderr] == [], run.stderr
    assert list(tmp_path.iterdir()) == []
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("store.path=", ("store.path=",)),  # would write into the working directory
        ("intervention=randomized intervention.options.power_iterations=abc", ("power_iterations=abc",)),
        ("intervention=randomized ~intervention.options.seed", ("intervention.options.seed",)),
        ("+intervention.options.power_iterations=3", ("power_iterations",)),  # laser takes no option
    ],
)
def test_what_cannot_be_meant_is_refused(line: str, says: tuple[str, ...], laser: Run, data: Path) -> None:
    run = laser(*arguments(line, data), "tracking=none", "dry_run=true")
    assert run.returncode == 2
    assert [part for part in says if part.replace("DATA", str(data)) not in run.stderr] == [], run.stderr


def test_a_model_without_its_tokenizer_is_a_wrong_request(laser: Run, tmp_path: Path) -> None:
    import laser_sweep

    model = tmp_path / "model"
    model.mkdir()
    assets = Path(laser_sweep.__file__).parent / "demo" / "assets"
    for name in ("config.json", "model.safetensors"):
        shutil.copy(assets / name, model)
    run = laser(f"model.path={model}", "tracking=none")
    assert run.returncode == 2
    assert run.stderr.startswith(f"laser_sweep: model.path={model} has no usable tokenizer")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("GatedRepoError", ("is gated", "https://huggingface.co/meta-llama/Llama-2-7b-hf", "HF_TOKEN")),
        ("RepositoryNotFoundError", ("neither a directory here nor a model on the hub", "HF_TOKEN")),
        ("RevisionNotFoundError", ("no revision main", "https://huggingface.co/meta-llama/Llama-2-7b-hf")),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(
    error: str, says: tuple[str, ...], laser: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import httpx

    response = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
    asked: list[tuple[str, str]] = []

    def refuse(repo_id: str, *, revision: str, **_: object) -> str:
        asked.append((repo_id, revision))
        raise getattr(huggingface_hub.errors, error)("refused\nin two lines", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    run = laser("model=llama2", "tracking=none")
    assert asked == [("meta-llama/Llama-2-7b-hf", "main")]
    assert run.returncode == 2
    assert run.stderr.startswith("laser_sweep: model.path=meta-llama/Llama-2-7b-hf ")
    assert run.stderr.count("\n") == 1
    assert [part for part in says if part not in run.stderr] == [], run.stderr
    assert list(tmp_path.iterdir()) == []
