from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from laser_sweep.engine.evaluation import language
from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.errors import RequestError
from laser_sweep.trial import Edit, Evaluation, Matrix, Split, Trial, TrialResult

BuildModel = Callable[..., PreTrainedModel]
MakeTask = Callable[..., Task]
AskOneByOne = Callable[..., list[Any]]
Truncation = Callable[[torch.Tensor, int], torch.Tensor]

CHOICES = ("true", "false")
WEIGHTS = {
    "gptj": "transformer.h.1.mlp.fc_in",
    "llama": "model.layers.1.mlp.gate_proj",
    "gpt2": "transformer.h.1.mlp.c_fc",
}


@pytest.fixture(scope="module")
def checkpoints(
    save_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Checkpoint]:
    directory = tmp_path_factory.mktemp("models")
    return {
        name: find_checkpoint(ModelSpec(name=name, path=str(save_checkpoint(name, directory / name))))
        for name in WEIGHTS
    }


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[PreTrainedModel]:
    """Every model that transformers loads."""
    loaded: list[PreTrainedModel] = []
    from_pretrained = AutoModelForCausalLM.from_pretrained

    def counting(*arguments: Any, **options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
        model, report = from_pretrained(*arguments, **options)
        loaded.append(model)
        return model, report

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counting)
    return loaded


def trial(
    checkpoint: Checkpoint,
    task: Task,
    *edits: Edit,
    split: Split = "val",
    limit: int | None = None,
    seed: int | None = None,
) -> Trial:
    evaluation = Evaluation(dataset=task.name, revision=task.revision, split=split, limit=limit, seed=seed)
    return Trial(model=checkpoint.identity, edits=edits, evaluation=evaluation)


def laser(rho: float, tau: str = "fc_in", layer: int = 1) -> Edit:
    return Edit(matrix=Matrix(tau, layer), rho=rho)


def work(checkpoint: Checkpoint, task: Task, *trials: Trial, batch_tokens: int = 64) -> list[TrialResult]:
    workload = Workload(checkpoint=checkpoint, task=task, batch_tokens=batch_tokens)
    return list(Worker([workload], device="cpu").run(trials))


def assert_answers_like(
    result: TrialResult,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    examples: tuple[Example, ...],
    ask_one_by_one: AskOneByOne,
) -> None:
    """Every example's figures equal those of `model` asked one prompt at a time."""

    def last(text: str) -> int:
        return int(tokenizer(text)["input_ids"][-1])

    answers = ask_one_by_one(
        model,
        [
            (
                tokenizer(e.prompt)["input_ids"],
                last(f"{e.prompt} {e.gold}"),
                [last(f"{e.prompt} {choice}") for choice in e.choices],
            )
            for e in examples
        ],
    )
    assert result.status == "done", result.error
    found = result.predictions
    assert found is not None
    said = [
        e.choices[a.predicted] if e.choices else tokenizer.decode([a.predicted])
        for e, a in zip(examples, answers, strict=True)
    ]
    assert found.example_id == tuple(e.id for e in examples)
    assert found.gold == tuple(e.gold for e in examples)
    assert found.prediction == tuple(said)
    assert found.correct.tolist() == [a.correct for a in answers]
    assert found.gold_rank.tolist() == [a.gold_rank for a in answers]
    np.testing.assert_allclose(found.gold_log_prob, [a.gold_log_prob for a in answers], rtol=0, atol=1e-4)
    metrics = result.measured()
    assert metrics.num_examples == len(examples)
    assert metrics.accuracy == pytest.approx(sum(a.correct for a in answers) / len(answers))
    assert metrics.log_loss == pytest.approx(-sum(a.gold_log_prob for a in answers) / len(answers), abs=1e-4)


