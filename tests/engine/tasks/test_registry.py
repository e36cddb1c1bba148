from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.engine.tasks.registry import load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError

WriteRows = Callable[[str, list[dict[str, Any]]], Path]


def test_a_task_is_read_by_the_name_of_its_kind(write_rows: WriteRows) -> None:
    facts = write_rows("facts.csv", [{"prompt": f"p{i}", "answer": "a"} for i in range(6)])
    task = load_task(DatasetSpec(name="mine", task="prompt_answer", path=str(facts)))
    assert (task.name, len(task.examples), task.examples[2].prompt) == ("mine", 6, "p2")
    claims = write_rows("claims.csv", [{"claim": f"c{i}", "label": 1} for i in range(5)])
    task = load_task(DatasetSpec(name="fever", task="fever", path=str(claims)))
    assert task.examples[0].choices == ("true", "false")


def test_a_task_that_does_not_exist_is_reported_beside_those_that_do() -> None:
    with pytest.raises(
        RequestError, match=r"^dataset\.task=fevers does not exist; choose one of fever, prompt_answer$"
    ):
        load_task(DatasetSpec(name="mine", task="fevers", path="facts.csv"))


def test_a_data_set_too_small_to_have_a_val_split_is_reported(write_rows: WriteRows) -> None:
    rows = [{"prompt": f"p{i}", "answer": "a"} for i in range(4)]
    with pytest.raises(RequestError, match=r"^dataset=mine has 4 examples; val is a fifth, so it takes 5 or more"):
        load_task(DatasetSpec(name="mine", task="prompt_answer", path=str(write_rows("facts.parquet", rows))))


def test_the_same_rows_in_another_format_are_the_same_task(write_rows: WriteRows) -> None:
    rows = [{"prompt": f"p{i}", "answer": "a"} for i in range(6)]
    revisions = {
        load_task(
            DatasetSpec(name=suffix, task="prompt_answer", path=str(write_rows(f"facts.{suffix}", rows)))
        ).revision
        for suffix in ("csv", "jsonl", "parquet")
    }
    assert len(revisions) == 1
