"""A row that cannot be asked is refused with its number, or left out and counted; the others stay what they were."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError
from laser_sweep.sweep.jobs import Job
from laser_sweep.trial import TrialResult

from .agreement import check_predictions
from .answers import OneByOne
from .models import POSITIONS
from .prompts import TRUE_FALSE, Asked, Kind
from .rows import write_file
from .studies import shipped_spec

RUNS = [("val", False), ("test", False), ("test", True)]
COUNT = 10
LONG = "a claim about a person of the text, " * 60
Plan = Callable[[str, DatasetSpec], Job]
Run = Callable[..., list[TrialResult]]


def claims() -> list[dict[str, Any]]:
    """Rows with choices, the answer by itself or by its place."""
    rows = [
        {"prompt": f"The claim {'of the person ' * (number % 4)}number {number} is", "answer": TRUE_FALSE[number % 2]}
        for number in range(COUNT)
    ]
    rows[3]["answer"] = "1"
    return [{**row, "choices": list(TRUE_FALSE)} for row in rows]


def facts(masked: bool) -> list[dict[str, Any]]:
    """Rows without choices, whose answers are one token."""
    mask = " <mask> now." if masked else ""
    words = ("Rome", "poet", "river")
    return [
        {"prompt": f"The {'capital ' * (number % 3)}of {number} is{mask}", "answer": words[number % 3]}
        for number in range(COUNT)
    ]


CASES = {
    "empty prompt": ("gptj", {"prompt": ""}, "there is no prompt"),
    "prompt of spaces": ("llama2", {"prompt": "  "}, "there is no prompt"),
    "no prompt": ("roberta", {"prompt": None}, "there is no prompt"),
    "no answer": ("phi", {"answer": None}, "there is no answer"),
    "answer not in choices": ("gptj", {"answer": "maybe"}, "answer 'maybe' is none of true, false"),
    "place not in choices": ("roberta", {"answer": "2"}, "answer '2' is none of true, false"),
    "choice without tokens": ("gptj", {"choices": ["true", "false", ""]}, "choice '' is empty"),
    "choice of spaces": ("roberta", {"choices": ["true", "false", " "]}, "choice ' ' is empty"),
    "choice of nothing": ("llama2", {"choices": ["true", "false", None]}, "choices"),
    "long prompt": ("gptj", {"prompt": LONG}, f"tokens, but the model reads {POSITIONS}"),
    "long prompt for Llama": ("llama2", {"prompt": LONG}, f"tokens, but the model reads {POSITIONS}"),
    "long prompt for RoBERTa": ("roberta", {"prompt": LONG}, f"tokens, but the model reads {POSITIONS}"),
}
NO_CHOICES = {
    "long answer": ("gptj", {"answer": "non-entailment"}, "answer 'non-entailment' is not one token"),
    "long answer in a mask": ("roberta", {"answer": "non-entailment"}, "answer 'non-entailment' is not one token"),
    "two masks": ("roberta", {"prompt": "The <mask> is <mask>."}, "the prompt has 2 masks instead of 1"),
}


def check_refused(plan: Plan, family: str, spec: DatasetSpec, row: int, reason: str) -> None:
    """One line that names the row and what is wrong with it."""
    with pytest.raises(RequestError, match=f"row {row}: .*{re.escape(reason)}") as refused:
        plan(family, spec)
    assert "\n" not in str(refused.value)
    assert f"dataset={spec.name}" in str(refused.value)
    assert "dataset.on_bad_row=skip" in str(refused.value)


def check_skipped(
    job: Job, run: Run, row: int, reason: str, expected: Mapping[str, Asked], one_by_one: Callable[..., OneByOne]
) -> None:
    """`expected` are the questions that are left, by their ids."""
    assert [bad.row for bad in job.bad_rows] == [row]
    assert reason in str(job.bad_rows[0])
    results = run(job.checkpoint, job.task, RUNS)
    for result, (_, edited) in zip(results, RUNS, strict=True):
        asked = [expected[example_id] for example_id in result.predictions.example_id]
        model = one_by_one(job.checkpoint.spec.name, edited=edited)
        check_predictions(result, asked, [model.figures(one, "token") for one in asked])
    said = [example_id for result in results[:2] for example_id in result.predictions.example_id]
    assert said == list(expected)
    skipped = [result.metrics.num_skipped for result in results[:2]]
    assert skipped == ([1, 0] if row == 0 else [0, 1])


@pytest.mark.parametrize("place", [0, COUNT - 2])
@pytest.mark.parametrize("case", [*CASES, *NO_CHOICES])
def test_a_bad_row_of_a_file_is_refused_or_left_out(
    case: str, place: int, plan: Plan, run: Run, one_by_one: Callable[..., OneByOne], tmp_path: Path
) -> None:
    family, changes, reason = {**CASES, **NO_CHOICES}[case]
    rows = claims() if case in CASES else facts(family == "roberta")
    if case in CASES and family == "roberta":
        rows = [{**row, "prompt": row["prompt"] + " <mask>."} for row in rows]
    questions = _questions(rows, leave_out=place)
    rows[place] = {**rows[place], **changes}
    file = write_file(tmp_path / "own.jsonl", "jsonl", rows)
    scoring = {} if case in CASES else {"scoring": "next_token"}
    spec = shipped_spec("jsonl", name="own", path=str(file), **scoring)
    check_refused(plan, family, spec, place, reason)
    skipping = shipped_spec("jsonl", name="own", path=str(file), on_bad_row="skip", **scoring)
    check_skipped(plan(family, skipping), run, place, reason, questions, one_by_one)


def _questions(rows: Sequence[Mapping[str, Any]], leave_out: int) -> dict[str, Asked]:
    asked = {}
    for number, row in enumerate(rows):
        choices = tuple(row.get("choices", ()))
        gold = choices[int(row["answer"])] if row["answer"].isdecimal() else row["answer"]
        if number != leave_out:
            asked[str(number)] = Asked(id=str(number), row=number, prompt=row["prompt"], gold=gold, choices=choices)
    return asked


def test_a_split_with_nothing_left_is_refused(plan: Plan, tmp_path: Path) -> None:
    rows = [{**row, "prompt": LONG} for row in claims()]
    file = write_file(tmp_path / "own.jsonl", "jsonl", rows)
    with pytest.raises(RequestError, match=f"row 0: .*model reads {POSITIONS}") as refused:
        plan("gptj", shipped_spec("jsonl", name="own", path=str(file), on_bad_row="skip"))
    assert "\n" not in str(refused.value)
    assert "set dataset.on_bad_row=skip" not in str(refused.value)  # it is set


@pytest.mark.parametrize("kind", ["token", "generation"])
@pytest.mark.parametrize("family", ["gptj", "llama2", "roberta"])
def test_a_prompt_may_fill_all_positions_of_the_model(
    family: str, kind: Kind, plan: Plan, run: Run, one_by_one: Callable[..., OneByOne], tmp_path: Path
) -> None:
    """What is generated needs room as well; one token more is one too many."""
    model, masked = one_by_one(family), family == "roberta"
    rows = [{**row, "prompt": row["prompt"] + " <mask>" * (masked and kind == "token")} for row in claims()]
    if kind == "generation":
        rows = [{"prompt": row["prompt"], "answer": row["choices"][number % 2]} for number, row in enumerate(rows)]
    room = 0 if kind == "token" else 5 if masked else 10
    few = len(model.tokenizer(rows[6]["prompt"])["input_ids"]) + room
    for more, fits in ((POSITIONS - few, True), (POSITIONS - few + 1, False)):
        longer = {**rows[6], "prompt": "The" + " is" * more + rows[6]["prompt"][3:]}
        assert len(model.tokenizer(longer["prompt"])["input_ids"]) + room == few + more
        file = write_file(tmp_path / "own.jsonl", "jsonl", [*rows[:6], longer, *rows[7:]])
        scoring = {"scoring": "generation"} if kind == "generation" else {}
        spec = shipped_spec("jsonl", name="own", path=str(file), **scoring)
        if not fits:
            check_refused(plan, family, spec, 6, f"{POSITIONS + 1} tokens, but the model reads {POSITIONS}")
            continue
        job = plan(family, spec)
        (result,) = run(job.checkpoint, job.task, [("test", False)])
        asked = list(_questions([*rows[:6], longer, *rows[7:]], leave_out=-1).values())[2:]
        check_predictions(result, asked, [model.figures(one, kind) for one in asked])
