"""Someone else's evaluation of a dense export finds what the trial found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from laser_sweep.store.reader import read_trials

from ..engine.tasks.test_lm_eval import subwords, write_task  # noqa: F401


def test_the_harness_finds_the_accuracy_of_the_trial_on_a_dense_export(
    build_model: Callable[..., PreTrainedModel],
    subwords: PreTrainedTokenizerFast,  # noqa: F811
    write_task: Callable[..., Path],  # noqa: F811
    sweep: Callable[..., Path],
    export: Callable[..., Any],
    tmp_path: Path,
) -> None:
    build_model("gptj", vocab_size=len(subwords), n_positions=512).save_pretrained(tmp_path / "model")
    subwords.save_pretrained(tmp_path / "model")
    tasks = write_task()
    asked = ("dataset=lm_eval", "dataset.task=mine", f"dataset.path={tasks}", "evaluation.limit=null")
    store = sweep(
        tmp_path / "store",
        *("model=auto", f"model.path={tmp_path / 'model'}", *asked, "evaluation.test_limit=null"),
        *("tau=mlp", "layer=1", "rho=0.1", "evaluation.split=all"),
    )
    trials = read_trials(store)
    right = {
        edited: (rows["accuracy"] * rows["num_examples"]).sum() / rows["num_examples"].sum()
        for edited, rows in trials.groupby(trials["edits"].map(len).gt(0))
    }
    key = trials[trials["edits"].map(len).gt(0)]["trial_key"].iloc[0]
    ended = export(key, "--to", "new", "--verify", store=store)
    assert (ended.code, ended.err) == (0, "")

    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(Path("new").resolve()), batch_size=4, device="cpu"),
        tasks=["mine"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )

    assert found is not None
    assert len(found["samples"]["mine"]) == sum(1 for _ in (tasks / "test.jsonl").open())
    assert found["results"]["mine"]["acc,none"] == pytest.approx(right[True], rel=0, abs=1e-12)
    assert json.loads(Path("new/laser_sweep.json").read_text())["trial"] == key
