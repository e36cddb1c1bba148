from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.prompt_answer import examples
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError

WriteRows = Callable[[str, list[dict[str, Any]]], Path]


def read(file: Path) -> list[Example]:
    return list(examples(DatasetSpec(name="facts", task="prompt_answer", path=str(file))))


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "csv"])
def test_prompts_and_answers_are_read_in_order_from_every_format(suffix: str, write_rows: WriteRows) -> None:
    rows = [{"prompt": f"The capital, of {i} is", "answer": city} for i, city in enumerate(("Rome", "Oslo", "Rome"))]
    assert read(write_rows(f"facts.{suffix}", rows)) == [
        Example(id="0", prompt="The capital, of 0 is", gold="Rome"),
        Example(id="1", prompt="The capital, of 1 is", gold="Oslo"),
        Example(id="2", prompt="The capital, of 2 is", gold="Rome"),
    ]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_group_and_frequency_are_read_where_the_file_has_them(suffix: str, write_rows: WriteRows) -> None:
    rows = [
        {"prompt": "p", "answer": "a", "group": "g1", "frequency": 12},
        {"prompt": "q", "answer": "b", "group": "g2", "frequency": 0},
    ]
    found = read(write_rows(f"facts.{suffix}", rows))
    assert [(e.group, e.frequency) for e in found] == [("g1", 12.0), ("g2", 0.0)]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_a_missing_group_or_frequency_of_one_row_is_none(suffix: str, write_rows: WriteRows) -> None:
    rows = [
        {"prompt": "p", "answer": "a", "group": None, "frequency": None},
        {"prompt": "q", "answer": "b", "group": "g2", "frequency": 3},
    ]
    found = read(write_rows(f"facts.{suffix}", rows))
    assert [(e.group, e.frequency) for e in found] == [(None, None), ("g2", 3.0)]


def test_an_answer_that_is_a_number_is_read_as_its_digits(write_rows: WriteRows) -> None:
    found = read(write_rows("facts.parquet", [{"prompt": "p", "answer": 1969}]))
    assert found[0].gold == "1969"


@pytest.mark.parametrize("words", [("true", "false"), ("NA", "yes"), ("null", "yes"), ("007", "008"), ("1.50", "2")])
def test_an_answer_in_a_csv_file_is_the_text_that_stands_there(words: tuple[str, ...], write_rows: WriteRows) -> None:
    rows = [{"prompt": f"p{i}", "answer": word} for i, word in enumerate(words)]
    assert tuple(e.gold for e in read(write_rows("facts.csv", rows))) == words


def test_an_answer_that_looks_like_a_date_is_the_text_that_stands_there(write_rows: WriteRows) -> None:
    found = read(write_rows("facts.jsonl", [{"prompt": "p", "answer": "1969-07-20"}]))
    assert found[0].gold == "1969-07-20"


@pytest.mark.parametrize("column", ["prompt", "answer"])
def test_a_row_without_prompt_or_answer_is_reported(column: str, write_rows: WriteRows) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "p", "answer": "a"}, {"prompt": "q", "answer": "b", column: None}]
    with pytest.raises(RequestError, match=f"row 1.*{column}"):
        read(write_rows("facts.jsonl", rows))