@pytest.mark.parametrize("architecture", WEIGHTS)
@pytest.mark.parametrize("choices", [(), CHOICES])
def test_the_untouched_and_the_edited_model_answer_as_when_asked_one_by_one(
    architecture: str,
    choices: tuple[str, ...],
    checkpoints: dict[str, Checkpoint],
    build_model: BuildModel,
    make_task: MakeTask,
    tokenizer: PreTrainedTokenizerFast,
    ask_one_by_one: AskOneByOne,
    svd_truncation: Truncation,
) -> None:
    checkpoint, task = checkpoints[architecture], make_task(60, choices=choices)
    untouched, edited, test, again = work(
        checkpoint,
        task,
        trial(checkpoint, task),
        trial(checkpoint, task, laser(0.1)),
        trial(checkpoint, task, laser(0.1), split="test"),
        trial(checkpoint, task),
    )
    model = build_model(architecture)
    assert_answers_like(untouched, model, tokenizer, task.examples[:12], ask_one_by_one)
    weight = model.get_submodule(WEIGHTS[architecture]).weight
    weight.copy_(svd_truncation(weight, 3))
    assert_answers_like(edited, model, tokenizer, task.examples[:12], ask_one_by_one)
    assert_answers_like(test, model, tokenizer, task.examples[12:], ask_one_by_one)
    assert untouched.predictions is not None
    assert edited.predictions is not None
    assert again.predictions is not None
    assert np.abs(untouched.predictions.gold_log_prob - edited.predictions.gold_log_prob).max() > 0.1
    np.testing.assert_array_equal(untouched.predictions.gold_log_prob, again.predictions.gold_log_prob)
    assert [[made.rank for made in r.footprints] for r in (untouched, edited, test, again)] == [[], [3], [3], []]


def test_several_edits_of_one_trial_act_together(
    checkpoints: dict[str, Checkpoint],
    build_model: BuildModel,
    make_task: MakeTask,
    tokenizer: PreTrainedTokenizerFast,
    ask_one_by_one: AskOneByOne,
    svd_truncation: Truncation,
) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(50, choices=CHOICES)
    zeroed = Edit(matrix=Matrix("out_proj", 0), rho=0.0, method="zero")
    (result,) = work(checkpoint, task, trial(checkpoint, task, laser(0.25, "fc_out", 2), zeroed))
    model = build_model("gptj")
    model.transformer.h[0].attn.out_proj.weight.zero_()
    weight = model.transformer.h[2].mlp.fc_out.weight
    weight.copy_(svd_truncation(weight, 8))
    assert_answers_like(result, model, tokenizer, task.examples[:10], ask_one_by_one)
    assert [made.rank for made in result.footprints] == [8, 0]


@pytest.mark.parametrize("partition", ["consecutive", "subspaces"])
def test_an_edit_in_blocks_of_rows_says_what_it_is_made_of(
    partition: str,
    checkpoints: dict[str, Checkpoint],
    build_model: BuildModel,
    make_task: MakeTask,
    tokenizer: PreTrainedTokenizerFast,
    ask_one_by_one: AskOneByOne,
    svd_truncation: Truncation,
) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(50, choices=CHOICES)
    options = (("allocation", "fraction"), ("clusters", 4), ("partition", partition), ("seed", 0))
    edit = Edit(matrix=Matrix("fc_in", 1), rho=0.25, method="clustered", options=options)
    (result,) = work(checkpoint, task, trial(checkpoint, task, edit))
    assert result.status == "done", result.error
    [made] = result.footprints
    assert (made.row_clusters is None) == (partition == "consecutive")
    blocks = np.repeat(np.arange(4), 32) if made.row_clusters is None else made.row_clusters
    model = build_model("gptj")
    weight = model.transformer.h[1].mlp.fc_in.weight
    ranks = []
    for block in range(4):
        rows = np.flatnonzero(blocks == block).tolist()
        ranks.append(int(0.25 * min(len(rows), 32)))
        weight[rows] = svd_truncation(weight[rows], ranks[-1]).float()
    assert made.rank == sum(ranks)
    assert_answers_like(result, model, tokenizer, task.examples[:10], ask_one_by_one)


def test_results_do_not_depend_on_the_size_of_the_batches(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask
) -> None:
    checkpoint, task = checkpoints["llama"], make_task(60, choices=CHOICES)
    asked = trial(checkpoint, task, laser(0.1), split="test")
    small, large = (work(checkpoint, task, asked, batch_tokens=tokens)[0].predictions for tokens in (1, 10_000))
    assert small is not None
    assert large is not None
    assert small.prediction == large.prediction
    np.testing.assert_allclose(small.gold_log_prob, large.gold_log_prob, rtol=0, atol=1e-4)


