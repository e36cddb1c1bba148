"""From a question to a job: the model and the data set found and checked before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

import laser_sweep.demo
from laser_sweep.errors import RequestError
from laser_sweep.sweep.jobs import Job, build_jobs

ASSETS = Path(laser_sweep.demo.__file__).parent / "assets"


def safetensors_header(file: Path) -> dict[str, dict[str, list[int]]]:
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    header.pop("__metadata__", None)
    return header


def test_a_job_counts_the_parameters_of_its_model(demo_job: Callable[..., Job]) -> None:
    def product(shape: list[int]) -> int:
        return 1 if not shape else shape[0] * product(shape[1:])

    stored = sum(product(tensor["shape"]) for tensor in safetensors_header(ASSETS / "model.safetensors").values())
    assert demo_job().parameters == stored


def test_a_job_counts_the_tokens_that_a_trial_reads(demo_job: Callable[..., Job]) -> None:
    tokenizer = Tokenizer.from_file(str(ASSETS / "tokenizer.json"))
    prompts = pq.read_table(ASSETS / "examples.parquet")["prompt"].to_pylist()
    tokens = [len(tokenizer.encode(prompt).ids) for prompt in prompts]
    num_val = len(prompts) // 5
    job = demo_job(limit=None, test_limit=None)
    assert job.prompt_tokens == {"val": sum(tokens[:num_val]), "test": sum(tokens[num_val:])}


def test_each_split_has_its_own_limit_and_a_seed_only_where_it_is_drawn(make_job: Callable[..., Job]) -> None:
    job = make_job(limit=4, test_limit=1000, seed=9)  # val has 10 examples, test 40
    val, test = job.evaluation("val"), job.evaluation("test")
    assert (val.limit, val.seed) == (4, 9)
    assert (test.limit, test.seed) == (None, None)


def test_a_seed_that_draws_nothing_leaves_every_key_as_it_is(make_job: Callable[..., Job]) -> None:
    keys = [{trial.key for trial in make_job(seed=seed).trials("val")} for seed in (0, 1)]
    assert keys[0] == keys[1]
    drawn = [{trial.key for trial in make_job(seed=seed, limit=5).trials("val")} for seed in (0, 1)]
    assert not drawn[0] & drawn[1]


def test_trials_carry_how_they_were_asked_for(demo_job: Callable[..., Job]) -> None:
    job = demo_job(tau=["mlp"], layer=["last", "all"], rho=[0.25])
    [last, every] = job.trials("val")
    assert (last.intervention, last.tau, last.layer, last.rho) == ("laser", "mlp", 1, 0.25)
    assert (every.tau, every.layer) == ("mlp", None)
    assert [(e.matrix.tau, e.matrix.layer) for e in last.edits] == [("fc_in", 1), ("fc_out", 1)]
    assert len(every.edits) == 4


def test_the_untouched_model_is_the_same_trial_for_every_grid(demo_job: Callable[..., Job]) -> None:
    jobs = [demo_job(rho=[0.1]), demo_job(tau=["fc_in"], rho=[0.2, 0.3])]
    assert jobs[0].untouched("val").key == jobs[1].untouched("val").key
    assert jobs[0].untouched("val").key != jobs[0].untouched("test").key


def test_a_model_and_a_data_set_are_read_once_for_all_jobs(demo_job: Callable[..., Job]) -> None:
    question = demo_job().question
    first, second = build_jobs([question, question])
    assert first.task is second.task
    assert first.checkpoint is second.checkpoint


def test_an_answer_that_cannot_be_scored_is_refused_before_anything_runs(
    demo_job: Callable[..., Job], tmp_path: Path
) -> None:
    from dataclasses import replace

    rows = [{"prompt": "a b", "answer": "no such word at all"}] * 10
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    question = demo_job().question
    dataset = replace(question.dataset, name="mine", path=str(tmp_path / "rows.jsonl"))
    with pytest.raises(RequestError, match="row 0: answer 'no such word at all' cannot be told from the prompt"):
        build_jobs([replace(question, dataset=dataset)])


def test_a_layer_that_does_not_exist_is_refused_before_torch_is_imported() -> None:
    script = """
import sys
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError
from laser_sweep.sweep.jobs import EvaluationSpec, Question, build_jobs
from laser_sweep.sweep.search.space import Axes, Intervention
question = Question(
    sweep="s", model=ModelSpec(name="demo", path="package://demo/assets"),
    dataset=DatasetSpec(name="demo", format="prompt_answer", path="package://demo/assets/examples.parquet"),
    intervention=Intervention(name="laser", method="laser"),
    axes=Axes(tau=("fc_in",), layer=(7,), rho=(0.1,)), evaluation=EvaluationSpec(), seed=0, config_json="{}",
)
try:
    build_jobs([question])
except RequestError as error:
    print(error)
print("torch" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    message, torch_imported = ended.stdout.splitlines()
    assert message.startswith("layer=7 does not exist in demo (2 layers, 0..1")
    assert torch_imported == "False"
