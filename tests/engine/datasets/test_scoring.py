"""How an answer without choices is read, and what a masked model is asked of a file of one's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.sweep.jobs import Job
from laser_sweep.trial import TrialResult

from .agreement import check_predictions
from .answers import OneByOne
from .models import WORDS
from .prompts import TRUE_FALSE, Asked, Kind
from .rows import write_file
from .studies import Study, shipped_spec

Plan = Callable[[str, DatasetSpec], Job]
Run = Callable[..., list[TrialResult]]


def answers(study: Study, golds: list[str], tmp_path: Path) -> tuple[str, list[Asked]]:
    """A file of CounterFact with other answers, one for each record, and what it asks in the test split."""
    (records,) = copy.deepcopy(study.files).values()
    rows: list[Any] = records
    for row, gold in zip(rows, golds, strict=True):
        row["requested_rewrite"]["target_true"]["str"] = gold
    asked = [replace(one, gold=golds[one.row]) for one in study.part("test")]
    return str(write_file(tmp_path / "records.json", "counterfact", rows)), asked


@pytest.mark.parametrize(
    ("family", "golds", "changes", "kind"),
    [
        ("gptj", [*WORDS[:7], "entailment"], {}, "generation"),
        ("phi", WORDS[:8], {}, "token"),
        ("llama2", WORDS[:8], {}, "token"),
        ("llama2", [*WORDS[:7], "Rome"], {}, "generation"),
        ("llama2", WORDS[:8], {"scoring": "generation"}, "generation"),
        ("roberta", WORDS[:8], {}, "token"),
    ],
)
def test_answers_are_generated_where_one_of_them_is_no_single_token(
    family: str,
    golds: list[str],
    changes: dict[str, str],
    kind: Kind,
    study: Callable[..., Study],
    plan: Plan,
    run: Run,
    one_by_one: Callable[..., OneByOne],
    tmp_path: Path,
) -> None:
    made = study(family, "counterfact")
    path, asked = answers(made, list(golds), tmp_path)
    job = plan(family, made.spec(path=path, **changes))
    (result,) = run(job.checkpoint, job.task, [("test", False)])
    check_predictions(result, asked, [one_by_one(family).figures(one, kind) for one in asked])


MASKED: list[tuple[str, dict[str, Any], str, Kind]] = [
    ("The claim of {} is", {}, "The claim of {} is <mask>.", "token"),
    ("The claim of {} is ", {}, "The claim of {} is <mask>.", "token"),
    ("Is {} <mask> or the person?", {}, "Is {} <mask> or the person?", "token"),
    ("Is {} <mask> or the person?", {"choices": TRUE_FALSE}, "Is {} <mask> or the person?", "token"),
    ("The claim of {} is", {"choices": TRUE_FALSE}, "The claim of {} is", "choices"),
    ("The claim of {} is", {"scoring": "generation"}, "The claim of {} is", "generation"),
]


@pytest.mark.parametrize(("written", "changes", "prompt", "kind"), MASKED)
def test_a_masked_model_fills_in_the_mask_or_the_end_of_a_prompt(
    written: str,
    changes: dict[str, Any],
    prompt: str,
    kind: Kind,
    plan: Plan,
    run: Run,
    one_by_one: Callable[..., OneByOne],
    tmp_path: Path,
) -> None:
    subjects = ("Ada", "the machine", "a person of the text", "Bach", "Rome")
    rows = [{"prompt": written.format(who), "answer": TRUE_FALSE[len(who) % 2]} for who in subjects]
    file = write_file(tmp_path / "own.jsonl", "jsonl", rows)
    job = plan("roberta", shipped_spec("jsonl", name="own", path=str(file), **changes))
    asked = [
        Asked(
            id=str(number),
            row=number,
            prompt=prompt.format(who),
            gold=rows[number]["answer"],
            choices=changes.get("choices", ()),
        )
        for number, who in enumerate(subjects)
    ]
    assert [one.prompt for one in job.task.examples] == [one.prompt for one in asked]
    val, test = run(job.checkpoint, job.task, [("val", False), ("test", False)])
    figures = [one_by_one("roberta").figures(one, kind) for one in asked]
    check_predictions(val, asked[:1], figures[:1])
    check_predictions(test, asked[1:], figures[1:])