def test_a_drawn_subset_is_asked_in_order(checkpoints: dict[str, Checkpoint], make_task: MakeTask) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(60, choices=CHOICES)
    one, other = work(
        checkpoint,
        task,
        trial(checkpoint, task, split="test", limit=7, seed=3),
        trial(checkpoint, task, split="test", limit=7, seed=4),
    )
    assert one.predictions is not None
    assert other.predictions is not None
    assert one.predictions.example_id == tuple(e.id for e in task.split("test", 7, 3))
    assert other.predictions.example_id == tuple(e.id for e in task.split("test", 7, 4))
    assert one.measured().num_examples == 7


def test_groups_and_frequencies_of_the_data_set_reach_the_predictions(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask
) -> None:
    examples = tuple(
        dataclasses.replace(e, group=f"g{i}" if i else None, frequency=float(i) if i else None)
        for i, e in enumerate(make_task(10).examples)
    )
    task = Task("grouped", examples)
    (result,) = work(checkpoints["gptj"], task, trial(checkpoints["gptj"], task))
    assert result.predictions is not None
    assert result.predictions.group == (None, "g1")
    assert result.predictions.frequency == (None, 1.0)


def test_a_token_that_the_tokenizer_has_not_is_an_empty_prediction(
    build_model: BuildModel, save_checkpoint: Callable[..., Path], make_task: MakeTask, tmp_path: Path
) -> None:
    model = build_model("gptj")
    model.lm_head.bias[-1] = 1000.0
    checkpoint = find_checkpoint(ModelSpec(name="tiny", path=str(save_checkpoint(model, tmp_path))))
    task = make_task(10)
    (result,) = work(checkpoint, task, trial(checkpoint, task))
    assert result.predictions is not None
    assert result.predictions.prediction == ("", "")
    assert result.measured().accuracy == 0


def test_a_model_is_loaded_once_for_all_its_trials(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask, loads: list[PreTrainedModel]
) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(20, choices=CHOICES)
    trials = [trial(checkpoint, task, laser(rho, tau)) for tau in ("fc_in", "fc_out") for rho in (0.1, 0.5)]
    results = work(checkpoint, task, *trials, *trials)
    assert all(result.ok for result in results)
    assert len(loads) == 1
    assert [result.seconds.load > 0 for result in results] == [True] + [False] * 7


def test_nothing_is_loaded_before_a_trial_asks_for_it(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask, loads: list[PreTrainedModel]
) -> None:
    assert work(checkpoints["gptj"], make_task(10)) == []
    assert loads == []


def test_a_worker_changes_models_when_a_trial_asks_for_another(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask, loads: list[PreTrainedModel]
) -> None:
    task = make_task(20, choices=CHOICES)
    gptj, llama = checkpoints["gptj"], checkpoints["llama"]
    worker = Worker([Workload(checkpoint=checkpoint, task=task) for checkpoint in (gptj, llama)], device="cpu")
    order = [gptj, gptj, llama, gptj]
    results = list(worker.run([trial(checkpoint, task, laser(0.1)) for checkpoint in order]))
    assert [result.trial.model.name for result in results] == ["gptj", "gptj", "llama", "gptj"]
    assert [type(model).__name__ for model in loads] == ["GPTJForCausalLM", "LlamaForCausalLM", "GPTJForCausalLM"]
    assert [result.seconds.load > 0 for result in results] == [True, False, True, True]
    losses = [result.measured().log_loss for result in results]
    assert losses[0] == losses[1] == losses[3] != losses[2]


def test_a_worker_answers_questions_of_several_data_sets(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask, loads: list[PreTrainedModel]
) -> None:
    checkpoint = checkpoints["gptj"]
    tasks = make_task(20, choices=CHOICES), make_task(30, seed=1, name="open")
    worker = Worker([Workload(checkpoint=checkpoint, task=task) for task in tasks], device="cpu")
    first, second = worker.run([trial(checkpoint, task) for task in tasks])
    assert (first.measured().num_examples, second.measured().num_examples) == (4, 6)
    assert first.measured().majority_accuracy is not None
    assert second.measured().majority_accuracy is None
    assert len(loads) == 1


