"""What a worker computes again for an edit, and what not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from laser_sweep.engine import worker as worker_module
from laser_sweep.engine.evaluation.answers import Questions
from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Task
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.trial import Edit, Evaluation, Matrix, Split, Trial

CHOICES = ("true", "false")


@pytest.fixture(scope="module")
def checkpoint(save_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = save_checkpoint("llama", tmp_path_factory.mktemp("llama"))
    return find_checkpoint(ModelSpec(name="llama", path=str(directory)))


@pytest.fixture(scope="module")
def task(make_task: Callable[..., Task]) -> Task:
    return make_task(40, choices=CHOICES)


def laser(rho: float, tau: str, layer: int) -> Edit:
    return Edit(matrix=Matrix(tau, layer), rho=rho)


def trial(checkpoint: Checkpoint, task: Task, *edits: Edit, split: Split = "val") -> Trial:
    evaluation = Evaluation(dataset=task.name, revision=task.revision, split=split)
    return Trial(model=checkpoint.identity, edits=edits, evaluation=evaluation)


def test_only_where_it_need_not_be_exact_a_gpu_may_compute_in_tf32(
    checkpoint: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[bool] = []
    ask = Questions.ask

    def noting(questions: Questions, **options: Any) -> Any:
        allowed.append(torch.backends.cuda.matmul.allow_tf32)
        return ask(questions, **options)

    monkeypatch.setattr(Questions, "ask", noting)
    exact = trial(checkpoint, task, laser(0.1, "fc_in", 1))
    rough = dataclasses.replace(exact, evaluation=dataclasses.replace(exact.evaluation, exact=False))
    assert exact.key != rough.key
    list(Worker([Workload(checkpoint=checkpoint, task=task)]).run([exact, rough, exact]))
    assert allowed == [False, True, False]
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_a_worker_goes_on_from_the_states_it_holds_and_gives_them_back_for_other_examples(
    checkpoint: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    load_model = worker_module.load_model

    def counting(*arguments: Any) -> PreTrainedModel:
        model = load_model(*arguments)
        for layer, block in enumerate(model.model.layers):
            block.self_attn.q_proj.register_forward_hook(lambda *_, layer=layer: runs.append(layer))
        return model

    monkeypatch.setattr(worker_module, "load_model", counting)
    worker = Worker([Workload(checkpoint=checkpoint, task=task, batch_tokens=10_000)])

    def blocks(*edits: Edit, split: str = "val") -> list[int]:
        list(worker.run([trial(checkpoint, task, split=split)]))  # also loads the model and gives states back
        runs.clear()
        found = []
        for edit in edits:
            assert next(worker.run([trial(checkpoint, task, edit, split=split)])).ok
            found.append(runs.copy())
            runs.clear()
        return found

    up, same, attention = blocks(laser(0.1, "fc_in", 1), laser(0.2, "fc_out", 1), laser(0.1, "q_proj", 2))
    assert up == [0, 1, 2]  # the way up, with the attention that is kept; then the block above the edit
    assert same == [2]
    assert attention == [2, 2]  # the way on from what is kept, and the edited attention itself
    assert blocks(laser(0.1, "fc_in", 0)) == [[0, 1, 2]]
