from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.engine.tasks import prompt_answer, registry
from laser_sweep.engine.tasks.example import AskedModel
from laser_sweep.engine.tasks.registry import Format, check_family, load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError

CAUSAL = AskedModel("causal", lambda: pytest.fail("no tokenizer is needed"))
WriteRows = Callable[[str, list[dict[str, Any]]], Path]


def test_a_task_is_read_by_the_name_of_its_kind(write_rows: WriteRows) -> None:
    facts = write_rows("facts.csv", [{"prompt": f"p{i}", "answer": "a"} for i in range(6)])
    task = load_task(DatasetSpec(name="mine", format="prompt_answer", path=str(facts)), CAUSAL)
    assert (task.name, len(task.examples), task.examples[2].prompt) == ("mine", 6, "p2")
    claims = write_rows("claims.csv", [{"claim": f"c{i}", "label": 1} for i in range(5)])
    task = load_task(DatasetSpec(name="fever", format="fever", path=str(claims)), CAUSAL)
    assert task.examples[0].choices == ("true", "false")


def test_a_format_that_does_not_exist_is_reported_beside_those_that_do() -> None:
    with pytest.raises(RequestError, match=r"^dataset\.format=fevers does not exist; choose one of .*fever"):
        check_family(DatasetSpec(name="mine", format="fevers", path="facts.csv"), "causal", "gptj")


def test_a_family_that_a_data_set_does_not_serve_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Format(prompt_answer.examples, families=("causal",))
    monkeypatch.setattr(registry, "FORMATS", {"written": written})
    check_family(DatasetSpec(name="mine", format="written"), "causal", "gptj")
    with pytest.raises(
        RequestError, match=r"^dataset=mine asks causal language models, but model=roberta is a masked one$"
    ):
        check_family(DatasetSpec(name="mine", format="written"), "masked", "roberta")


def test_bad_rows_are_refused_with_their_numbers_or_left_out_and_kept_apart_by_split(write_rows: WriteRows) -> None:
    rows = [{"prompt": f"p{i}" if i not in (0, 3, 9, 11, 12) else "", "answer": "a"} for i in range(14)]
    spec = DatasetSpec(name="mine", format="prompt_answer", path=str(write_rows("facts.jsonl", rows)))
    with pytest.raises(
        RequestError,
        match=r"^dataset=mine row 0: there is no prompt; row 3: there is no prompt; row 9: there is no prompt; "
        r"and 2 more; mend the file or set dataset.on_bad_row=skip$",
    ):
        load_task(spec, CAUSAL)
    task = load_task(dataclasses.replace(spec, on_bad_row="skip"), CAUSAL)
    assert [example.row for example in task.examples] == [1, 2, 4, 5, 6, 7, 8, 10, 13]
    assert task.num_val == 1
    assert [bad.row for bad in task.skipped("val")] == [0]
    assert [bad.row for bad in task.skipped("test")] == [3, 9, 11, 12]


def test_a_data_set_too_small_to_have_a_val_split_is_reported(write_rows: WriteRows) -> None:
    rows = [{"prompt": f"p{i}", "answer": "a"} for i in range(4)]
    with pytest.raises(RequestError, match=r"^dataset=mine has 4 examples; val is a fifth, so it takes 5 or more"):
        load_task(DatasetSpec(name="mine", format="prompt_answer", path=str(write_rows("facts.parquet", rows))), CAUSAL)


def test_the_same_rows_in_another_format_are_the_same_task(write_rows: WriteRows) -> None:
    rows = [{"prompt": f"p{i}", "answer": "a"} for i in range(6)]
    revisions = {
        load_task(
            DatasetSpec(name=suffix, format="prompt_answer", path=str(write_rows(f"facts.{suffix}", rows))), CAUSAL
        ).revision
        for suffix in ("csv", "jsonl", "parquet")
    }
    assert len(revisions) == 1