def test_examples_are_tokenised_once_for_all_trials(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    encode = language.encode

    def counting(task: Task, examples: tuple[Example, ...], *rest: Any) -> Any:
        sizes.append(len(examples))
        return encode(task, examples, *rest)

    monkeypatch.setattr(language, "encode", counting)
    checkpoint, task = checkpoints["gptj"], make_task(20, choices=CHOICES)
    work(
        checkpoint,
        task,
        *(trial(checkpoint, task, laser(rho), split=split) for split in ("val", "test") for rho in (0.1, 0.2, 0.5)),
    )
    assert sizes == [4, 16]


def test_results_come_one_by_one_as_they_are_measured(checkpoints: dict[str, Checkpoint], make_task: MakeTask) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(10, choices=CHOICES)
    taken: list[int] = []

    def trials() -> Iterator[Trial]:
        for number in range(3):
            taken.append(number)
            yield trial(checkpoint, task)

    results = Worker([Workload(checkpoint=checkpoint, task=task)], device="cpu").run(trials())
    assert taken == []
    next(results)
    assert taken == [0]
    next(results)
    assert taken == [0, 1]


def test_a_result_says_who_measured_it_where_and_when(checkpoints: dict[str, Checkpoint], make_task: MakeTask) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(20, choices=CHOICES)
    before = time.time()
    first, second = work(checkpoint, task, *[trial(checkpoint, task, laser(0.1))] * 2)
    assert before <= first.started_at <= first.finished_at <= second.started_at <= second.finished_at <= time.time()
    assert first.worker == second.worker
    assert first.worker.endswith(f"-{os.getpid()}")
    assert first.device == "cpu"
    assert first.seconds.eval > 0
    assert first.seconds.factor > second.seconds.factor >= 0
    assert first.trial == trial(checkpoint, task, laser(0.1))


@pytest.fixture
def spoilt(build_model: BuildModel, save_checkpoint: Callable[..., Path], tmp_path: Path) -> Checkpoint:
    """A model with a NaN in the second layer's fc_in."""
    model = build_model("gptj")
    model.transformer.h[1].mlp.fc_in.weight[3, 5] = torch.nan
    return find_checkpoint(ModelSpec(name="spoilt", path=str(save_checkpoint(model, tmp_path))))


def test_a_trial_that_cannot_be_computed_fails_with_its_reason_and_the_next_ones_go_on(
    spoilt: Checkpoint,
    build_model: BuildModel,
    make_task: MakeTask,
    tokenizer: PreTrainedTokenizerFast,
    ask_one_by_one: AskOneByOne,
    loads: list[PreTrainedModel],
) -> None:
    task = make_task(40, choices=CHOICES)
    zeroed = Edit(matrix=Matrix("fc_in", 1), rho=0.0, method="zero")
    untouched, truncated, replaced = work(
        spoilt, task, trial(spoilt, task), trial(spoilt, task, laser(0.1)), trial(spoilt, task, zeroed)
    )
    assert (untouched.status, untouched.error) == ("failed", "ValueError: the loss of 8 answers is not finite")
    assert (truncated.status, truncated.error) == ("failed", "ValueError: the weight has entries that are not finite")
    for failed in (untouched, truncated):
        assert failed.metrics is None
        assert failed.predictions is None
        assert failed.finished_at >= failed.started_at > 0
        assert failed.device == "cpu"
    assert untouched.seconds.load > 0
    model = build_model("gptj")
    model.transformer.h[1].mlp.fc_in.weight.zero_()
    assert_answers_like(replaced, model, tokenizer, task.examples[:8], ask_one_by_one)
    assert len(loads) == 1


def test_a_weight_that_is_infinite_fails_the_trial(
    build_model: BuildModel, save_checkpoint: Callable[..., Path], make_task: MakeTask, tmp_path: Path
) -> None:
    model = build_model("llama")
    model.model.layers[0].mlp.gate_proj.weight[0, 0] = torch.inf
    checkpoint = find_checkpoint(ModelSpec(name="tiny", path=str(save_checkpoint(model, tmp_path))))
    task = make_task(10, choices=CHOICES)
    (result,) = work(checkpoint, task, trial(checkpoint, task, laser(0.1, layer=0)))
    assert (result.status, result.error) == ("failed", "ValueError: the weight has entries that are not finite")


def test_a_matrix_that_the_model_has_not_fails_its_trial_alone(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask
) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(20, choices=CHOICES)
    missing, fine = work(
        checkpoint, task, trial(checkpoint, task, laser(0.1, "fc_up", 7)), trial(checkpoint, task, laser(0.1))
    )
    assert missing.status == "failed"
    assert missing.error is not None
    assert "fc_up" in missing.error
    assert "7" in missing.error
    assert fine.ok


def test_a_prompt_that_does_not_fit_the_device_alone_fails_its_trial(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask, loads: list[PreTrainedModel]
) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(20, choices=CHOICES)
    results = Worker([Workload(checkpoint=checkpoint, task=task)], device="cpu").run([trial(checkpoint, task)] * 3)
    first = next(results)

    def refuse(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        raise torch.OutOfMemoryError("the device is full")

    handle = loads[0].register_forward_pre_hook(refuse)
    second = next(results)
    handle.remove()
    third = next(results)
    assert (second.status, second.error) == ("failed", "OutOfMemoryError: the device is full")
    assert first.measured() == third.measured()


def test_a_model_whose_weight_did_not_come_back_is_loaded_again(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask, loads: list[PreTrainedModel]
) -> None:
    checkpoint, task = checkpoints["gptj"], make_task(20, choices=CHOICES)
    results = Worker([Workload(checkpoint=checkpoint, task=task)], device="cpu").run(
        [trial(checkpoint, task, laser(0.1))] * 3
    )
    first = next(results)
    loads[0].transformer.h[1].mlp.fc_in.weight[3, 5] += 1.0
    second, third = results
    assert (second.status, second.error) == ("failed", "fc_in[1] did not come back bit for bit after an edit")
    assert second.seconds.load == 0
    assert third.seconds.load > 0
    assert len(loads) == 2
    assert first.measured() == third.measured()


def test_a_data_set_that_cannot_be_asked_is_the_requests_fault(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask
) -> None:
    examples = (dataclasses.replace(make_task(5).examples[0], gold="zebra"), *make_task(5).examples[1:])
    task = Task("words", examples)
    with pytest.raises(RequestError, match="row 0: answer 'zebra' cannot be told"):
        work(checkpoints["gptj"], task, trial(checkpoints["gptj"], task))


def test_a_prompt_longer_than_the_model_reads_is_the_requests_fault(
    checkpoints: dict[str, Checkpoint], make_task: MakeTask
) -> None:
    long = Example(id="0", prompt="amber " * 65, gold="true")
    task = Task("words", (long, *make_task(5).examples[1:]))
    for name in WEIGHTS:
        with pytest.raises(RequestError, match="row 0: 65 tokens, but the model reads 64"):
            work(checkpoints[name], task, trial(checkpoints[name], task))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_half_precision_answers_the_same_before_and_after_every_edit(
    dtype: str, checkpoints: dict[str, Checkpoint], make_task: MakeTask
) -> None:
    directory = checkpoints["gptj"].directory
    checkpoint = find_checkpoint(ModelSpec(name="gptj", path=str(directory), dtype=dtype))  # type: ignore[arg-type]
    task = make_task(60, choices=CHOICES)
    edits = [
        laser(0.1),
        Edit(matrix=Matrix("fc_out", 0), rho=0.5, method="prune"),
        Edit(matrix=Matrix("q_proj", 2), rho=0.0, method="zero"),
    ]
    before, *edited, after = work(
        checkpoint,
        task,
        trial(checkpoint, task),
        *(trial(checkpoint, task, edit) for edit in edits),
        trial(checkpoint, task),
    )
    assert before.predictions is not None
    assert after.predictions is not None
    np.testing.assert_array_equal(before.predictions.gold_log_prob, after.predictions.gold_log_prob)
    assert len({result.measured().log_loss for result in (before, *edited)}) == 4
